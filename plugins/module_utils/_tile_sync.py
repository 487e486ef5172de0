# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bringing a companion to the archive of a run with the fewest bytes on the link.

By hashes alone: nothing where it is there, the missing tiles where an older archive is there (`_tile_delta`), the rest
of a file that a cut run has begun to send, else all of it. The companion's own program (`_sync_program`) says what is
there, and takes what is new; it is not believed: only bytes with the archive's SHA-256 count.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import json
import os
import shlex
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from . import _errors, _pmtiles, _sync_program, _tile_delta
from ._errors import SyncError
from ._known_archives import KnownArchives
from ._link_error import link_broke
from ._remote_job import CommandResult, Transport
from ._sync_program import ANSWER_MARK, ARCHIVE_NAME, BASES, DELTA_NAME
from ._tile_delta import SHORT_HASH_BYTES, Span, TileDelta, body_hashes, body_spans, plan_delta

__all__ = ["CompanionArchive", "Feed", "ShippedArchive", "sync_archive"]

PACKAGE = "gps_denied_sync"
_MODULES = (_errors, _pmtiles, _tile_delta, _sync_program)
_BOOTSTRAP = f"""import base64, json, sys, types, zlib
sent = json.loads(zlib.decompress(base64.b64decode(sys.argv[1] if sys.argv[1:] else sys.stdin.read())))
package = sys.modules[{PACKAGE!r}] = types.ModuleType({PACKAGE!r})
package.__path__ = []
for name, source in sent["modules"]:
    module = sys.modules[name] = types.ModuleType(name)
    module.__package__ = {PACKAGE!r}
    exec(compile(source, name, "exec"), module.__dict__)
module.main(sent["request"])
"""
ANSWER_S = 120.0
SLOWEST_BYTES_PER_S = 5e6
"""A worn SD card; what takes longer than a read at this rate has stopped."""
SIGN_EVERY_S = 10.0
"""How often a companion that takes an archive gives a sign of life: several times before silence counts as the end."""
MENDING = "what arrived is not what was sent; mending it"
GOOD_BASE_RATIO = 0.5
WORTHWHILE_RATIO = 0.9
MAX_BODIES = 1 << 24

Push = Callable[[str, str], int]
"""Sends a local file to a path on the companion, whatever is there, and gives the bytes that travelled."""
Feed = Callable[[str], CommandResult]
"""Runs one shell command on the companion with the archive as its standard input."""


@dataclass(frozen=True)
class ShippedArchive:
    """The archive on the workstation."""

    path: str
    sha256: str
    size_bytes: int


