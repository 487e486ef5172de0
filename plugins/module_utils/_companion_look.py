# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is a companion fit for a run? One look at it, and what is wrong with what was seen, as findings.

The look itself is `_companion_look_program`; what it says is data of the companion's, and is read as such.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from . import _companion_look_program
from ._errors import CompanionNotReadyError
from ._remote_job import Transport

__all__ = [
    "MIN_PYTHON",
    "MIN_RSYNC",
    "CompanionFinding",
    "CompanionLook",
    "look_at_companion",
    "program_findings",
    "room_findings",
    "system_findings",
]

MIN_PYTHON = (3, 8)
MIN_RSYNC = (3, 1, 0)
"""The first that keeps up with `--info` and keeps a file that it mends in place."""
MACHINES = ("x86_64", "aarch64")
FOLDERS = ("generations", "incoming", "work", "jobs")
DISK_FACTOR = 3.0
DISK_RESERVE_BYTES = 64 * 1024 * 1024
MIN_INODES = 1000
TEMPORARY_BYTES = 16 * 1024 * 1024
TEMPORARY_INODES = 100
MARK = "gps-denied-look "
ANSWER_S = 60
CANNOT_RUN = (126, 127)
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", re.ASCII)
_RSYNC = re.compile(r"^rsync +version +v?(\d{1,4}\.\d{1,4}(?:\.\d{1,4})?)", re.ASCII)
_BUILDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,99}", re.ASCII)
# Any Python since 2.6 can read this.
_BOOTSTRAP = f"""import sys
sys.path = [each for each in sys.path if each]
if sys.version_info < {MIN_PYTHON}:
    sys.stdout.write('\\n{MARK}{{"python_version": "%d.%d.%d"}}\\n' % tuple(sys.version_info[:3]))
else:
    import json
    request = json.loads(sys.stdin.readline())
    program = {{"__name__": "look"}}
    exec(compile(sys.stdin.read(), "look", "exec"), program)
    program["main"](request)
"""


@dataclass(frozen=True)
class CompanionFinding:
    """One thing that was looked at: `level` is ok or fail, `hint` says how to mend it."""

    check: str
    level: str
    text: str
    hint: str = ""

    def to_dict(self) -> Dict[str, str]:
        return {"check": self.check, "level": self.level, "text": self.text, "hint": self.hint}


@dataclass(frozen=True)
class CompanionLook:
    """What a companion says of itself; `facts` are its own words, and may be of any shape."""

    name: str
    facts: Mapping[str, Any]

    @property
    def python_version(self) -> str:
        return _plain(self.facts.get("python_version") or "")

    @property
    def machine(self) -> str:
        return _plain(self.facts.get("machine") or "")

    def program(self, name: str) -> Mapping[str, Any]:
        return _mapping(_mapping(self.facts.get("programs")).get(name))

    def places(self, kind: str) -> List[Mapping[str, Any]]:
        found = self.facts.get(kind)
        return [_mapping(each) for each in found[:20]] if isinstance(found, list) else []

    def builder_version(self, program: str) -> Optional[str]:
        """The first line that the builder says of its version, where that is one."""
        said = str(self.program(program).get("said") or "").split("\n", 1)[0].strip()
        return said if _BUILDER.fullmatch(said) else None


def _plain(text: Any) -> str:
    """What the companion says, fit for a terminal."""
    return "".join(letter if letter.isascii() and letter.isprintable() else " " for letter in str(text)[:200]).strip()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(place: Mapping[str, Any], name: str) -> int:
    value = place.get(name)
    return value if isinstance(value, int) else 0


