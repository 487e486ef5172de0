# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PMTiles version 3: header, directories, and a reader over a memory map.

Runs on the companion: standard library only, Python 3.8. Source of the format:
https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md
"""

from __future__ import annotations

import json
import mmap
import os
import stat
import struct
import zlib
from array import array
from bisect import bisect_right
from dataclasses import dataclass, fields
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ._errors import TileSourceError

__all__ = [
    "HEADER_BYTES",
    "MAX_ROOT_BYTES",
    "Directory",
    "PmtilesEntry",
    "PmtilesHeader",
    "PmtilesReader",
    "decode_directory",
    "decompress",
    "encode_directory",
    "encode_header",
    "find_entry",
    "parse_header",
    "tile_id_to_zxy",
    "zxy_to_tile_id",
]

HEADER_BYTES = 127
MAX_ROOT_BYTES = 16384 - HEADER_BYTES
"""A client reads the first 16 KiB at once and expects header and root directory in it."""
MAX_DIRECTORY_BYTES = 64 * 1024 * 1024
MAX_METADATA_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 4
MAX_ZOOM = 26

COMPRESSION_NONE = 1
COMPRESSION_GZIP = 2
TILE_TYPES = {"unknown": 0, "mvt": 1, "png": 2, "jpg": 3, "webp": 4, "avif": 5}
_HEADER = struct.Struct("<7sB11Q6B4iB2i")


class PmtilesEntry(NamedTuple):
    """`run_length` 0 points to a leaf directory, otherwise to a tile that repeats over that many ids."""

    tile_id: int
    offset: int
    length: int
    run_length: int


@dataclass(frozen=True)
class PmtilesHeader:
    """The fixed header; offsets count from the file's start, `tile_data_offset` is the base of the entries' offsets."""

    root_offset: int
    root_length: int
    metadata_offset: int
    metadata_length: int
    leaf_offset: int
    leaf_length: int
    tile_data_offset: int
    tile_data_length: int
    addressed_tiles: int
    tile_entries: int
    tile_contents: int
    clustered: bool
    internal_compression: int
    tile_compression: int
    tile_type: int
    min_zoom: int
    max_zoom: int
    min_lon_e7: int
    min_lat_e7: int
    max_lon_e7: int
    max_lat_e7: int
    center_zoom: int
    center_lon_e7: int
    center_lat_e7: int


class Directory(NamedTuple):
    """A decoded directory, a column for each field."""

    tile_ids: Sequence[int]
    offsets: Sequence[int]
    lengths: Sequence[int]
    run_lengths: Sequence[int]


def encode_header(header: PmtilesHeader) -> bytes:
    """The 127 bytes of the header."""
    return _HEADER.pack(
        b"PMTiles", 3,
        header.root_offset, header.root_length, header.metadata_offset, header.metadata_length,
        header.leaf_offset, header.leaf_length, header.tile_data_offset, header.tile_data_length,
        header.addressed_tiles, header.tile_entries, header.tile_contents,
        int(header.clustered), header.internal_compression, header.tile_compression, header.tile_type,
        header.min_zoom, header.max_zoom,
        header.min_lon_e7, header.min_lat_e7, header.max_lon_e7, header.max_lat_e7,
        header.center_zoom, header.center_lon_e7, header.center_lat_e7,
    )  # fmt: skip


def parse_header(content: bytes, *, where: str, size_bytes: Optional[int] = None) -> PmtilesHeader:
    """The header; with `size_bytes`, every section must lie within a file of that size.

    Raises:
        TileSourceError: not PMTiles version 3, or a section outside the file.
    """
    if len(content) < HEADER_BYTES or content[:7] != b"PMTiles":
        raise TileSourceError(f"{where} is not a PMTiles archive")
    values = _HEADER.unpack(content[:HEADER_BYTES])
    if values[1] != 3:
        raise TileSourceError(f"{where} is PMTiles version {values[1]}; version 3 is needed")
    names = [item.name for item in fields(PmtilesHeader)]
    header = PmtilesHeader(**dict(zip(names, values[2:])))
    for name in ("root", "metadata", "leaf", "tile_data"):
        offset, length = getattr(header, name + "_offset"), getattr(header, name + "_length")
        if length and (offset < HEADER_BYTES or (size_bytes is not None and offset + length > size_bytes)):
            raise TileSourceError(f"{where} is cut or damaged: its {name} section lies outside the file")
    return header


def decompress(content: bytes, compression: int, *, max_bytes: int, where: str) -> bytes:
    """Undo the internal compression, bounded.

    Raises:
        TileSourceError: damaged, larger than `max_bytes`, or of a compression other than none and gzip.
    """
    if compression == COMPRESSION_NONE:
        return content
    if compression != COMPRESSION_GZIP:
        raise TileSourceError(f"{where} uses internal compression {compression}; none and gzip are read")
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(content, max_bytes)
    except zlib.error as exc:
        raise TileSourceError(f"{where} has a damaged directory: {exc}") from None
    if inflater.unconsumed_tail or not inflater.eof:
        raise TileSourceError(f"{where} has a damaged or too large directory")
    return plain


def _varints(content: bytes, *, where: str) -> List[int]:
    values: List[int] = []
    value = shift = 0
    for byte in content:
        if byte < 0x80:
            values.append(value | byte << shift)
            value = shift = 0
        else:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise TileSourceError(f"{where} has a damaged directory: number too large")
    if shift:
        raise TileSourceError(f"{where} has a damaged directory: it ends within a number")
    return values


def decode_directory(content: bytes, *, where: str) -> Directory:
    """A directory from its plain bytes.

    Raises:
        TileSourceError: damaged: wrong counts, unsorted or impossible entries.
    """
    values = _varints(content, where=where)
    count = values[0] if values else -1
    if count < 0 or len(values) != 1 + 4 * count:
        raise TileSourceError(f"{where} has a damaged directory: {len(values)} numbers for {count} entries")
    tile_id = 0
    tile_ids, offsets = array("Q"), array("Q")
    lengths = values[1 + 2 * count : 1 + 3 * count]
    run_lengths = values[1 + count : 1 + 2 * count]
    try:
        for index in range(count):
            step = values[1 + index]
            if index and not step:
                raise TileSourceError(f"{where} has a damaged directory: tile ids do not rise")
            tile_id += step
            tile_ids.append(tile_id)
            # wire layout: counts, ids (deltas), run lengths, lengths, offsets (0: right after the one before)
            raw = values[1 + 3 * count + index]
            if raw:
                offsets.append(raw - 1)
            elif index:
                offsets.append(offsets[index - 1] + lengths[index - 1])
            else:
                raise TileSourceError(f"{where} has a damaged directory: the first entry has no offset")
        return Directory(tile_ids, offsets, array("Q", lengths), array("Q", run_lengths))
    except OverflowError:
        raise TileSourceError(f"{where} has a damaged directory: number too large") from None


def _append_varint(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def encode_directory(entries: Sequence[PmtilesEntry]) -> bytes:
    """The plain bytes of a directory whose entries are sorted by tile id."""
    out = bytearray()
    _append_varint(out, len(entries))
    previous = 0
    for entry in entries:
        _append_varint(out, entry.tile_id - previous)
        previous = entry.tile_id
    for entry in entries:
        _append_varint(out, entry.run_length)
    for entry in entries:
        _append_varint(out, entry.length)
    following = -1
    for entry in entries:
        _append_varint(out, 0 if entry.offset == following else entry.offset + 1)
        following = entry.offset + entry.length
    return bytes(out)


def zxy_to_tile_id(z: int, x: int, y: int) -> int:
    """Position of a tile on the Hilbert curves of all zooms, one zoom after the other."""
    base = ((1 << 2 * z) - 1) // 3
    side = (1 << z) - 1
    position = 0
    half = 1 << z >> 1
    while half:
        right, low = 1 if x & half else 0, 1 if y & half else 0
        position += half * half * (3 * right ^ low)
        if not low:
            if right:
                x, y = side - x, side - y
            x, y = y, x
        half >>= 1
    return base + position


def tile_id_to_zxy(tile_id: int) -> Tuple[int, int, int]:
    """The inverse of `zxy_to_tile_id`: z, x, y."""
    z, base = 0, 0
    while tile_id >= base + (1 << 2 * z):
        base += 1 << 2 * z
        z += 1
    position, x, y, half = tile_id - base, 0, 0, 1
    while half < 1 << z:
        right = 1 & position >> 1
        low = 1 & (position ^ right)
        if not low:
            if right:
                x, y = half - 1 - x, half - 1 - y
            x, y = y, x
        x += half * right
        y += half * low
        position >>= 2
        half <<= 1
    return z, x, y


def find_entry(directory: Directory, tile_id: int) -> Optional[PmtilesEntry]:
    """The entry that covers a tile id: a tile's, or that of the leaf directory to look into."""
    index = bisect_right(directory.tile_ids, tile_id) - 1
    if index < 0:
        return None
    run_length, first = directory.run_lengths[index], directory.tile_ids[index]
    if run_length and tile_id - first >= run_length:
        return None
    return PmtilesEntry(first, directory.offsets[index], directory.lengths[index], run_length)