class CompanionArchive:
    """The questions to the companion's program about one archive.

    Args:
        run: runs one shell command on the companion.
        root: the companion's cache root.
        incoming: the folder there in which the archive arrives.
    """

    def __init__(
        self, run: Transport, archive: ShippedArchive, *, name: str, root: str, incoming: str, python: str = "python3"
    ) -> None:
        self._run, self.name = run, name
        self._program = (python, "-I", "-S", "-c", _BOOTSTRAP)
        self._asked = {
            "root": root,
            "incoming": incoming,
            "sha256": archive.sha256,
            "size_bytes": archive.size_bytes,
        }
        self._size_bytes = archive.size_bytes
        self._patience_s = ANSWER_S + archive.size_bytes / SLOWEST_BYTES_PER_S
        self.target = f"{incoming}/{ARCHIVE_NAME}"
        self.delta = f"{incoming}/{DELTA_NAME}"

    def ask(self, verb: str, **fields: Any) -> Dict[str, Any]:
        """One question, one answer.

        Raises:
            SyncError: the companion's storage failed, or the program did not answer.
            CompanionUnreachableError: raised by the transport.
        """
        words = ["timeout", "-k", "5", str(int(self._patience_s)), *self._program]
        result = self._run(shlex.join(words), self._question(verb, fields).encode())
        if result.rc == 124:
            raise SyncError(
                f"{self.name} did not answer within {self._patience_s:.0f} s: its storage is stuck or very slow",
                remediation="Look at the companion's disk (dmesg), then run again: what has arrived is kept.",
            )
        return self._understood(result)

    def take(self, feed: Feed) -> Tuple[int, bool]:
        """Give the companion the archive where nothing of it is there, proven over there while it arrives.

        Returns:
            Bytes sent, and whether the companion holds the archive.

        Raises:
            SyncError, CompanionUnreachableError: what has arrived is kept.
        """
        # on the command line, as the archive is the input
        words = [*self._program, self._question("take", {"sign_every_s": SIGN_EVERY_S})]
        answer = self._understood(feed(shlex.join(words)))
        taken_bytes = _count(answer, "taken_bytes")
        if taken_bytes < self._size_bytes:
            raise link_broke(f"sending the tiles to {self.name}", f"{taken_bytes / 1e6:.1f} MB have arrived")
        return self._size_bytes, answer.get("complete") is True

    def _question(self, verb: str, fields: Mapping[str, Any]) -> str:
        """The program and what it is asked, as its bootstrap reads them."""
        sources = [[f"{PACKAGE}.{_stem(module)}", _source(module)] for module in _MODULES]
        sent = {"modules": sources, "request": {**self._asked, **fields, "verb": verb}}
        return base64.b64encode(zlib.compress(json.dumps(sent).encode(), 9)).decode()

    def _understood(self, result: CommandResult) -> Dict[str, Any]:
        """The program's answer, where it is one."""
        answer = _answer(result.stdout)
        if answer is None:
            said = _plain((result.stderr or result.stdout).strip()[-300:]) or "nothing"
            raise SyncError(f"the sync program on {self.name} ended with {result.rc} and said: {said}")
        if "error" in answer:
            where = f"{_plain(answer['path'])}: " if answer.get("path") else ""
            raise SyncError(
                f"{self.name} cannot take the tiles: {where}{_plain(answer['error'])}",
                remediation="Free space or mend the file system there, then run again: what has arrived is kept.",
            )
        return answer

    def hashes(self, base: str) -> bytes:
        """The short hashes of a base's bodies; none where they cannot be had."""
        try:
            found = base64.b64decode(str(self.ask("list", base=base).get("hashes")), validate=True)
        except binascii.Error:
            return b""
        return found[: MAX_BODIES * SHORT_HASH_BYTES]


def _plain(text: Any) -> str:
    """What the companion says, fit for a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:300])


def _stem(module: Any) -> str:
    return str(module.__name__).rpartition(".")[2]


def _source(module: Any) -> str:
    return Path(str(module.__file__)).with_suffix(".py").read_text(encoding="utf-8")


def _answer(stdout: str) -> Optional[Dict[str, Any]]:
    """The program's last word, None where there is none: whatever else the companion prints is no answer."""
    for line in reversed(stdout.splitlines()):
        if line.startswith(ANSWER_MARK):
            try:
                found = json.loads(line[len(ANSWER_MARK) :])
            except (ValueError, RecursionError):
                return None
            return found if isinstance(found, dict) else None
    return None


