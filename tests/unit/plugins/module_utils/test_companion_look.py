# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a companion, from what it says of itself."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._companion_look import (
    MARK,
    CompanionFinding,
    CompanionLook,
    look_at_companion,
    program_findings,
    room_findings,
    system_findings,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CompanionNotReadyError
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job import CommandResult
from hypothesis import example, given
from hypothesis import strategies as st

PLACE = {
    "path": "/c/incoming",
    "at": "/c",
    "device": 1,
    "read_only": False,
    "writable": True,
    "free_bytes": 10**12,
    "free_inodes": 10**6,
}
WELL: dict[str, Any] = {
    "python_version": "3.8.10",
    "machine": "aarch64",
    "programs": {
        "c10-builder": {"path": "/usr/local/bin/c10-builder", "rc": 0, "said": "c10-builder 0.1.0\n"},
        "rsync": {"path": "/usr/bin/rsync", "rc": 0, "said": "rsync  version v3.1.3  protocol version 31\n"},
    },
    "places": [PLACE],
    "temporary": [{**PLACE, "path": "/tmp"}],
}


def findings_of(facts: dict[str, Any]) -> list[CompanionFinding]:
    seen = CompanionLook("vehicle-01", facts)
    found = list(system_findings(seen))
    found += program_findings(seen, builder="c10-builder", rsync=True)
    return found + list(room_findings(seen, archive_bytes=10**6))


def wrong(facts: dict[str, Any]) -> list[tuple[str, str]]:
    found = findings_of(facts)
    assert all(one.hint for one in found if one.level == "fail")
    return [(one.check, one.text) for one in found if one.level == "fail"]


def with_program(name: str, **fields: Any) -> dict[str, Any]:
    return {**WELL, "programs": {**WELL["programs"], name: {**WELL["programs"][name], **fields}}}


def local(command: str, data: bytes | None) -> CommandResult:
    done = subprocess.run(["sh", "-c", command], input=data, capture_output=True, check=False)
    return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_companion_that_is_well() -> None:
    assert wrong(WELL) == []
    assert [one.check for one in findings_of(WELL)] == [
        "python",
        "machine",
        "temporary folder",
        "builder",
        "rsync",
        "disk",
    ]


@pytest.mark.parametrize(
    ("facts", "check", "text"),
    [
        ({**WELL, "python_version": "3.7.17"}, "python", "has Python 3.7.17, and 3.8 or later is needed"),
        ({**WELL, "machine": "armv7l"}, "machine", "of the type armv7l, and x86_64 or aarch64 is needed"),
        (with_program("rsync", path=None), "rsync", "has no rsync on its PATH"),
        (
            with_program("rsync", said="rsync  version 3.0.9  protocol version 30"),
            "rsync",
            "has rsync 3.0.9, and 3.1.0 or later is needed",
        ),
        (with_program("rsync", said="openrsync: protocol version 29"), "rsync", "is no rsync's version: openrsync"),
        (with_program("c10-builder", path=None), "builder", "has no c10-builder on its PATH"),
        (with_program("c10-builder", rc=126, said="Exec format error"), "builder", "cannot be run on vehicle-01: Exec"),
        (with_program("c10-builder", rc=124), "builder", "did not tell its version in time"),
        ({**WELL, "places": [{**PLACE, "read_only": True}]}, "disk", "mounted read-only"),
        ({**WELL, "places": [{**PLACE, "writable": False}]}, "disk", "missing or not writable for this user (/c)"),
        ({**WELL, "places": [{**PLACE, "free_bytes": 70_000_000}]}, "disk", "has 70 MB free; 70 MB are needed"),
        ({**WELL, "places": [{**PLACE, "free_inodes": 9}]}, "disk", "has 9 inodes free, and 1000 are needed"),
        ({**WELL, "temporary": []}, "temporary folder", "has no folder for temporary files"),
        ({**WELL, "temporary": [{**PLACE, "free_bytes": 4096}]}, "temporary folder", "has 0 MB free; 16 MB are needed"),
    ],
)
def test_what_is_wrong_has_its_own_reason(facts: dict[str, Any], check: str, text: str) -> None:
    ((found, said),) = wrong(facts)
    assert found == check
    assert text in said


def test_a_disk_is_told_once_and_each_disk_is() -> None:
    full = {**PLACE, "free_bytes": 0}
    facts = {**WELL, "places": [full, {**full, "path": "/c/work"}, {**full, "path": "/c/jobs", "device": 2}]}
    assert [text.split(" on ", 1)[0] for _check, text in wrong(facts)] == ["/c/incoming", "/c/jobs"]


def test_python_takes_the_next_temporary_folder_where_the_first_takes_nothing() -> None:
    first = {**PLACE, "path": "/tmp"}
    for unusable in ({"read_only": True}, {"free_bytes": 0}, {"free_inodes": 0}, {"writable": False}):
        assert wrong({**WELL, "temporary": [{**first, **unusable}, PLACE]}) == []


def test_the_look_itself(tmp_path: Path) -> None:
    """The program as it travels, on this machine; what it looks at stays as it is."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty").chmod(0o700)
    root = str(tmp_path / "empty" / "not-there")
    (tmp_path / "flood").write_text("#!/bin/sh\nexec yes\n")
    (tmp_path / "flood").chmod(0o755)
    (tmp_path / "alien").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(100))
    (tmp_path / "alien").chmod(0o755)
    programs = [str(tmp_path / name) for name in ("flood", "alien", "none")]
    seen = look_at_companion(local, name="this", python="python3", root=root, programs=programs)
    assert seen.machine == platform.machine()
    flood, alien, none = (seen.program(name) for name in programs)
    assert len(flood["said"]) == 4096
    assert alien["rc"] == 126
    assert none["path"] is None
    assert [one["at"] for one in seen.places("places")] == [str(tmp_path / "empty")] * 4
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("said", ["", MARK + "{", MARK + "[" * 100_000, "motd\nwelcome"])
def test_a_look_that_is_not_answered(said: str) -> None:
    def ended(code: int) -> None:
        answer = CommandResult(code, said, "")
        look_at_companion(lambda _command, _data: answer, name="far", python="/opt/python", root="/c")

    with pytest.raises(CompanionNotReadyError, match=r"no Python 3\.8 or later answers as /opt/python on far"):
        ended(127)
    with pytest.raises(CompanionNotReadyError, match="did not say within 60 s"):
        ended(124)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WELL, *PLACE, "rsync"]), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(sorted(WELL)), ANYTHING))
@example({"places": [{"at": []}]})
def test_a_companion_may_say_anything_of_itself(facts: dict[str, Any]) -> None:
    """Findings fit for a terminal, never a crash."""
    said = json.loads(json.dumps({**WELL, **facts}))
    for finding in findings_of(said):
        assert finding.text.isprintable()
