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
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, BinaryIO, Deque, Iterator, List, Mapping, Optional, Tuple

from ._atomic_file import fsync_folder
from ._errors import CoverageIncompleteError, DownloadError
from ._pmtiles import (
    COMPRESSION_GZIP,
    COMPRESSION_NONE,
    HEADER_BYTES,
    TILE_TYPES,
    PmtilesHeader,
    encode_header,
)
from ._tile_archive_index import ArchiveBodies, plan_archive, stored_gzip
from ._tile_check import sniff_format
from ._tile_delta import SHORT_HASH_BYTES
from ._tile_source import TileSource
from ._tile_store import TileStore
from ._tiles import Tile, TileSet, tile_bounds

__all__ = ["ArchiveInfo", "cut_archive"]

WRITE_BYTES = 4 * 1024 * 1024
AHEAD = 2


@dataclass(frozen=True)
class ArchiveInfo:
    """A written archive; `tile_count` counts different bodies, `addressed_count` tiles.

    `body_hashes` are the short hashes (`_tile_delta`) of the bodies in the order of the file.
    """

    path: Path
    sha256: str
    size_bytes: int
    tile_count: int
    addressed_count: int
    body_hashes: bytes


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
    number = store.source_number(source.source_key)
    index = plan_archive(tiles, store, -1 if number is None else number)
    bodies = _Bodies(store, index.bodies)
    if not index.addressed:
        raise CoverageIncompleteError(f"the tile store has none of the {len(tiles)} tiles of source {source.id}")
    root, leaves = index.root, index.leaves
    end = int(index.bodies.lengths.sum())
    image_format = sniff_format(bodies.read(0)) or "unknown"
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
        addressed_tiles=index.addressed, tile_entries=index.entries, tile_contents=len(index.bodies),
        clustered=True, internal_compression=COMPRESSION_GZIP, tile_compression=COMPRESSION_NONE,
        tile_type=TILE_TYPES[image_format], min_zoom=zooms[0], max_zoom=zooms[-1],
        min_lon_e7=west, min_lat_e7=south, max_lon_e7=east, max_lat_e7=north,
        center_zoom=zooms[0], center_lon_e7=(west + east) // 2, center_lat_e7=(south + north) // 2,
    )  # fmt: skip
    front = encode_header(header) + root + described + leaves
    digest = _write(Path(path), front, bodies)
    hashes = index.bodies.digests[:, :SHORT_HASH_BYTES].tobytes()
    return ArchiveInfo(Path(path), digest, data_offset + end, len(index.bodies), index.addressed, hashes)


class _Bodies:
    """The bodies of the archive in blocks, each body checked against its SHA-256."""

    def __init__(self, store: TileStore, bodies: ArchiveBodies) -> None:
        self._store, self._bodies = store, bodies
        self._ends = bodies.lengths.cumsum()
        self.block_bytes = max(WRITE_BYTES, int(bodies.lengths.max(initial=0)))
        self._damaged: List[int] = []

    def blocks(self) -> Iterator[range]:
        """Ranges of bodies that make about a block together."""
        first = 0
        while first < len(self._bodies):
            whole = int(self._ends.searchsorted(self._start(first) + self.block_bytes, side="right"))
            yield range(first, whole)
            first = whole

    def _start(self, index: int) -> int:
        return int(self._ends[index - 1]) if index else 0

    def read(self, index: int) -> bytes:
        """The bytes of one body."""
        bodies = self._bodies
        return self._store.read(int(bodies.packs[index]), int(bodies.offsets[index]), int(bodies.lengths[index]))

    def load(self, block: range, space: memoryview) -> memoryview:
        """Fill a space of `block_bytes` with a block's bodies and return that part of it; damaged bodies are noted."""
        part = slice(block.start, block.stop)
        packs, offsets, lengths = (
            column[part].tolist() for column in (self._bodies.packs, self._bodies.offsets, self._bodies.lengths)
        )
        digests = self._bodies.digests[part].tobytes()
        start = 0
        for place, (pack, offset, length) in enumerate(zip(packs, offsets, lengths)):
            body = space[start : start + length]
            self._store.read_into(pack, offset, body)
            if hashlib.sha256(body).digest() != digests[32 * place : 32 * place + 32]:
                self._damaged.append(int(self._bodies.numbers[block.start + place]))
            start += length
        return space[:start]

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
            _write_all(stream, memoryview(front))
            for block in _ahead(loader, bodies):
                hashed = hasher.submit(digest.update, block)
                _write_all(stream, block)
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


def _ahead(loader: ThreadPoolExecutor, bodies: _Bodies) -> Iterator[memoryview]:
    """The blocks in order, two of them loaded ahead; a block is good until the next one is asked for.

    Their memory is used again and again: fresh pages for every block cost as much as half of the hashing.
    """
    spaces = cycle([memoryview(bytearray(bodies.block_bytes)) for _space in range(AHEAD + 1)])
    waiting: Deque[Future[memoryview]] = deque()
    for block in bodies.blocks():
        waiting.append(loader.submit(bodies.load, block, next(spaces)))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write_all(stream: BinaryIO, view: memoryview) -> None:
    while view:
        view = view[stream.write(view) :]