def look_at_companion(
    run: Transport, *, name: str, python: str, root: str, programs: Sequence[str] = ()
) -> CompanionLook:
    """Look once: one command, that writes nothing over there.

    Args:
        run: runs one shell command on the companion.
        root: the cache root, which need not be there.
        programs: the programs whose versions are asked.

    Raises:
        CompanionNotReadyError: no Python answered there.
        CompanionUnreachableError: raised by the transport.
    """
    request = {"root": root, "folders": FOLDERS, "programs": list(programs), "mark": MARK}
    source = Path(str(_companion_look_program.__file__)).with_suffix(".py").read_text(encoding="utf-8")
    words = ["timeout", "-k", "5", str(ANSWER_S), python, "-E", "-s", "-S", "-c", _BOOTSTRAP]
    answer = run(shlex.join(words), f"{json.dumps(request)}\n{source}".encode())
    for line in reversed(answer.stdout.splitlines()):
        if line.startswith(MARK):
            try:
                facts = json.loads(line[len(MARK) :])
            except (ValueError, RecursionError):
                break
            return CompanionLook(name, _mapping(facts))
    if answer.rc == 124:
        raise CompanionNotReadyError(
            f"{name} did not say within {ANSWER_S} s what it is: its storage is stuck or very slow",
            remediation="Look at the companion's disk and load (dmesg, top), then run again.",
        )
    said = _plain((answer.stderr or answer.stdout).strip()[-200:]) or "nothing"
    needed = ".".join(map(str, MIN_PYTHON))
    raise CompanionNotReadyError(
        f"no Python {needed} or later answers as {python} on {name}; it ended with {answer.rc} and said: {said}",
        remediation=f"Install Python {needed} or later on the companion, or name it with ansible_python_interpreter.",
    )


def _parts(text: str) -> Optional[Tuple[int, ...]]:
    found = _VERSION.match(text)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def system_findings(seen: CompanionLook) -> Iterator[CompanionFinding]:
    """What must be right before anything else can be asked: Python, machine, room for temporary files."""
    parts, needed = _parts(seen.python_version), ".".join(map(str, MIN_PYTHON))
    if parts is None or parts < MIN_PYTHON:
        text = f"{seen.name} has Python {seen.python_version or 'of no version'}, and {needed} or later is needed"
        hint = f"Install Python {needed} or later there, and name it with ansible_python_interpreter."
        yield CompanionFinding("python", "fail", text, hint)
        return
    yield CompanionFinding("python", "ok", f"Python {seen.python_version}")
    if seen.machine in MACHINES:
        yield CompanionFinding("machine", "ok", seen.machine)
    else:
        text = (
            f"{seen.name} is a machine of the type {seen.machine or 'none'}, and {' or '.join(MACHINES)} is needed"
        )
        hint = "Use a companion of one of these types: the builder has no parts for others."
        yield CompanionFinding("machine", "fail", text, hint)
    yield _temporary_finding(seen)


def _temporary_finding(seen: CompanionLook) -> CompanionFinding:
    """Python takes the first folder in which it can make a file at all, however little room is left."""
    tried = seen.places("temporary")
    usable = [one for one in tried if one.get("writable") and not one.get("read_only")]
    usable = [one for one in usable if _number(one, "free_bytes") > 0 and _number(one, "free_inodes") != 0]
    if not usable:
        names = ", ".join(_plain(one.get("path")) for one in tried) or "/tmp"  # noqa: S108 - a name to show
        text = f"{seen.name} has no folder for temporary files that takes one ({names})"
        hint = "Free space there, or mount it for writing; TMPDIR may name another folder."
        return CompanionFinding("temporary folder", "fail", text, hint)
    return _room_finding(
        seen.name, usable[0], "temporary folder", needed_bytes=TEMPORARY_BYTES, needed_inodes=TEMPORARY_INODES
    )


