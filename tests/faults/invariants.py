# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold after every fault, looked up on the disk by a checker that shares no line with the product.

Each function gives what is violated, one sentence each, which begins with the invariant's number; none means all holds.

    I1  GO only where grant and bytes agree          I7   sizes and times are bounded
    I2  the old cache or the new one, whole          I8   no secret anywhere
    I3  what was acknowledged stays                  I9   no process, lock or temporary file is left
    I4  no false success                             I10  evidence of every outcome, in an unbroken chain
    I5  what was fetched is not lost                 I11  no traceback
    I6  one writer at a time                         I12  nothing outside its place

I8 is swept by `tests/integration/test_secrets.py`, I9's processes by `pipeline_kills.py`: both need a live system.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

__all__ = ["companion_faults", "run_faults", "store_faults"]

GENERATION = re.compile(r"(\d{8})-([0-9a-f]{12})")
MANIFEST_LINE = re.compile(r"([0-9a-f]{64}) (\d+) (\S+)")
UNLISTED = {"MANIFEST", "grant.json", "grant.json.sig", "report.json"}
TOP = {
    "generations", "current", "previous", "incoming", "work", "jobs", "descriptors", "bin", "trust", "lock",
    "lock.json", "counter", "audit.ndjson", ".trash",
}  # fmt: skip
MAX_RUN_BYTES = 1 << 30
MAX_JOURNAL_BYTES = 16 << 20


def companion_faults(root: Path, *, acknowledged: str | None = None, at_rest: bool = False) -> list[str]:
    """Look at a companion's cache root.

    Args:
        root: its folder, on this machine.
        acknowledged: the generation whose activation was acknowledged last, where one was.
        at_rest: whether the last run came to its end, so that nothing half done may lie about.
    """
    found = list(_generation_faults(root))
    found += _order_faults(root, acknowledged)
    found += _place_faults(root)
    if at_rest:
        found += _leftovers(root)
    return found


def _generation_faults(root: Path) -> Iterator[str]:
    for link in ("current", "previous"):
        path = root / link
        if not os.path.lexists(path):
            continue
        if not path.is_symlink():
            yield f"I2: {link} is no link"
            continue
        folder, _slash, name = os.readlink(path).rpartition("/")
        if folder != "generations" or not GENERATION.fullmatch(name):
            yield f"I2: {link} points to {os.readlink(path)}"
            continue
        if link == "current" or (root / "generations" / name).exists():
            for fault in _content_faults(root / "generations" / name, name):
                yield f"I2: {link} is not whole: {fault}"
    if os.path.lexists(root / "previous") and not os.path.lexists(root / "current"):
        yield "I2: there is a previous cache and no current one"


def _content_faults(folder: Path, name: str) -> Iterator[str]:
    try:
        text = (folder / "MANIFEST").read_bytes()
        grant = json.loads((folder / "grant.json").read_bytes())
    except (OSError, ValueError) as exc:
        yield f"{exc}"
        return
    listed: dict[str, tuple[str, int]] = {}
    for line in text.decode("ascii", "replace").splitlines():
        match = MANIFEST_LINE.fullmatch(line)
        if match is None:
            yield f"the manifest says {line[:80]!r}"
            return
        listed[match[3]] = (match[1], int(match[2]))
    there = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        relative = str(path.relative_to(folder))
        if stat.S_ISREG(status.st_mode):
            there[relative] = path.read_bytes()
            if status.st_mode & 0o222:
                yield f"{relative} may be written"
        elif not stat.S_ISDIR(status.st_mode):
            yield f"{relative} is no plain file"
    for relative in sorted((there.keys() - UNLISTED) ^ listed.keys()):
        yield f"{relative} is {'missing' if relative in listed else 'too much'}"
    for relative, (digest, size) in listed.items():
        body = there.get(relative, b"")
        if relative in there and (len(body), hashlib.sha256(body).hexdigest()) != (size, digest):
            yield f"{relative} has other bytes"
    content_id = hashlib.sha256(text).hexdigest()
    if grant.get("content_id") != content_id or name != f"{grant.get('counter'):08d}-{content_id[:12]}":
        yield f"the grant is for {grant.get('counter')} {grant.get('content_id')}"


