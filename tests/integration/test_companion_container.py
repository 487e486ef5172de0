# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""The containers behave as the companions that they stand for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from companions import Companion


def test_the_account_builds_without_root_and_owns_the_cache_root(companion: Companion) -> None:
    said = companion.run("id -un; stat -c '%U %a' /var/lib/gps-denied; sudo -n true 2>/dev/null || echo no root").stdout
    assert said.splitlines() == ["gps-denied", "gps-denied 755", "no root"]


def test_the_builder_is_on_the_path_and_owned_by_root(companion: Companion) -> None:
    assert "usage" in companion.run("c10-builder --help").stdout.lower()
    assert companion.run("touch /opt/gps-denied/builder/x", check=False).returncode != 0


def test_there_is_no_way_to_the_internet(companion: Companion) -> None:
    assert companion.run("ip route show default").stdout == ""


def test_another_host_key_is_refused(companion: Companion) -> None:
    assert companion.run("true").returncode == 0
    companion.replace_host_key()
    refused = companion.run("true", check=False)
    assert refused.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.stderr


def test_a_cut_link_comes_back_at_the_same_address(companion: Companion) -> None:
    companion.disconnect()
    with pytest.raises(OSError, match=r"unreachable|timed out|No route"):
        _connect(companion.address)
    companion.reconnect()
    assert companion.run("true").returncode == 0


def test_a_frozen_companion_accepts_and_says_nothing(companion: Companion) -> None:
    companion.pause()
    with pytest.raises(subprocess.TimeoutExpired):
        companion.run("true", timeout_s=1.0)
    companion.unpause()
    assert companion.run("true").returncode == 0


def test_a_full_disk_and_an_emptied_cache(companion: Companion) -> None:
    companion.run("echo x > /var/lib/gps-denied/file")
    companion.reset_cache()
    assert companion.run("ls -A /var/lib/gps-denied").stdout == ""
    companion.fill_disk(size="256k")
    full = companion.run("head -c 1000000 /dev/zero > /var/lib/gps-denied/file", check=False)
    assert "No space left on device" in full.stderr


def test_several_companions_each_have_their_own_key(make_companion: Callable[..., Companion]) -> None:
    first, second = make_companion("vehicle-01"), make_companion("vehicle-02")
    assert first.known_hosts_path == second.known_hosts_path
    names = [line.split()[0] for line in first.known_hosts_path.read_text().splitlines()]
    assert names == ["vehicle-01", "vehicle-02"]
    assert first.run("hostname").stdout != second.run("hostname").stdout


def test_a_companion_boots_again_with_its_key_and_cache(companion: Companion) -> None:
    companion.run("echo x > /var/lib/gps-denied/file")
    companion.stop()
    companion.start()
    assert companion.run("cat /var/lib/gps-denied/file").stdout == "x\n"


def test_starting_one_takes_seconds(make_companion: Callable[..., Companion], tmp_path: Path) -> None:
    began = time.monotonic()
    make_companion()
    assert time.monotonic() - began < 15.0


def _connect(address: str) -> None:
    import socket

    socket.create_connection((address, 22), timeout=1.0).close()
