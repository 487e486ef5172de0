# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Companions that are reached and are not fit: each is refused for its own reason, before anything is sent."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import companions as containers
import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._companion_look import (
    CompanionLook,
    look_at_companion,
    program_findings,
    room_findings,
    system_findings,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CompanionNotReadyError
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job import CommandResult
from companions import Companion

from operator_tool import BuildCacheRequest, CacheBuildOutcome, CacheBuildReport, FlightFromFile, build_cache

EXAMPLES = Path(__file__).parents[2] / "examples"
BUILDER = "c10-builder"


def put(companion: Companion, path: str, script: str) -> str:
    """A program on the companion, found before those of its system."""
    companion.exec_root(f"cat > {path} <<'END'\n{script}\nEND\nchmod 755 {path}")
    return path


def mount(companion: Companion, where: str, *options: str) -> None:
    containers._inside(companion.container, "mount", "-t", "tmpfs", *options, "tmpfs", where, namespace="mount")


def unmount(companion: Companion, where: str) -> None:
    containers._inside(companion.container, "umount", where, namespace="mount")


def look(companion: Companion, *, python: str = "python3", builder: str = BUILDER) -> CompanionLook:
    def run(command: str, data: bytes | None) -> CommandResult:
        words = ["ssh", *companion.ssh_options, f"{companion.user}@{companion.address}", command]
        done = subprocess.run(words, input=data or b"", capture_output=True, check=False, timeout=60)
        return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())

    programs = [builder, "rsync"]
    return look_at_companion(run, name=companion.name, python=python, root=companion.cache_root, programs=programs)


def wrong(companion: Companion, *, builder: str = BUILDER, **kwargs: Any) -> list[str]:
    seen = look(companion, builder=builder, **kwargs)
    found = list(system_findings(seen))
    if len(found) > 1:
        found += [*program_findings(seen, builder=builder, rsync=True), *room_findings(seen, archive_bytes=10**6)]
    return [f"{one.check}: {one.text}" for one in found if one.level == "fail"]


def test_versions_machine_and_builder(companion: Companion) -> None:
    assert wrong(companion) == []  # control

    put(companion, "/usr/local/bin/rsync", "#!/bin/sh\necho 'rsync  version 3.0.9  protocol version 30'")
    assert wrong(companion) == ["rsync: vehicle-01 has rsync 3.0.9, and 3.1.0 or later is needed"]
    companion.exec_root("rm /usr/local/bin/rsync")

    old = (
        "#!/usr/bin/python3\nimport sys\nprogram = sys.argv[sys.argv.index('-c') + 1]\n"
        "sys.version_info = (3, 6, 9, 'final', 0)\nexec(program)"
    )
    python = put(companion, "/usr/local/bin/python3.6", old)
    assert wrong(companion, python=python) == ["python: vehicle-01 has Python 3.6.9, and 3.8 or later is needed"]
    with pytest.raises(CompanionNotReadyError, match="answers as /opt/none on vehicle-01"):
        look(companion, python="/opt/none")

    python = put(companion, "/usr/local/bin/python-32", '#!/bin/sh\nexec setarch i686 /usr/bin/python3 "$@"')
    assert wrong(companion, python=python) == [
        "machine: vehicle-01 is a machine of the type i686, and x86_64 or aarch64 is needed"
    ]

    for builder in (
        put(companion, "/usr/local/bin/orphan", "#!/opt/gone/bin/python\n"),
        put(companion, "/usr/local/bin/wrapped-orphan", "#!/bin/sh\nexec /opt/gone/bin/c10-builder"),
    ):
        (said,) = wrong(companion, builder=builder)
        assert said.startswith(f"builder: {builder} cannot be run on vehicle-01")


def test_every_place_that_is_written_to(companion: Companion) -> None:
    root = companion.cache_root
    companion.run(f"mkdir -p {root}/incoming {root}/work")

    mount(companion, f"{root}/incoming", "-o", "size=1g,nr_inodes=100,mode=0777")
    (said,) = wrong(companion)
    assert f"disk: {root}/incoming on vehicle-01 has 99 inodes free, and 1000 are needed" in said
    unmount(companion, f"{root}/incoming")

    mount(companion, f"{root}/work", "-o", "size=1m,mode=0777")
    (said,) = wrong(companion)
    assert f"disk: {root}/work on vehicle-01 has 1 MB free; 70 MB are needed" in said
    unmount(companion, f"{root}/work")

    mount(companion, f"{root}/work", "-o", "ro,size=1g,mode=0777")
    (said,) = wrong(companion)
    assert "read-only" in said
    unmount(companion, f"{root}/work")

    mount(companion, "/tmp", "-o", "size=64k,mode=1777")
    (said,) = wrong(companion)
    assert said.startswith("temporary folder: /tmp on vehicle-01 has 0 MB free; 16 MB are needed")
    unmount(companion, "/tmp")

    companion.exec_root(f"chown root: {root}")
    (said,) = wrong(companion)
    assert f"{root}/generations on vehicle-01 is missing or not writable for this user" in said