class PmtilesReader:
    """Random access to a PMTiles archive: each directory is decoded once, tiles are slices of a memory map.

    Args:
        path: the archive.

    Raises:
        TileSourceError: missing, not a regular file, not PMTiles 3, cut or damaged.
    """

    def __init__(self, path: str) -> None:
        self.path = str(path)
        self._where = "archive " + os.path.basename(self.path)
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            raise TileSourceError(f"cannot open the archive {self.path}: {exc.strerror}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size < HEADER_BYTES:
                raise TileSourceError(f"{self.path} is not a PMTiles archive")
            self.size_bytes = status.st_size
            self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        try:
            self.header = parse_header(self._map[:HEADER_BYTES], where=self._where, size_bytes=self.size_bytes)
            self._root = self._directory(self.header.root_offset, self.header.root_length)
        except BaseException:
            self._map.close()
            raise
        self._leaves: Dict[int, Directory] = {}

    def __enter__(self) -> "PmtilesReader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the file; the reader is of no use afterwards."""
        self._map.close()

    def _directory(self, offset: int, length: int) -> Directory:
        plain = decompress(
            self._map[offset : offset + length],
            self.header.internal_compression,
            max_bytes=MAX_DIRECTORY_BYTES,
            where=self._where,
        )
        return decode_directory(plain, where=self._where)

    def _leaf(self, offset: int, length: int) -> Directory:
        leaf = self._leaves.get(offset)
        if leaf is None:
            if offset + length > self.header.leaf_length:
                raise TileSourceError(f"{self._where} is damaged: a leaf directory lies outside its section")
            leaf = self._leaves[offset] = self._directory(self.header.leaf_offset + offset, length)
        return leaf

    def metadata(self) -> Dict[str, Any]:
        """The JSON metadata, {} where it is none."""
        header = self.header
        content = self._map[header.metadata_offset : header.metadata_offset + header.metadata_length]
        if not content:
            return {}
        plain = decompress(content, header.internal_compression, max_bytes=MAX_METADATA_BYTES, where=self._where)
        try:
            found = json.loads(plain)
        except (ValueError, RecursionError):
            raise TileSourceError(f"{self._where} has damaged metadata") from None
        return found if isinstance(found, dict) else {}

    def locate(self, tile_id: int) -> Optional[Tuple[int, int]]:
        """Offset in the file and length of a tile, None where the archive has none."""
        directory = self._root
        for _depth in range(MAX_DEPTH):
            entry = find_entry(directory, tile_id)
            if entry is None:
                return None
            if entry.run_length:
                if entry.offset + entry.length > self.header.tile_data_length:
                    raise TileSourceError(f"{self._where} is damaged: tile {tile_id} lies outside its section")
                return self.header.tile_data_offset + entry.offset, entry.length
            directory = self._leaf(entry.offset, entry.length)
        raise TileSourceError(f"{self._where} is damaged: its directories are nested too deeply")

    def get(self, z: int, x: int, y: int) -> Optional[bytes]:
        """The tile's bytes (tile compression undone), None where the archive has no such tile."""
        found = self.locate(zxy_to_tile_id(z, x, y))
        if found is None:
            return None
        content = self._map[found[0] : found[0] + found[1]]
        if self.header.tile_compression == COMPRESSION_GZIP:
            return decompress(content, COMPRESSION_GZIP, max_bytes=MAX_METADATA_BYTES, where=self._where)
        return content

    def entries(self) -> Iterator[PmtilesEntry]:
        """All tile entries, by tile id; leaf directories are followed, not shown."""
        return self._walk(self._root, 1)

    def _walk(self, directory: Directory, depth: int) -> Iterator[PmtilesEntry]:
        if depth > MAX_DEPTH:
            raise TileSourceError(f"{self._where} is damaged: its directories are nested too deeply")
        for entry in map(PmtilesEntry._make, zip(*directory)):
            if entry.run_length:
                yield entry
            else:
                yield from self._walk(self._leaf(entry.offset, entry.length), depth + 1)
