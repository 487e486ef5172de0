# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The folders on this workstation: room, rights, the clock against what lies there, and what killed runs have left."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import socket
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError
from ansible_collections.gps_denied.preflight.plugins.module_utils._lock import holder_is_alive, read_holder
from ansible_collections.gps_denied.preflight.plugins.module_utils._run import RUN_ID_PATTERN, Run, open_run

from ._doctor import Finding

__all__ = ["CHECKS"]

FREE_BYTES_MIN, FREE_BYTES_ENOUGH = 200_000_000, 2_000_000_000
FREE_INODES_MIN, FREE_INODES_ENOUGH = 1_000, 20_000
NETWORK_FILE_SYSTEMS = ("9p", "afs", "ceph", "cifs", "fuse.sshfs", "nfs", "nfs4", "smb3", "smbfs")
CLOCK_YEARS = (2026, 2099)
CLOCK_SLACK_S = 120.0
SILENT_RUN_S = 120.0
"""A run that writes nothing for this long and holds no lock has ended: resolving is quicker, all else has the lock."""
PRIVATE_FOLDER = re.compile(r"gps-denied-[a-z0-9_]{8}")
PRIVATE_FOLDER_S = 30.0
"""Who makes such a folder starts its tidier in the same breath."""
RUN_TIME = "%Y%m%dT%H%M%SZ"


def _root(config: PreflightConfig) -> Path:
    return Path(config.cache_staging_root).absolute()


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above that is there."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def staging_root(config: PreflightConfig) -> Iterator[Finding]:
    """Each folder that runs write to can be written, belongs to this user, and is closed to other writers."""
    root = _root(config)
    if os.path.lexists(root) and not root.is_dir():
        yield Finding("folders", "fail", f"the staging root {root} is no folder", "Choose a folder: --staging-root.")
        return
    other = "Choose another folder (--staging-root), or give this one to your account: "
    places = [_nearest(root), *(root / name for name in ("tiles", "runs", "reports") if (root / name).is_dir())]
    faults = []
    for place in places:
        owner = f"sudo chown -R {getpass.getuser()} {shlex.quote(str(place))}"
        status = place.stat()
        try:
            if not os.access(place, os.W_OK | os.X_OK):
                raise PermissionError(13, os.strerror(13))
            with tempfile.TemporaryFile(dir=place) as probe:
                probe.write(bytes(4096))
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as exc:
            faults.append(Finding("folders", "fail", f"cannot write to {place}: {exc.strerror}", other + owner))
            continue
        mine = place != _nearest(root) or place == root
        if mine and status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            mend = f"chmod o-w {shlex.quote(str(place))}"
            faults.append(Finding("folders", "fail", f"everybody may write to {place}", mend))
    yield from faults
    if not faults:
        made = "" if root.is_dir() else ", which the first run makes"
        yield Finding("folders", "ok", f"runs, tiles and reports can be written to {root}{made}")


def room(config: PreflightConfig) -> Iterator[Finding]:
    """Bytes and inodes, where the tiles go and where runs keep their private files."""
    private = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    for place, is_store in ((_nearest(_root(config)), True), (_nearest(private), False)):
        found = os.statvfs(place)
        free, inodes = found.f_bavail * found.f_frsize, found.f_favail if found.f_files else FREE_INODES_ENOUGH
        text = f"{place} has {free / 1e9:.1f} GB" + (f" and {inodes} inodes" if found.f_files else "") + " free"
        least, enough = (FREE_BYTES_MIN, FREE_BYTES_ENOUGH) if is_store else (10_000_000, 20_000_000)
        hint = "operator-tool store --compact --limit-gb 5" if is_store else "Remove old files there."
        if free < least or inodes < (FREE_INODES_MIN if is_store else 100):
            yield Finding("disk", "fail", f"{text}: too little to run with", hint)
        elif free < enough or inodes < (FREE_INODES_ENOUGH if is_store else 1000):
            yield Finding("disk", "warn", f"{text}; a large flight needs more", hint)
        else:
            yield Finding("disk", "ok", text)
    kind = _file_system(_nearest(_root(config)))
    if kind in NETWORK_FILE_SYSTEMS:
        yield Finding(
            "disk",
            "warn",
            f"{_root(config)} is on a network file system ({kind}), where locks and renames are less certain",
            "Choose a folder on a disk of this workstation: --staging-root.",
        )


def _file_system(path: Path) -> str:
    """The type of the file system that holds `path`, by the kernel's list of mounts; empty where it does not tell."""
    best, kind = "", ""
    target = os.path.realpath(path)
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _separator, after = line.partition(" - ")
        mount = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), before.split()[4])
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, after.split()[0]
    return kind


def clock(config: PreflightConfig) -> Iterator[Finding]:
    """Grants are bound to time: the clock has a likely year, and is not behind the newest run."""
    now = time.time()
    shown = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    mend = "sudo timedatectl set-ntp true, or without a network: sudo timedatectl set-time 'YYYY-MM-DD HH:MM'"
    runs = _run_ids(config)
    newest = datetime.strptime(runs[-1][:16], RUN_TIME).replace(tzinfo=UTC).timestamp() if runs else 0.0
    if not CLOCK_YEARS[0] <= datetime.fromtimestamp(now, UTC).year <= CLOCK_YEARS[1]:
        yield Finding("clock", "fail", f"it says {shown}, which cannot be", mend)
    elif newest > now + CLOCK_SLACK_S:
        text = f"it says {shown}, and the run {runs[-1]} is from later: it went back, or was wrong then"
        yield Finding("clock", "warn", text, mend)
    else:
        yield Finding("clock", "ok", shown)


