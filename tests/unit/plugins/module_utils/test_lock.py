# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    BuildCancelledError,
    BuildLockHeldError,
    SettingsError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._lock import (
    acquire_lock,
    holder_is_alive,
    read_holder,
    release_lock,
)


@pytest.fixture
def served() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for ansible-playbook."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def take(path: Path, served: subprocess.Popen[bytes], run_id: str = "run-1", timeout_s: float = 0.0) -> int:
    return acquire_lock(str(path), run_id=run_id, serves_pid=served.pid, timeout_s=timeout_s)


def gone(pid: int) -> None:
    """Wait until a holder has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select

    assert select.select([descriptor], [], [], 10)[0], "the holder lives on"
    os.close(descriptor)


def test_a_second_run_is_told_who_holds_it(tmp_path: Path, served: subprocess.Popen[bytes]) -> None:
    path = tmp_path / ".c12.lock"
    holder = take(path, served, "first")
    assert holder_is_alive(holder)
    with pytest.raises(BuildLockHeldError, match=r"held by run first of \w+ \(process \d+\) since 20"):
        take(path, served, "second")
    assert read_holder(str(path))["run_id"] == "first"
    assert release_lock(holder)
    assert read_holder(str(path)) == {}
    assert release_lock(take(path, served, "third"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_is_free_once_the_served_process_is_gone(
    tmp_path: Path, served: subprocess.Popen[bytes], how: signal.Signals
) -> None:
    path = tmp_path / ".c12.lock"
    holder = take(path, served)
    served.send_signal(how)
    served.wait()
    gone(holder)
    assert not release_lock(holder)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert release_lock(take(path, other))
        other.kill()


def test_the_lock_is_free_once_its_holder_is_killed(tmp_path: Path, served: subprocess.Popen[bytes]) -> None:
    path = tmp_path / ".c12.lock"
    holder = take(path, served)
    os.kill(holder, signal.SIGKILL)
    gone(holder)
    assert not holder_is_alive(holder)
    assert release_lock(take(path, served))


def test_waiting_for_the_lock_ends_with_the_other_run(tmp_path: Path, served: subprocess.Popen[bytes]) -> None:
    path = tmp_path / ".c12.lock"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as first:
        take(path, first, "first")
        first.kill()
        holder = take(path, served, "second", timeout_s=10.0)
    assert read_holder(str(path))["run_id"] == "second"
    assert release_lock(holder)


def test_a_lock_that_cannot_be_made_is_a_setting(served: subprocess.Popen[bytes]) -> None:
    with pytest.raises(SettingsError, match="cannot lock"):
        take(Path("/proc/none/.c12.lock"), served)


def test_another_process_with_a_recycled_id_is_never_signalled(served: subprocess.Popen[bytes]) -> None:
    assert not release_lock(served.pid)
    assert served.poll() is None


def test_a_process_that_is_gone_before_it_has_the_lock_was_cancelled(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(BuildCancelledError, match=f"process {process.pid}.*is gone"):
        take(tmp_path / "lock", process)