def _order_faults(root: Path, acknowledged: str | None) -> Iterator[str]:
    current = os.readlink(root / "current").rpartition("/")[2] if (root / "current").is_symlink() else None
    names: list[str] = []
    previous = "0" * 64
    with suppress(FileNotFoundError):
        for number, line in enumerate((root / "audit.ndjson").read_bytes().split(b"\n")[:-1], 1):
            with suppress(ValueError):  # a torn line counts by its bytes alone
                entry = json.loads(line)
                if entry["previous_sha256"] != previous:
                    yield f"I10: line {number} of the audit does not follow the one before"
                if entry.get("generation") and entry["generation"] not in names[-1:]:
                    names.append(entry["generation"])
            previous = hashlib.sha256(line).hexdigest()
    if names != sorted(names):
        yield f"I6: activations are out of order: {names[-4:]}"
    floor = 0
    with suppress(OSError, ValueError):
        floor = int(json.loads((root / "counter").read_bytes())["floor"])
    if current is not None and GENERATION.fullmatch(current) and floor > int(current[:8]):
        yield f"I1: {current} is current, and counter {floor} was used already"
    if acknowledged is not None:
        if current is None or current < acknowledged:
            yield f"I3: {acknowledged} was acknowledged, and {current} is current"
        elif acknowledged not in names:
            yield f"I3: the audit does not name {acknowledged}, which was acknowledged"
        elif floor < int(acknowledged[:8]):
            yield f"I3: the counter is at {floor}, and {acknowledged} was acknowledged"


def _place_faults(root: Path) -> Iterator[str]:
    for name in sorted(os.listdir(root)):
        if name not in TOP and not name.startswith(".tmp-"):
            yield f"I12: {name} does not belong into a cache root"
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = Path(folder, name)
            status = path.lstat()
            if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o002:
                yield f"I12: everybody may write {path.relative_to(root)}"
            if stat.S_ISLNK(status.st_mode) and path.parent != root:
                yield f"I12: {path.relative_to(root)} leads to {os.readlink(path)}"


def _leftovers(root: Path) -> Iterator[str]:
    for name in ("work", "jobs", "incoming", ".trash"):
        for path in sorted((root / name).glob("*")):
            yield f"I9: {path.relative_to(root)} is left"
    for path in sorted(root.glob(".tmp-*")):
        yield f"I9: {path.name} is left"
    kept = {
        os.readlink(root / link).rpartition("/")[2] for link in ("current", "previous") if (root / link).is_symlink()
    }
    for path in sorted((root / "generations").glob("*")):
        if path.name not in kept:
            yield f"I9: {path.relative_to(root)} is nobody's"


def run_faults(staging: Path, status: int, report: Mapping[str, Any] | None, said: str) -> list[str]:
    """Look at what a run leaves on the workstation.

    Args:
        staging: the staging root.
        status: the exit status of the driver.
        report: what it reported, None where it was killed.
        said: everything that it wrote for people.
    """
    found = []
    if status >= 0:
        if report is None:
            found.append(f"I10: exit status {status} and no report")
        elif (status == 0) != (report["outcome"] != "failure") or int(report["exit_code"]) != status:
            found.append(f"I4: exit status {status}, and the report says {report['outcome']} {report['exit_code']}")
    if report is not None and status == 0:
        ids = {(row.get("cache") or {}).get("content_id") for row in report["companions"]}
        if None in ids and report["companions"]:
            found.append("I4: a success that names no content")
        if any(row["outcome"] == "failure" for row in report["companions"]):
            found.append("I4: a success with a companion that failed")
    for folder in sorted((staging / "runs").glob("*")):
        size = sum(path.lstat().st_size for path in folder.rglob("*"))
        journal = folder / "journal.ndjson"  # a run that was killed at its first step has none yet
        if size > MAX_RUN_BYTES or (journal.exists() and journal.stat().st_size > MAX_JOURNAL_BYTES):
            found.append(f"I7: {folder.name} takes {size} bytes")
        if folder.lstat().st_mode & 0o077:
            found.append(f"I12: {folder.name} may be entered by others")
    texts = [("the driver", said)]
    texts += [
        (str(path.relative_to(staging)), path.read_text(errors="replace"))
        for pattern in ("runs/*/*.ndjson", "runs/*/*.log", "reports/*")
        for path in staging.glob(pattern)
    ]
    found += [f"I11: a traceback in {name}" for name, text in texts if "Traceback (most recent call last)" in text]
    found += [f"I9: {path.relative_to(staging)} is left" for path in sorted(staging.rglob(".tmp-*"))]
    return found


def store_faults(store: Path) -> list[str]:
    """Look at a tile store: every body that the index names lies in its pack, with the bytes of its hash."""
    found = []
    with closing(sqlite3.connect(store / "index.sqlite")) as index:
        (word,) = index.execute("PRAGMA integrity_check").fetchone()
        if word != "ok":
            found.append(f"I5: the index is damaged: {word}")
        numbers = set()
        for number, digest, pack, offset, length in index.execute("SELECT id, sha256, pack, offset, length FROM blob"):
            numbers.add(number)
            with suppress(FileNotFoundError), (store / "packs" / f"{pack:06d}.pack").open("rb") as stream:
                stream.seek(offset)
                if hashlib.sha256(stream.read(length)).digest() == digest:
                    continue
            found.append(f"I5: body {number} is not in pack {pack} at {offset}")
        for z, x, y, blob in index.execute("SELECT z, x, y, blob FROM tile WHERE state = 0"):
            if blob not in numbers:
                found.append(f"I5: tile {z}/{x}/{y} is said to be there and has no body")
    return found