def _run_ids(config: PreflightConfig) -> list[str]:
    try:
        names = os.listdir(_root(config) / "runs")
    except OSError:
        return []
    found = []
    for name in sorted(names):
        if re.fullmatch(RUN_ID_PATTERN, name):
            try:
                datetime.strptime(name[:16], RUN_TIME).replace(tzinfo=UTC)
            except ValueError:
                continue
            found.append(name)
    return found


def store(config: PreflightConfig) -> Iterator[Finding]:
    """The store's index can be read, and the packs that it names are there in their length."""
    tiles = _root(config) / "tiles"
    index = tiles / "index.sqlite"
    if not index.is_file():
        return
    hint = f"mv {shlex.quote(str(tiles))} {shlex.quote(str(tiles))}.damaged"
    try:
        opened = sqlite3.connect(f"file:{quote(str(index))}?mode=ro", uri=True, timeout=5.0)
        try:
            packs = opened.execute("SELECT id, end FROM pack").fetchall()
            opened.execute("SELECT 1 FROM tile LIMIT 1").fetchall()
        finally:
            opened.close()
    except sqlite3.OperationalError as exc:
        yield Finding("store", "warn", f"{index} cannot be looked at now: {exc}", hint if "no such" in str(exc) else "")
        return
    except sqlite3.DatabaseError as exc:
        yield Finding("store", "fail", f"{index} is damaged: {exc}", hint)
        return
    short = []
    for number, end in packs:
        pack = tiles / "packs" / f"{number:06d}.pack"
        if not pack.is_file() or pack.stat().st_size < end:
            short.append(pack.name)
    if short:
        text = f"{len(short)} packs of {tiles} are missing or too short ({', '.join(short[:3])})"
        yield Finding("store", "fail", text, hint)
    else:
        yield Finding("store", "ok", f"{len(packs)} packs in {tiles}")


def lock(config: PreflightConfig) -> Iterator[Finding]:
    """Who holds the workstation's lock; the kernel frees it, but a killed holder leaves its record."""
    path = str(_root(config) / config.lock_filename)
    holder = read_holder(path)
    if not holder:
        yield Finding("lock", "ok", "nobody holds it")
        return
    who = (
        f"run {holder.get('run_id')} of {holder.get('user')} (process {holder.get('pid')}) since {holder.get('since')}"
    )
    record = f"rm {shlex.quote(path + '.holder')}"
    if holder.get("host") != socket.gethostname():
        text = f"held, or left, by {who} on {holder.get('host')}: another machine, or this one under another name"
        yield Finding("lock", "warn", text, f"If that machine runs nothing here: {record}")
    elif isinstance(holder.get("pid"), int) and holder_is_alive(int(holder["pid"])):
        yield Finding("lock", "ok", f"held by {who}: a run is under way")
    else:
        yield Finding("lock", "warn", f"left by {who}, whose process is gone; the lock itself is free", record)


def runs(config: PreflightConfig) -> Iterator[Finding]:
    """Runs that ended without a report, and that no later run on the same companions has cleared."""
    holder = read_holder(str(_root(config) / config.lock_filename))
    alive = isinstance(holder.get("pid"), int) and holder_is_alive(int(holder["pid"]))
    cleared: set[str] = set()
    left = 0
    known = _run_ids(config)
    for run_id in reversed(known):
        try:
            run = open_run(str(_root(config) / "runs" / run_id))
            facts = run.facts()
        except (CacheBuildError, OSError):
            continue
        companions = {str(name) for name in facts.get("companions") or ()}
        if os.path.exists(run.report_path) or os.path.exists(run.path("report.json")):
            cleared |= companions
        elif not (alive and holder.get("run_id") == run_id) and not _is_fresh(run) and not companions <= cleared:
            left += 1
            yield _left_run(run, companions, facts)
    if not left:
        yield Finding("runs", "ok", f"{len(known)} kept, and none of them was left unfinished")


def _is_fresh(run: Run) -> bool:
    """Whether a run without the lock may still be under way: it wrote just now, or waits for the lock."""
    newest = max((entry.stat().st_mtime for entry in os.scandir(run.run_dir)), default=0.0)
    return time.time() - newest < max(SILENT_RUN_S, run.config.lock_timeout_s)


def _left_run(run: Run, companions: set[str], facts: dict[str, object]) -> Finding:
    phase = run.fold().failure_phase
    where = f" in phase {phase.value if hasattr(phase, 'value') else phase}" if phase else ""
    on = ", ".join(sorted(companions)[:4])
    text = f"run {run.run_id} on {on} was killed{where}, and has no report"
    if "archive" in facts:
        return Finding("runs", "warn", text, f"operator-tool build-cache --attach {run.run_id}, or run the job again")
    return Finding("runs", "warn", text, "Run the job again: it goes on from there, and clears what was left.")


def private_folders(config: PreflightConfig) -> Iterator[Finding]:
    """Folders with a run's secrets, which are removed at its end; left only where the tidier was killed as well."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    try:
        mine = [
            path
            for path in base.glob("gps-denied-*")
            if PRIVATE_FOLDER.fullmatch(path.name) and path.is_dir() and path.stat().st_uid == os.getuid()
        ]
    except OSError:
        return
    served = _command_lines() if mine else ""
    left = [path for path in mine if str(path) not in served and _age_s(path) > PRIVATE_FOLDER_S]
    if left:
        text = f"{len(left)} left in {base} by killed runs; secrets may be in there"
        mend = "rm -r " + " ".join(shlex.quote(str(path)) for path in sorted(left)[:20])
        yield Finding("private folders", "warn", text, mend)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _command_lines() -> str:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                found.append(Path(entry.path, "cmdline").read_bytes().replace(b"\0", b"\n").decode("utf-8", "replace"))
            except OSError:
                continue
    return "\n".join(found)


CHECKS = (staging_root, room, clock, store, lock, runs, private_folders)
