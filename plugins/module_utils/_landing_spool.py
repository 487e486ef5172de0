# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a flight recorded, as it lies on the companion: the landing spool.

`<cache root>/landing/<recording>/` holds `tiles.tar` and, written last, `MANIFEST`; the layout is in
docs/reference/landing-spool.md. Runs on the companion too: standard library only, Python 3.8. Nothing in the spool is
trusted: links are not followed, and a recording that is not what its manifest says is left alone and named.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ._atomic_file import write_atomically
from ._errors import CacheVerifyError, LandingSpoolError
from ._manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest

__all__ = [
    "ARCHIVE_NAME",
    "LANDING_FOLDER",
    "MAX_TILE_BYTES",
    "RecordedTile",
    "archive_bounds",
    "collect_recording",
    "inspect_spool",
    "mark_accepted",
    "parse_recording",
    "tile_of_path",
]

LANDING_FOLDER = "landing"
ARCHIVE_NAME = "tiles.tar"
ACCEPTED_NAME = "ACCEPTED"
TRASH_PREFIX = ".trash-"
MAX_RECORDINGS = 1000
MAX_MARK_BYTES = 16 * 1024
MAX_TILE_BYTES = 2 * 1024 * 1024
BLOCK_BYTES = 512
MAX_TAIL_BYTES = 20 * BLOCK_BYTES * 2
_RECORDING = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_TILE_PATH = re.compile(r"([0-9]{1,2})/(0|[1-9][0-9]{0,7})/(0|[1-9][0-9]{0,7})\.(jpg|png|webp)", re.ASCII)
_FILES = {
    MANIFEST_NAME: MAX_MANIFEST_BYTES,
    ACCEPTED_NAME: MAX_MARK_BYTES,
    ARCHIVE_NAME: 1 << 40,
}


@dataclass(frozen=True)
class RecordedTile:
    """One line of a recording's manifest."""

    sha256: str
    size_bytes: int
    path: str
    zoom: int
    column: int
    row: int
    media_type: str


def tile_of_path(path: str) -> Optional[Tuple[int, int, int, str]]:
    """Zoom, column, row and media type of `z/x/y.jpg`, or None where it names no tile."""
    match = _TILE_PATH.fullmatch(path)
    if match is None:
        return None
    zoom, column, row = (int(match.group(number)) for number in (1, 2, 3))
    if zoom > 24 or max(column, row) >= 1 << zoom or (path[0] == "0" and zoom):
        return None
    kind = match.group(4)
    return zoom, column, row, "image/" + ("jpeg" if kind == "jpg" else kind)


def _refuse(reason: str, message: str) -> LandingSpoolError:
    return LandingSpoolError(message, details={"reason": reason})


def parse_recording(content: bytes) -> Tuple[str, Tuple[RecordedTile, ...]]:
    """Content id and tiles of a recording, from the bytes of its manifest.

    Raises:
        LandingSpoolError: not a manifest, or one that lists something other than tiles.
    """
    try:
        manifest = Manifest.parse(content)
    except CacheVerifyError as exc:
        raise _refuse(str(exc.details.get("reason")), exc.message) from None
    tiles = []
    for entry in manifest.entries:
        found = tile_of_path(entry.path)
        if found is None:
            raise _refuse("not-a-tile", f"the manifest lists {entry.path[:100]!a}, which names no tile")
        if not 0 < entry.size_bytes <= MAX_TILE_BYTES:
            raise _refuse("tile-size", f"{entry.path} has {entry.size_bytes} bytes; 1 to {MAX_TILE_BYTES} are possible")
        tiles.append(RecordedTile(entry.sha256, entry.size_bytes, entry.path, *found))
    return hashlib.sha256(content).hexdigest(), tuple(tiles)


