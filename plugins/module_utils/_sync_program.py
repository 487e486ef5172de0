# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The companion's side of the sync: what is there, what it consists of, and the new archive taken or made.

Travels with each question, through standard input or, where that is the archive, on the command line; answers one line
of JSON behind `ANSWER_MARK`. Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import select
import stat
import sys
import time
from typing import Any, Callable, Dict, List

from ._errors import TileSourceError
from ._tile_delta import (
    CHUNK_BYTES,
    PART_PREFIX,
    apply_delta,
    body_hashes,
    body_spans,
    file_blocks,
    hash_file,
    write_proven,
)

__all__ = ["ANSWER_MARK", "ARCHIVE_NAME", "BASES", "DELTA_NAME", "main"]

ANSWER_MARK = "gps-denied-sync "
ARCHIVE_NAME = "tiles.pmtiles"
DELTA_NAME = "tiles.delta"
MANIFEST_NAME = "MANIFEST"
F_SETPIPE_SZ = 1031
"""`fcntl` names it since Python 3.10."""
TAKE_IDLE_S = 120.0
"""Nothing has come for so long: nobody is there any more."""
BASES = ("current", "previous")
"""Generations whose archive may be the basis of the new one; the likelier one first."""


class _Wanted:
    """The archive that a question is about, and where it belongs."""

    def __init__(self, request: Dict[str, Any]) -> None:
        self.root, self.incoming = str(request["root"]), str(request["incoming"])
        self.sha256, self.size_bytes = str(request["sha256"]), int(request["size_bytes"])
        self.target = os.path.join(self.incoming, ARCHIVE_NAME)

    def base(self, name: str) -> str:
        """The archive of a generation."""
        if name not in BASES:
            raise ValueError("there is no base %r" % name)
        return os.path.join(self.root, name, ARCHIVE_NAME)

    def is_at(self, path: str) -> bool:
        """Whether the wanted bytes are there, by their hash."""
        with contextlib.suppress(OSError):
            return _size(path) == self.size_bytes and hash_file(path) == self.sha256
        return False


def _size(path: str) -> int:
    """Size of a regular file, else -1."""
    try:
        status = os.lstat(path)
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _claimed_sha256(wanted: _Wanted, name: str) -> str:
    """What the generation's manifest says of its archive, unchecked; "" where it says nothing."""
    path = os.path.join(wanted.root, name, MANIFEST_NAME)
    with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="ascii") as stream:
        for line in stream:
            words = line.split()
            if len(words) == 3 and words[2] == ARCHIVE_NAME:
                return words[0]
    return ""


def _look(wanted: _Wanted, request: Dict[str, Any]) -> Dict[str, Any]:
    """Make the folders; say whether the archive is there already, and what could help to make it."""
    for folder in request["folders"]:
        os.makedirs(folder, exist_ok=True)
    for name in os.listdir(wanted.incoming):
        if name.startswith(PART_PREFIX):
            os.unlink(os.path.join(wanted.incoming, name))
    bases = {name: _claimed_sha256(wanted, name) for name in BASES if _size(wanted.base(name)) > 0}
    complete = wanted.is_at(wanted.target)
    for name in bases:
        if not complete and wanted.is_at(wanted.base(name)):
            with contextlib.suppress(TileSourceError):
                complete = write_proven(wanted.target, file_blocks(wanted.base(name)), sha256=wanted.sha256)
    room = os.statvfs(wanted.incoming)
    return {
        "complete": complete,
        "free_bytes": room.f_bavail * room.f_frsize,
        "have_bytes": max(0, _size(wanted.target)),
        "begun": os.path.lexists(wanted.target),
        "bases": bases,
        "has_index": os.path.isdir(os.path.join(wanted.root, "current", "index")),
    }


def _list(wanted: _Wanted, request: Dict[str, Any]) -> Dict[str, Any]:
    """The short hashes of a base's tile bodies; none where it cannot be read."""
    path = wanted.base(request["base"])
    try:
        hashes = body_hashes(path, body_spans(path))
    except (OSError, TileSourceError):
        hashes = b""
    return {"hashes": base64.b64encode(hashes).decode()}


def _make(wanted: _Wanted, request: Dict[str, Any]) -> Dict[str, Any]:
    """The archive from a base and the delta that has arrived."""
    delta = os.path.join(wanted.incoming, DELTA_NAME)
    base = wanted.base(request["base"])
    complete = apply_delta(base, delta, wanted.target, sha256=wanted.sha256, size_bytes=wanted.size_bytes)
    if complete:
        os.unlink(delta)  # else the next delta finds most of its bytes here
    return {"complete": complete}


def _take(wanted: _Wanted, request: Dict[str, Any]) -> Dict[str, Any]:
    """Write the archive as it comes on standard input, and hash it on the way; what has come stays, whatever follows.

    Nothing may be in its place: what has begun is to be mended, not written anew.
    """
    digest, done = hashlib.sha256(), 0
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with contextlib.suppress(OSError):  # it may be a socket
        # With room for 64 KiB as usual, this and sshd wait for each other: an eighth of the whole time.
        fcntl.fcntl(sys.stdin.fileno(), F_SETPIPE_SZ, CHUNK_BYTES)
    with open(wanted.target, "xb", buffering=0) as stream:
        os.fchmod(stream.fileno(), 0o644)
        said_at = time.monotonic()
        while select.select([sys.stdin], [], [], TAKE_IDLE_S)[0]:
            if time.monotonic() - said_at > request["sign_every_s"]:
                # A slow link holds minutes of what the other side has given away: it hears that all is well.
                said_at = time.monotonic()
                sys.stdout.write("\n")
                sys.stdout.flush()
            count = os.readv(sys.stdin.fileno(), [buffer])
            if not count:
                break
            view = buffer[:count]
            digest.update(view)
            done += count
            while view:
                view = view[stream.write(view) :]
    return {"complete": digest.hexdigest() == wanted.sha256, "taken_bytes": done}


def _check(wanted: _Wanted, request: Dict[str, Any]) -> Dict[str, Any]:
    """Whether what has arrived is the archive; where it is not, it goes if `remove` says so."""
    complete = wanted.is_at(wanted.target)
    if not complete and request["remove"]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(wanted.target)
    return {"complete": complete}


_VERBS: Dict[str, Callable[[_Wanted, Dict[str, Any]], Dict[str, Any]]] = {
    "look": _look,
    "list": _list,
    "make": _make,
    "take": _take,
    "check": _check,
}


def main(request: Dict[str, Any]) -> None:
    """Answer one question on standard output."""
    try:
        answer = _VERBS[request["verb"]](_Wanted(request), request)
    except OSError as exc:
        answer = {"error": exc.strerror or str(exc), "path": exc.filename}
    lines: List[str] = ["\n", ANSWER_MARK, json.dumps(answer), "\n"]
    sys.stdout.write("".join(lines))