def program_findings(seen: CompanionLook, *, builder: str, rsync: bool) -> Iterator[CompanionFinding]:
    """The programs that a build needs.

    Args:
        builder: the builder's program.
        rsync: whether tiles are shipped with rsync.
    """
    found = seen.program(builder)
    hint = "Provision the companion: operator-tool provision, or the provision_companion playbook."
    if not found.get("path"):
        yield CompanionFinding("builder", "fail", f"{seen.name} has no {builder} on its PATH", hint)
    elif found.get("rc") in CANNOT_RUN:
        said = _plain(found.get("said") or "") or "it is for another machine type, or its Python is gone"
        yield CompanionFinding("builder", "fail", f"{_plain(found['path'])} cannot be run on {seen.name}: {said}", hint)
    elif found.get("rc") == 124:
        text = f"{_plain(found['path'])} on {seen.name} did not tell its version in time"
        yield CompanionFinding("builder", "fail", text, "Look at the companion's load and at its builder.")
    else:
        yield CompanionFinding("builder", "ok", seen.builder_version(builder) or "it is there")
    if rsync:
        yield _rsync_finding(seen)


def _rsync_finding(seen: CompanionLook) -> CompanionFinding:
    needed = ".".join(map(str, MIN_RSYNC))
    hint = f"Install rsync {needed} or later on the companion (apt-get install rsync)."
    found = seen.program("rsync")
    if not found.get("path"):
        return CompanionFinding("rsync", "fail", f"{seen.name} has no rsync on its PATH", hint)
    first = str(found.get("said") or "").split("\n", 1)[0]
    told = _RSYNC.match(first)
    if told is None:
        text = f"what {_plain(found['path'])} on {seen.name} says is no rsync's version: {_plain(first) or 'nothing'}"
        return CompanionFinding("rsync", "fail", text, hint)
    parts = _parts(told.group(1))
    if parts is None or parts < MIN_RSYNC:
        text = f"{seen.name} has rsync {told.group(1)}, and {needed} or later is needed"
        return CompanionFinding("rsync", "fail", text, hint)
    return CompanionFinding("rsync", "ok", f"rsync {told.group(1)}")


def room_findings(seen: CompanionLook, *, archive_bytes: int) -> Iterator[CompanionFinding]:
    """Every place below the cache root that a build writes to; those on one file system are told once."""
    needed = int(archive_bytes * DISK_FACTOR) + DISK_RESERVE_BYTES
    told = set()
    for place in seen.places("places"):
        finding = _room_finding(seen.name, place, "disk", needed_bytes=needed, needed_inodes=MIN_INODES)
        key = (_number(place, "device"), finding.level, "" if place.get("writable") else _plain(place.get("at")))
        if key not in told:
            told.add(key)
            yield finding


def _room_finding(
    name: str, place: Mapping[str, Any], check: str, *, needed_bytes: int, needed_inodes: int
) -> CompanionFinding:
    path, at = _plain(place.get("path")), _plain(place.get("at"))
    free_bytes, free_inodes = _number(place, "free_bytes"), _number(place, "free_inodes")
    if place.get("read_only"):
        text = f"{path} on {name} lies on a file system that is mounted read-only"
        hint = "Look at the companion's disk (dmesg): it goes read-only when it fails; then mount -o remount,rw."
        return CompanionFinding(check, "fail", text, hint)
    if not place.get("writable"):
        # Where it is missing, the folder above is the one that counts.
        text = f"{path} on {name} is missing or not writable for this user ({at})"
        return CompanionFinding(check, "fail", text, "Provision the companion, or log in as the owner of its cache.")
    if free_bytes < needed_bytes:
        text = f"{path} on {name} has {free_bytes // 10**6} MB free; {needed_bytes // 10**6} MB are needed"
        return CompanionFinding(check, "fail", text, "Free disk space on the companion, then run again.")
    if 0 <= free_inodes < needed_inodes:
        text = f"{path} on {name} has {free_inodes} inodes free, and {needed_inodes} are needed"
        return CompanionFinding(check, "fail", text, "Remove small files on the companion, then run again.")
    return CompanionFinding(check, "ok", f"{path} has {free_bytes / 1e9:.1f} GB free")
