# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cut one flight's tiles out of the store into a PMTiles archive: deterministic, clustered, identical tiles once.

The same tiles and metadata give the same bytes on every machine: directories are gzip streams of stored blocks, which
depend on no compressor's version, and nothing in the archive is a time or a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Deque, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ._atomic_file import fsync_folder
from ._errors import CoverageIncompleteError, DownloadError
from ._pmtiles import (
    COMPRESSION_GZIP,
    COMPRESSION_NONE,
    HEADER_BYTES,
    MAX_ROOT_BYTES,
    TILE_TYPES,
    PmtilesEntry,
    PmtilesHeader,
    encode_directory,
    encode_header,
)
from ._tile_check import sniff_format
from ._tile_source import TileSource
from ._tile_store import TileStore
from ._tiles import Tile, TileSet, tile_bounds

__all__ = ["ArchiveInfo", "cut_archive"]

LEAF_ENTRIES = 4096
WRITE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class ArchiveInfo:
    """A written archive; `tile_count` counts different bodies, `addressed_count` tiles."""

    path: Path
    sha256: str
    size_bytes: int
    tile_count: int
    addressed_count: int


def stored_gzip(plain: bytes) -> bytes:
    """A gzip stream (RFC 1952) of stored deflate blocks (RFC 1951, 3.2.4): the same bytes from every implementation."""
    out = bytearray(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
    starts = range(0, len(plain), 65535) or [0]
    for start in starts:
        block = plain[start : start + 65535]
        final = start + 65535 >= len(plain)
        out += bytes([final]) + len(block).to_bytes(2, "little") + (len(block) ^ 0xFFFF).to_bytes(2, "little") + block
    out += zlib.crc32(plain).to_bytes(4, "little") + (len(plain) & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(out)


def _hilbert(z: int, columns: Any, rows: Any) -> Any:
    """`zxy_to_tile_id` over arrays."""
    import numpy as np

    x, y = columns.astype(np.int64), rows.astype(np.int64)
    position = np.zeros(len(x), dtype=np.int64)
    side = (1 << z) - 1
    half = 1 << z >> 1
    while half:
        right, low = (x & half) > 0, (y & half) > 0
        position += half * half * ((3 * right) ^ low)
        flip = right & ~low
        x, y = np.where(flip, side - x, x), np.where(flip, side - y, y)
        x, y = np.where(low, x, y), np.where(low, y, x)
        half >>= 1
    return position + ((1 << 2 * z) - 1) // 3


def _collect(tiles: TileSet, store: TileStore, source: int) -> Tuple[Any, Any]:
    """Tile ids in order, and the body's number of each."""
    import numpy as np

    ids: List[Any] = []
    numbers: List[Any] = []
    by_zoom: Dict[int, Tuple[List[int], List[int], List[int]]] = {}

    def flush(z: int) -> None:
        columns, rows, blobs = by_zoom.pop(z)
        ids.append(_hilbert(z, np.array(columns, dtype=np.int64), np.array(rows, dtype=np.int64)))
        numbers.append(np.array(blobs, dtype=np.int64))

    for run in tiles.runs:
        columns, rows, blobs = by_zoom.setdefault(run.z, ([], [], []))
        for x, blob, _length in store.present_columns(source, run):
            columns.append(x)
            rows.append(run.y)
            blobs.append(blob)
        if len(columns) >= 1 << 17:
            flush(run.z)
    for z in list(by_zoom):
        flush(z)
    if not ids:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    all_ids, all_numbers = np.concatenate(ids), np.concatenate(numbers)
    order = np.argsort(all_ids, kind="stable")
    return all_ids[order], all_numbers[order]


def _directories(entries: Sequence[PmtilesEntry]) -> Tuple[bytes, bytes]:
    """Root and leaf section, both compressed; leaves as large as needed for a root that fits the first 16 KiB."""
    root = stored_gzip(encode_directory(entries))
    if len(root) <= MAX_ROOT_BYTES:
        return root, b""
    leaf_entries = LEAF_ENTRIES
    while True:
        leaves = bytearray()
        pointers: List[PmtilesEntry] = []
        for start in range(0, len(entries), leaf_entries):
            leaf = stored_gzip(encode_directory(entries[start : start + leaf_entries]))
            pointers.append(PmtilesEntry(entries[start].tile_id, len(leaves), len(leaf), 0))
            leaves += leaf
        root = stored_gzip(encode_directory(pointers))
        if len(root) <= MAX_ROOT_BYTES:
            return root, bytes(leaves)
        leaf_entries *= 2


def _bounds_e7(tiles: TileSet) -> Tuple[int, int, int, int]:
    west, south, east, north = 1800000000, 900000000, -1800000000, -900000000
    for z, y, x_first, x_last in tiles.runs:
        first, last = tile_bounds(Tile(z, x_first, y)), tile_bounds(Tile(z, x_last, y))
        west, east = min(west, round(first.west * 1e7)), max(east, round(last.east * 1e7))
        south, north = min(south, round(first.south * 1e7)), max(north, round(first.north * 1e7))
    return west, south, east, north


def cut_archive(
    *, tiles: TileSet, store: TileStore, source: TileSource, path: Path, metadata: Optional[Mapping[str, Any]] = None
) -> ArchiveInfo:
    """Write the archive; whole and durable under its name when this returns. Every body is checked against its SHA-256.

    Args:
        tiles: the tiles of the flight; those that the store lacks are left out.
        store: the workstation's store.
        source: the source that the tiles were downloaded from.
        path: where the archive goes.
        metadata: JSON values for the archive's metadata (name, attribution, …).

    Raises:
        CoverageIncompleteError: the store has none of the tiles.
        DownloadError: a stored body is damaged (it is forgotten, so that the next run fetches it), or the disk is full.
    """
    import numpy as np

    number = store.source_number(source.source_key)
    ids, numbers = _collect(tiles, store, -1 if number is None else number)
    if len(ids) == 0:
        raise CoverageIncompleteError(f"the tile store has none of the {len(tiles)} tiles of source {source.id}")
    _unique, first = np.unique(numbers, return_index=True)
    in_order = numbers[np.sort(first)].tolist()
    placed = store.bodies(in_order)
    offsets: Dict[int, Tuple[int, int]] = {}
    end = 0
    for number in in_order:
        length = placed[number][2]
        offsets[number] = (end, length)
        end += length
    entries = _entries(ids.tolist(), numbers.tolist(), offsets)
    root, leaves = _directories(entries)
    head_body = store.read(*placed[in_order[0]][:3])
    image_format = sniff_format(head_body) or "unknown"
    zooms = tiles.zooms
    facts = {
        "name": source.id,
        "attribution": source.spec.attribution,
        **dict(metadata or {}),
        "type": "baselayer",
        "format": image_format,
        "minzoom": zooms[0],
        "maxzoom": zooms[-1],
    }
    described = stored_gzip(json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    west, south, east, north = _bounds_e7(tiles)
    data_offset = HEADER_BYTES + len(root) + len(described) + len(leaves)
    header = PmtilesHeader(
        root_offset=HEADER_BYTES, root_length=len(root),
        metadata_offset=HEADER_BYTES + len(root), metadata_length=len(described),
        leaf_offset=HEADER_BYTES + len(root) + len(described), leaf_length=len(leaves),
        tile_data_offset=data_offset, tile_data_length=end,
        addressed_tiles=len(ids), tile_entries=len(entries), tile_contents=len(in_order),
        clustered=True, internal_compression=COMPRESSION_GZIP, tile_compression=COMPRESSION_NONE,
        tile_type=TILE_TYPES[image_format], min_zoom=zooms[0], max_zoom=zooms[-1],
        min_lon_e7=west, min_lat_e7=south, max_lon_e7=east, max_lat_e7=north,
        center_zoom=zooms[0], center_lon_e7=(west + east) // 2, center_lat_e7=(south + north) // 2,
    )  # fmt: skip
    front = encode_header(header) + root + described + leaves
    digest = _write(Path(path), front, _Bodies(store, in_order, placed))
    return ArchiveInfo(Path(path), digest, data_offset + end, len(in_order), len(ids))


def _entries(ids: List[int], numbers: List[int], offsets: Mapping[int, Tuple[int, int]]) -> List[PmtilesEntry]:
    entries: List[PmtilesEntry] = []
    start, count, current, following = 0, 0, -1, -1
    for tile_id, number in zip(ids, numbers):
        if number == current and tile_id == following:
            count += 1
        else:
            if count:
                entries.append(PmtilesEntry(start, *offsets[current], count))
            start, count, current = tile_id, 1, number
        following = tile_id + 1
    entries.append(PmtilesEntry(start, *offsets[current], count))
    return entries


class _Bodies:
    """The bodies of the archive in blocks, each body checked against its SHA-256."""

    def __init__(
        self, store: TileStore, numbers: Sequence[int], placed: Mapping[int, Tuple[int, int, int, bytes]]
    ) -> None:
        self._store, self._numbers, self._placed = store, numbers, placed
        self._damaged: List[int] = []

    def blocks(self) -> Iterator[Sequence[int]]:
        """Numbers of bodies that make about a block together."""
        start = size = 0
        for index, number in enumerate(self._numbers):
            size += self._placed[number][2]
            if size >= WRITE_BYTES:
                yield self._numbers[start : index + 1]
                start, size = index + 1, 0
        if start < len(self._numbers):
            yield self._numbers[start:]

    def load(self, numbers: Sequence[int]) -> bytes:
        """The bytes of a block; after the first damaged body only the damaged ones matter."""
        parts: List[bytes] = []
        for number in numbers:
            pack, offset, length, sha256 = self._placed[number]
            body = self._store.read(pack, offset, length)
            if hashlib.sha256(body).digest() != sha256:
                self._damaged.append(number)
            parts.append(body)
        return b"".join(parts)

    def check(self) -> None:
        """Raise DownloadError where a body was damaged; these are forgotten."""
        if self._damaged:
            count = self._store.forget_bodies(self._damaged)
            raise DownloadError(
                f"{count} tiles in the tile store {self._store.root} are damaged on the disk",
                remediation="Run again: exactly these tiles are downloaded anew. Look at the disk's health.",
            )


def _write(path: Path, front: bytes, bodies: _Bodies) -> str:
    """Write, and hash beside it: one thread reads ahead and checks, one hashes the archive, this one writes."""
    digest = hashlib.sha256(front)
    folder = os.path.dirname(os.path.abspath(path))
    temporary: Optional[str] = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".tmp-")
        with os.fdopen(descriptor, "wb", buffering=0) as stream, ThreadPoolExecutor(1) as loader, ThreadPoolExecutor(
            1
        ) as hasher:
            _write_all(stream, front)
            hashed: Optional[Future[None]] = None
            for block in _ahead(loader, bodies):
                if hashed is not None:
                    hashed.result()
                hashed = hasher.submit(digest.update, block)
                _write_all(stream, block)
            if hashed is not None:
                hashed.result()
            bodies.check()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        temporary = None
        fsync_folder(folder)
    except OSError as exc:
        raise DownloadError(
            f"cannot write the archive {path}: {exc.strerror}", remediation="Free disk space and run again."
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    return digest.hexdigest()


def _ahead(loader: ThreadPoolExecutor, bodies: _Bodies) -> Iterator[bytes]:
    """The blocks in order, two of them loaded ahead."""
    waiting: Deque[Future[bytes]] = deque()
    for numbers in bodies.blocks():
        waiting.append(loader.submit(bodies.load, numbers))
        if len(waiting) > 2:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write_all(stream: BinaryIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[stream.write(view) :]