@pytest.fixture
def request_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Companion, float], BuildCacheRequest]:
    """What a run on one companion is asked for, with the seconds that it waits for the companion to boot."""
    monkeypatch.chdir(tmp_path)

    def make(companion: Companion, boot_timeout_s: float) -> BuildCacheRequest:
        inventory = tmp_path / "companions.json"
        inventory.write_text(json.dumps({"companions": {"hosts": {companion.name: companion.inventory_vars}}}))
        settings = {
            "cache_staging_root": str(tmp_path / "staging"),
            "tile_source": str(EXAMPLES / "imagery" / "bali.pmtiles"),
            "inventory": str(inventory),
            "companion_known_hosts_file": str(companion.known_hosts_path),
            "flight_bbox_buffer_m": 20,
            "takeoff_radius_m": 20,
            "zooms": "18",
            "camera_agl_m": 60,
            "companion_boot_timeout_s": boot_timeout_s,
        }
        flight = FlightFromFile(str(EXAMPLES / "flights" / "bali-survey.plan"))
        return BuildCacheRequest(flight=flight, settings=settings)

    return make


@pytest.mark.timeout(300)
def test_a_companion_that_boots_slowly_is_waited_for(
    companion: Companion, request_for: Callable[[Companion, float], BuildCacheRequest]
) -> None:
    """Each attempt is told; and after another start it is the same vehicle, at whatever address it has then."""
    companion.exec_root("systemctl stop ssh.service")
    said: list[str] = []

    def boot(record: dict[str, Any]) -> None:
        text = str(record.get("text"))
        if text.startswith("waiting"):
            if not said:
                companion.exec_root("systemctl start ssh.service")
            said.append(text)

    report = build_cache(request_for(companion, 60.0), on_progress=boot)
    assert report.outcome is CacheBuildOutcome.SUCCESS, report.failure_message
    assert "s more: cannot reach vehicle-01" in said[0]

    companion.stop()
    companion.start()
    report = build_cache(request_for(companion, 5.0))
    assert report.outcome is CacheBuildOutcome.IDEMPOTENT_NO_OP, report.failure_message


@pytest.mark.timeout(300)
def test_a_hostile_shell_is_bounded_and_refused(
    companion: Companion, request_for: Callable[[Companion, float], BuildCacheRequest]
) -> None:
    """Whatever a companion prints where commands are run: a typed refusal, and none of it on the terminal."""

    def build() -> CacheBuildReport:
        report = build_cache(request_for(companion, 2.0))
        assert companion.exec_root(f"ls -A {companion.cache_root}").stdout == ""
        return report

    start = f"$(getent passwd {companion.user} | cut -d: -f6)/.bashrc"
    escapes = r"printf '\033]0;owned\007\033[2Jwelcome {{ 7 * 7 }}\n'"
    for start_up, said in ((escapes, "prints 34 bytes by itself"), ("yes", "prints more than 64 KiB by itself")):
        companion.exec_root(f"cat > \"{start}\" <<'END'\n{start_up}\nEND")
        report = build()
        assert (report.exit_code, report.failure_phase) == (30, "companion_bringup"), report.failure_message
        assert said in str(report.failure_message)
        assert report.failure_message.isprintable()
        assert "interactive" in str(report.remediation)

    # Control: what it says on the side spoils nothing, and the next thing that is wrong is what is told.
    put(companion, "/usr/local/bin/rsync", "#!/bin/sh\necho 'rsync  version 2.6.9  protocol version 29'")
    companion.exec_root(f'echo "head -c 5000 /dev/urandom >&2" > "{start}"')
    report = build()
    assert (report.exit_code, report.failure_exception_type) == (30, "CompanionNotReadyError")
    assert report.failure_message == "vehicle-01 has rsync 2.6.9, and 3.1.0 or later is needed"
