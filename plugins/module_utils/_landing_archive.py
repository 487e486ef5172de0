# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recording as it was fetched: the tiles in its tar archive, held one by one against the manifest.

Only what flight software writes is read: POSIX ustar headers of plain files. tarfile would follow extension headers of
any length into memory; here a header is 512 bytes, and everything else makes the tile count as damaged.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import BinaryIO, Callable, Dict, Optional, Tuple

from ._errors import LandingSpoolError
from ._landing_spool import ARCHIVE_NAME, BLOCK_BYTES, RecordedTile, parse_recording
from ._manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES

__all__ = ["FetchedRecording", "open_recording", "read_tile"]


@dataclass(frozen=True)
class FetchedRecording:
    """A recording on the workstation.

    Attributes:
        offsets: where the body of each sound tile begins in the archive, by path.
        damaged: tiles whose bytes are missing or not those of the manifest, with the reason.
    """

    name: str
    folder: str
    content_id: str
    tiles: Tuple[RecordedTile, ...]
    offsets: Dict[str, int]
    damaged: Dict[str, str]

    @property
    def archive_path(self) -> str:
        return os.path.join(self.folder, ARCHIVE_NAME)


def _member(header: bytes) -> Optional[Tuple[str, int]]:
    """Path and size of a plain file's header, None where it is anything else."""
    if header[257:262] != b"ustar" or header[156:157] not in (b"0", b"\0"):
        return None
    try:
        checksum = int(header[148:156].rstrip(b" \0") or b"0", 8)
        size_bytes = int(header[124:136].rstrip(b" \0") or b"0", 8)
        name = header[:100].split(b"\0", 1)[0].decode("ascii")
        prefix = header[345:500].split(b"\0", 1)[0].decode("ascii")
    except ValueError:
        return None
    if checksum != sum(header[:148]) + 8 * 0x20 + sum(header[156:]):
        return None
    return (f"{prefix}/{name}" if prefix else name), size_bytes


def _scan(stream: BinaryIO, tiles: Dict[str, RecordedTile], on_tile: Callable[[int], None]) -> Dict[str, int]:
    """Offsets of the tiles whose bytes are those of the manifest."""
    offsets: Dict[str, int] = {}
    while True:
        header = stream.read(BLOCK_BYTES)
        if len(header) < BLOCK_BYTES:
            return offsets
        member = _member(header)
        tile = tiles.get(member[0]) if member else None
        if member is None or tile is None or member[1] != tile.size_bytes:
            continue  # after damage, the next block that is a listed tile's header goes on
        offset = stream.tell()
        body = stream.read(tile.size_bytes)
        if hashlib.sha256(body).hexdigest() == tile.sha256:
            offsets[tile.path] = offset
        stream.seek(-tile.size_bytes % BLOCK_BYTES, os.SEEK_CUR)
        on_tile(tile.size_bytes)


def open_recording(
    folder: str, *, name: str, content_id: str, on_tile: Callable[[int], None] = lambda _size: None
) -> FetchedRecording:
    """Hold a fetched recording against its manifest; tiles that fail are listed, the others can be used.

    Args:
        content_id: what the companion said that it holds.
        on_tile: called with the size of each tile that was read.

    Raises:
        LandingSpoolError: the manifest is missing, malformed or another one, or the archive cannot be read.
    """
    try:
        with open(os.path.join(folder, MANIFEST_NAME), "rb") as stream:
            content = stream.read(MAX_MANIFEST_BYTES + 1)
        found, tiles = parse_recording(content)
        if found != content_id:
            raise LandingSpoolError(f"the manifest of {name} is not the one that was announced; it changed meanwhile")
        by_path = {tile.path: tile for tile in tiles}
        with open(os.path.join(folder, ARCHIVE_NAME), "rb") as stream:
            offsets = _scan(stream, by_path, on_tile)
    except OSError as exc:
        raise LandingSpoolError(f"the recording {name} cannot be read where it was fetched: {exc.strerror}") from None
    damaged = {path: "missing or not the bytes of the manifest" for path in by_path if path not in offsets}
    return FetchedRecording(name, folder, content_id, tiles, offsets, damaged)


def read_tile(recording: FetchedRecording, stream: BinaryIO, tile: RecordedTile) -> bytes:
    """The tile's bytes, checked once more: what is sent is what was verified.

    Raises:
        LandingSpoolError: the archive has changed since it was verified.
    """
    stream.seek(recording.offsets[tile.path])
    body = stream.read(tile.size_bytes)
    if hashlib.sha256(body).hexdigest() != tile.sha256:
        raise LandingSpoolError(f"{recording.archive_path} changed while it was read: {tile.path}")
    return body
