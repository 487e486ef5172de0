# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolment against a real sshd: a key is pinned only against the fingerprint that the operator has."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from companions import Companion

from operator_tool._cli import cli


@pytest.fixture
def known_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "trust" / "known_hosts"


def enrol(companion: Companion, known_hosts: Path, *arguments: str) -> Result:
    address = ("--companion-host", companion.address, "--vehicle-id", companion.name)
    return CliRunner().invoke(cli, ("enrol", *address, "--known-hosts-file", str(known_hosts), *arguments))


def fingerprint_on_console(companion: Companion) -> str:
    return companion.exec_root("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[1]


def test_enrolment(companion: Companion, known_hosts: Path) -> None:
    right = fingerprint_on_console(companion)
    blind = enrol(companion, known_hosts)
    assert blind.exit_code == 31
    assert right in blind.output
    wrong = enrol(companion, known_hosts, "--fingerprint", "SHA256:" + "A" * 43)
    assert wrong.exit_code == 31
    assert right in wrong.output
    assert not known_hosts.exists()

    assert enrol(companion, known_hosts, "--fingerprint", right).exit_code == 0
    assert known_hosts.read_text().startswith(f"{companion.name} ssh-ed25519 ")
    assert known_hosts.stat().st_mode & 0o077 == 0
    again = enrol(companion, known_hosts, "--fingerprint", right)
    assert (again.exit_code, "was pinned already" in again.output) == (0, True)
    companion.known_hosts_path = known_hosts
    assert companion.run("hostname").returncode == 0

    companion.replace_host_key()
    other = fingerprint_on_console(companion)
    changed = enrol(companion, known_hosts, "--fingerprint", other)
    assert changed.exit_code == 31
    assert right in changed.output
    assert other in changed.output
    assert enrol(companion, known_hosts, "--fingerprint", other, "--replace").exit_code == 0
    assert len(known_hosts.read_text().splitlines()) == 1


def test_a_companion_that_does_not_answer(companion: Companion, known_hosts: Path) -> None:
    companion.stop()
    result = enrol(companion, known_hosts, "--fingerprint", "SHA256:x")
    assert result.exit_code == 30
    assert not known_hosts.exists()