def archive_bounds(tiles: Tuple[RecordedTile, ...]) -> Tuple[int, int]:
    """The smallest and the largest size that the archive of these tiles can have: headers, bodies, and the end."""
    least = sum(BLOCK_BYTES + -(-tile.size_bytes // BLOCK_BYTES) * BLOCK_BYTES for tile in tiles)
    return least, least + MAX_TAIL_BYTES


def _open_folder(name: str, parent: Optional[int] = None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _read(folder: int, name: str, limit_bytes: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with open(descriptor, "rb") as stream:
        return stream.read(limit_bytes + 1)


def _checked_files(folder: int) -> Dict[str, int]:
    """The recording's files with their sizes; anything else in the folder is refused."""
    sizes = {}
    for name in sorted(os.listdir(folder)):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if name.startswith(".tmp-") and stat.S_ISREG(status.st_mode):
            continue  # what a power cut left of a file that was being written
        if name not in _FILES:
            raise _refuse("foreign-file", f"it holds {name[:100]!a}, which does not belong there")
        if stat.S_ISLNK(status.st_mode):
            raise _refuse("file-symlink", f"{name} is a link")
        if not stat.S_ISREG(status.st_mode):
            raise _refuse("file-special", f"{name} is not a plain file")
        if status.st_nlink != 1:
            raise _refuse("file-hardlink", f"{name} has a second name")
        if status.st_size > _FILES[name]:
            raise _refuse("file-size", f"{name} has {status.st_size} bytes, and {_FILES[name]} are the limit")
        sizes[name] = status.st_size
    return sizes


def _inspect(folder: int) -> Dict[str, Any]:
    sizes = _checked_files(folder)
    if MANIFEST_NAME not in sizes:
        return {"state": "unfinished", "reason": "it has no MANIFEST yet"}
    content_id, tiles = parse_recording(_read(folder, MANIFEST_NAME, MAX_MANIFEST_BYTES))
    found: Dict[str, Any] = {"state": "ready", "content_id": content_id, "tiles": len(tiles)}
    if _accepted_content(folder) == content_id:
        return {**found, "state": "accepted"}
    if ARCHIVE_NAME not in sizes:
        raise _refuse("file-missing", f"{ARCHIVE_NAME} is missing")
    least, most = archive_bounds(tiles)
    if not least <= sizes[ARCHIVE_NAME] <= most:
        raise _refuse(
            "archive-size", f"{ARCHIVE_NAME} has {sizes[ARCHIVE_NAME]} bytes, and by its manifest {least} to {most}"
        )
    return {**found, "size_bytes": sizes[ARCHIVE_NAME]}


def _accepted_content(folder: int) -> Optional[str]:
    """The content that was marked as accepted, None where there is no mark or a damaged one."""
    try:
        mark = json.loads(_read(folder, ACCEPTED_NAME, MAX_MARK_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return str(mark.get("content_id")) if isinstance(mark, dict) else None


@contextlib.contextmanager
def _spool(root: str) -> Iterator[Optional[int]]:
    try:
        descriptor = _open_folder(os.path.join(root, LANDING_FOLDER))
    except FileNotFoundError:
        yield None
        return
    except OSError as exc:
        raise _refuse(
            "spool", f"the spool {os.path.join(root, LANDING_FOLDER)} is no folder or cannot be read: {exc.strerror}"
        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def inspect_spool(root: str) -> List[Dict[str, Any]]:
    """What lies in the spool, by name: `id`, `state` (ready, accepted, unfinished, refused), `reason`, and its size.

    Raises:
        LandingSpoolError: the spool itself is no folder, or holds too many recordings.
    """
    found: List[Dict[str, Any]] = []
    with _spool(root) as spool:
        names = sorted(os.listdir(spool)) if spool is not None else []
        names = [name for name in names if name != "ground.json" and not name.startswith(".")]
        if len(names) > MAX_RECORDINGS:
            raise _refuse("spool", f"the spool holds {len(names)} recordings, and {MAX_RECORDINGS} are the limit")
        for name in names:
            printable = name if _RECORDING.fullmatch(name) else ascii(name)[:100]
            row: Dict[str, Any] = {"id": printable, "content_id": None, "tiles": 0, "size_bytes": 0, "reason": None}
            try:
                if printable != name:
                    raise _refuse("name", "its name is not allowed")
                folder = _open_folder(name, spool)
                try:
                    row.update(_inspect(folder))
                finally:
                    os.close(folder)
            except LandingSpoolError as exc:
                row.update(state="refused", reason=f"{exc.details['reason']}: {exc.message}")
            except OSError as exc:
                row.update(state="refused", reason=f"unreadable: {exc.strerror}")
            found.append(row)
    return found


def _checked_recording(spool: Optional[int], name: str, content_id: str) -> int:
    """The recording's open folder, where it still holds this content."""
    if spool is None or not _RECORDING.fullmatch(name):
        raise _refuse("name", f"there is no recording {name[:64]!a}")
    folder = -1
    try:
        folder = _open_folder(name, spool)
        held = hashlib.sha256(_read(folder, MANIFEST_NAME, MAX_MANIFEST_BYTES)).hexdigest()
    except OSError as exc:
        if folder >= 0:
            os.close(folder)
        raise _refuse("unreadable", f"the recording {name} cannot be read: {exc.strerror}") from None
    if held != content_id:
        os.close(folder)
        raise _refuse("changed", f"the recording {name} is no longer the one that was uploaded")
    return folder


def mark_accepted(root: str, name: str, content_id: str, receipt: Mapping[str, Any]) -> bool:
    """Note durably that the provider has every tile of a recording; False where that was noted before.

    Raises:
        LandingSpoolError: the recording is gone, or has another content now.
        OSError: the storage failed.
    """
    with _spool(root) as spool:
        folder = _checked_recording(spool, name, content_id)
        try:
            if _accepted_content(folder) == content_id:
                return False
            path = os.path.join(root, LANDING_FOLDER, name, ACCEPTED_NAME)
            mark = {**receipt, "content_id": content_id}
            write_atomically(path, json.dumps(mark, sort_keys=True).encode() + b"\n")
        finally:
            os.close(folder)
    return True


def collect_recording(root: str, name: str, content_id: str) -> bool:
    """Remove a recording that is marked as accepted; False where it was gone already.

    It goes by one rename, so that after a power cut it is there, whole, or no recording any more.

    Raises:
        LandingSpoolError: it is not marked, or has another content now.
        OSError: the storage failed.
    """
    with _spool(root) as spool:
        if spool is None:
            return False
        _empty_trash(spool)
        try:
            os.stat(name, dir_fd=spool, follow_symlinks=False)
        except FileNotFoundError:
            return False
        folder = _checked_recording(spool, name, content_id)
        try:
            if _accepted_content(folder) != content_id:
                raise _refuse("not-accepted", f"the recording {name} is not marked as accepted; it stays")
            _checked_files(folder)
        finally:
            os.close(folder)
        os.rename(name, TRASH_PREFIX + name, src_dir_fd=spool, dst_dir_fd=spool)
        os.fsync(spool)
        _empty_trash(spool)
    return True


def _empty_trash(spool: int) -> None:
    """Remove what was collected; a power cut may have left some of it."""
    for name in os.listdir(spool):
        if not name.startswith(TRASH_PREFIX):
            continue
        folder = _open_folder(name, spool)
        try:
            for item in os.listdir(folder):
                os.unlink(item, dir_fd=folder)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=spool)
        os.fsync(spool)
