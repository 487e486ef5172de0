# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The index of an archive that is being cut: which body each tile has, in Hilbert order, and its PMTiles directories.

Arrays, not objects: a million tiles take some 60 MB while they are put in order.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from ._errors import DownloadError
from ._pmtiles import MAX_ROOT_BYTES
from ._tile_store import TileStore
from ._tiles import TileSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

__all__ = ["ArchiveBodies", "ArchiveIndex", "encode_columns", "hilbert_ids", "plan_archive", "stored_gzip"]

LEAF_ENTRIES = 4096
FLUSH_TILES = 1 << 17


@dataclass(frozen=True)
class ArchiveBodies:
    """The bodies of an archive in the order in which they are written, a column for each field of the store's index."""

    numbers: Integers
    packs: Integers
    offsets: Integers
    lengths: Integers
    digests: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class ArchiveIndex:
    """Bodies, and the two directory sections as they stand in the archive."""

    bodies: ArchiveBodies
    addressed: int
    entries: int
    root: bytes
    leaves: bytes


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


def hilbert_ids(z: int, columns: Integers, rows: Integers) -> Integers:
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


def encode_columns(tile_ids: Integers, run_lengths: Integers, lengths: Integers, offsets: Integers) -> bytes:
    """`encode_directory` over columns: the plain bytes of a directory."""
    import numpy as np

    steps = np.diff(tile_ids, prepend=0)
    places = offsets + 1
    places[1:][offsets[1:] == offsets[:-1] + lengths[:-1]] = 0
    count = np.array([len(tile_ids)], dtype=np.int64)
    rest = np.concatenate([count, steps, run_lengths, lengths, places])
    groups = np.zeros((len(rest), 10), dtype=np.uint8)
    used = np.zeros((len(rest), 10), dtype=bool)
    more = np.ones(len(rest), dtype=bool)
    for place in range(10):
        used[:, place] = more
        groups[:, place] = rest & 0x7F
        rest >>= 7
        more = more & (rest > 0)
        groups[more, place] |= 0x80
        if not more.any():
            break
    return groups[used].tobytes()


def _directories(
    tile_ids: Integers, run_lengths: Integers, lengths: Integers, offsets: Integers
) -> Tuple[bytes, bytes]:
    """Root and leaf section, both compressed; leaves as large as needed for a root that fits the first 16 KiB."""
    import numpy as np

    if len(tile_ids) <= MAX_ROOT_BYTES:
        root = stored_gzip(encode_columns(tile_ids, run_lengths, lengths, offsets))
        if len(root) <= MAX_ROOT_BYTES:
            return root, b""
    leaf_entries = LEAF_ENTRIES
    while True:
        leaves: List[bytes] = []
        for start in range(0, len(tile_ids), leaf_entries):
            part = slice(start, start + leaf_entries)
            leaves.append(stored_gzip(encode_columns(tile_ids[part], run_lengths[part], lengths[part], offsets[part])))
        sizes = np.array([len(leaf) for leaf in leaves], dtype=np.int64)
        starts = np.cumsum(sizes) - sizes
        root = stored_gzip(encode_columns(tile_ids[::leaf_entries], np.zeros_like(sizes), sizes, starts))
        if len(root) <= MAX_ROOT_BYTES:
            return root, b"".join(leaves)
        leaf_entries *= 2


def _collect(tiles: TileSet, store: TileStore, source: int) -> Tuple[Integers, Integers]:
    """Tile ids in order, and the body's number of each."""
    import numpy as np

    ids: List[Integers] = []
    numbers: List[Integers] = []
    pending: Dict[int, Tuple[List[int], List[int], List[int]]] = {}

    def flush(z: int) -> None:
        columns, rows, blobs = pending.pop(z)
        ids.append(hilbert_ids(z, np.array(columns, dtype=np.int64), np.array(rows, dtype=np.int64)))
        numbers.append(np.array(blobs, dtype=np.int64))

    for run in tiles.runs:
        columns, rows, blobs = pending.setdefault(run.z, ([], [], []))
        for x, blob, _length in store.present_columns(source, run):
            columns.append(x)
            rows.append(run.y)
            blobs.append(blob)
        if len(columns) >= FLUSH_TILES:
            flush(run.z)
    for z in list(pending):
        flush(z)
    if not ids:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    all_ids, all_numbers = np.concatenate(ids), np.concatenate(numbers)
    order = np.argsort(all_ids, kind="stable")
    return all_ids[order], all_numbers[order]


def _look_up(store: TileStore, numbers: Integers, rank: Integers) -> ArchiveBodies:
    """Where the bodies lie; `numbers` sorted, and `rank` the place of each in the result."""
    import numpy as np

    table = np.zeros((4, len(numbers)), dtype=np.int64)
    digests = np.zeros((len(numbers), 32), dtype=np.uint8)
    found = 0
    for rows in store.body_rows(numbers):
        *columns, hashes = zip(*rows) if rows else [()] * 5
        part = slice(found, found + len(rows))
        if not np.array_equal(columns[0], numbers[part]):
            break
        table[:, rank[part]] = columns
        digests[rank[part]] = np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, 32)
        found += len(rows)
    if found != len(numbers):
        raise DownloadError(
            f"the index of the tile store {store.root} is damaged: a tile without a body",
            remediation=f"Move {store.root} away and run again: the tiles are downloaded anew.",
        )
    return ArchiveBodies(table[0], table[1], table[2], table[3], digests)


def plan_archive(tiles: TileSet, store: TileStore, source: int) -> ArchiveIndex:
    """The index over those of the tiles that the store has; without bodies where it has none."""
    import numpy as np

    ids, numbers = _collect(tiles, store, source)
    numbers, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    # Bodies are written in the order in which their tiles come first: that is what PMTiles calls clustered.
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    body_of: Any = rank[inverse]
    del first, inverse, order  # a column of a million tiles is 8 MB
    bodies = _look_up(store, numbers, rank)
    del numbers, rank
    starts = np.cumsum(bodies.lengths) - bodies.lengths
    if len(ids) == 0:
        return ArchiveIndex(bodies, 0, 0, b"", b"")
    # A run goes on while the ids follow each other and the body stays the same.
    begins = np.ones(len(ids), dtype=bool)
    begins[1:] = (np.diff(ids) != 1) | (np.diff(body_of) != 0)
    at = np.flatnonzero(begins)
    run_lengths = np.diff(np.append(at, len(ids)))
    entry_bodies = body_of[at]
    root, leaves = _directories(ids[at], run_lengths, bodies.lengths[entry_bodies], starts[entry_bodies])
    return ArchiveIndex(bodies, len(ids), len(at), root, leaves)