def sync_archive(
    archive: ShippedArchive,
    companion: CompanionArchive,
    *,
    folders: Sequence[str],
    work_folder: str,
    known: KnownArchives,
    push: Push,
    feed: Optional[Feed],
    on_step: Callable[[str], None],
    use_bases: bool = True,
) -> Tuple[int, bool]:
    """Bring the companion to the archive.

    Args:
        folders: folders to make on the companion, the one that the archive arrives in among them.
        work_folder: where deltas are written on the workstation; companions of a run share them.
        known: what archives consist of, as far as this workstation knows.
        push: the way for what mends and completes, and for all where there is no `feed`.
        feed: the quicker way for an archive of which nothing is there yet.
        on_step: told in words what is going to travel.
        use_bases: whether older archives over there may save bytes; where copying is cheap they are not worth it.

    Returns:
        Bytes sent, and whether the companion's current generation has an index.

    Raises:
        SyncError, CompanionUnreachableError: what has arrived is kept for the next run.
    """
    found = companion.ask("look", folders=list(folders))
    has_index = found.get("has_index") is True
    if found.get("complete") is True:
        on_step("the companion has the tiles already")
        return 0, has_index
    have_bytes = min(_count(found, "have_bytes"), archive.size_bytes)
    missing_bytes = archive.size_bytes - have_bytes
    free_bytes = _count(found, "free_bytes")
    if free_bytes < missing_bytes:
        raise SyncError(
            f"no space left on {companion.name} for the tiles: {free_bytes / 1e6:.1f} MB are free, and "
            f"{missing_bytes / 1e6:.1f} MB are needed",
            remediation="Free disk space on the companion, then run again: what has arrived is kept.",
        )
    claimed = found.get("bases")
    bases = {name: str(claimed.get(name)) for name in BASES if isinstance(claimed, dict) and name in claimed}
    sent = 0
    for listed in (False, True) if bases and missing_bytes and use_bases else ():
        deltas = _Deltas(archive, companion, known, work_folder)
        best = deltas.best(
            bases, listed=listed, limit_bytes=min(WORTHWHILE_RATIO * missing_bytes, free_bytes - missing_bytes)
        )
        if best is None:
            continue
        base, path = best
        size = os.path.getsize(path)
        on_step(f"sending the {size / 1e6:.1f} of {archive.size_bytes / 1e6:.1f} MB that differ")
        sent += push(path, companion.delta)
        if companion.ask("make", base=base).get("complete") is True:
            return sent, has_index
        on_step(f"the tiles of the companion's {base} cache are not what they were; sending what that takes")
    if feed is not None and found.get("begun") is False:
        more, whole = companion.take(feed)
        sent += more
        if whole:
            return sent, has_index
        on_step(MENDING)
    for last in (False, True):
        sent += push(archive.path, companion.target)
        if companion.ask("check", remove=last).get("complete") is True:
            return sent, has_index
        on_step(MENDING)
    raise SyncError(
        f"{companion.target} does not hold what was sent, twice; it was removed",
        remediation="Check the companion's disk and memory: they do not keep what they are given.",
    )


def _count(answer: Mapping[str, Any], name: str) -> int:
    """A number of the companion's answer, 0 where it is none."""
    value = answer.get(name)
    return value if isinstance(value, int) and value > 0 else 0


class _Deltas:
    """Deltas to one archive, from what a companion holds."""

    def __init__(self, archive: ShippedArchive, companion: CompanionArchive, known: KnownArchives, folder: str) -> None:
        self._archive, self._companion, self._known, self._folder = archive, companion, known, folder

    def best(self, bases: Mapping[str, str], *, listed: bool, limit_bytes: float) -> Optional[Tuple[str, str]]:
        """The base that leaves the least to send, and the delta's path; None where none stays below the limit.

        Args:
            bases: what the manifests say: the SHA-256 of each base.
            listed: whether the companion reads its bases and lists their bodies; else those count that are known.
        """
        best: Optional[Tuple[TileDelta, str, bytes]] = None
        with ThreadPoolExecutor(1) as pool:
            own = pool.submit(self._own_bodies)
            for base, sha256 in bases.items():
                old = self._companion.hashes(base) if listed else self._known.load(sha256)
                if not old:
                    continue
                spans, hashes = own.result()
                delta = plan_delta(spans, hashes, old, size_bytes=self._archive.size_bytes)
                if delta.size_bytes < limit_bytes and (best is None or delta.size_bytes < best[0].size_bytes):
                    best = (delta, base, old)
                if delta.size_bytes <= GOOD_BASE_RATIO * self._archive.size_bytes:
                    break
        return None if best is None else (best[1], self._file(best[0], best[2]))

    def _own_bodies(self) -> Tuple[List[Span], bytes]:
        spans = body_spans(self._archive.path)
        hashes = self._known.load(self._archive.sha256)
        if hashes is None or len(hashes) != len(spans) * SHORT_HASH_BYTES:
            hashes = body_hashes(self._archive.path, spans)
            self._known.save(self._archive.sha256, hashes)
        return spans, hashes

    def _file(self, delta: TileDelta, old: bytes) -> str:
        """The delta as a file, made once for all companions that hold the same."""
        path = os.path.join(self._folder, f"tiles-{hashlib.sha256(old).hexdigest()[:16]}.delta")
        try:
            with open(path + ".lock", "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not os.path.exists(path):
                    with open(path + ".tmp", "wb") as stream:
                        delta.write(self._archive.path, stream)
                    os.rename(path + ".tmp", path)
        except OSError as exc:
            raise SyncError(
                f"cannot write {path}: {exc.strerror}",
                remediation="Free disk space on this workstation, or choose another cache_staging_root.",
            ) from None
        return path
