# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Reads PMTiles version 3 archives through a memory map, with the standard library alone.

Format: https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md
"""

from __future__ import annotations

import gzip
import io
import json
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, Tuple, Type

from ._errors import BuilderError

__all__ = ["PmtilesReader", "TileEntry", "tile_id_of", "zxy_of"]

_HEADER = struct.Struct("<7sB QQQQQQQQ QQQ BBBBBB iiii B ii")
_MAX_DIRECTORY_BYTES = 64 * 1024 * 1024
_MAX_DEPTH = 4
_GZIP, _NONE = 2, 1


@dataclass(frozen=True)
class TileEntry:
    """One addressed tile: its place and its bytes' place in the archive."""

    z: int
    x: int
    y: int
    offset: int
    length: int


def tile_id_of(z: int, x: int, y: int) -> int:
    """The archive's tile number: tiles of all lower zooms, plus the Hilbert index within zoom `z`."""
    number = ((1 << (2 * z)) - 1) // 3
    side = 1 << z
    half = side >> 1
    while half > 0:
        rx = 1 if x & half else 0
        ry = 1 if y & half else 0
        number += half * half * ((3 * rx) ^ ry)
        if ry == 0:
            if rx:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        half >>= 1
    return number


def zxy_of(tile_id: int) -> Tuple[int, int, int]:
    """The inverse of `tile_id_of`."""
    z = 0
    start = 0
    while tile_id >= start + (1 << (2 * z)):
        start += 1 << (2 * z)
        z += 1
        if z > 31:
            raise BuilderError("archive_invalid", "the tile archive names a tile beyond zoom 31")
    rest = tile_id - start
    x = y = 0
    step = 1
    while step < (1 << z):
        rx = 1 & (rest // 2)
        ry = 1 & (rest ^ rx)
        if ry == 0:
            if rx:
                x, y = step - 1 - x, step - 1 - y
            x, y = y, x
        x += step * rx
        y += step * ry
        rest //= 4
        step <<= 1
    return z, x, y


class PmtilesReader:
    """A tile archive, open. Use as a context manager.

    Raises:
        BuilderError: `archive_missing` or `archive_invalid`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open(path, "rb")
        except OSError as error:
            raise BuilderError(
                "archive_missing",
                "the tile archive %s cannot be opened: %s" % (path, error.strerror),
                hint="send the archive again",
            ) from error
        try:
            self._size_bytes = self._file.seek(0, io.SEEK_END)
            if self._size_bytes < _HEADER.size:
                raise BuilderError("archive_invalid", "the tile archive %s is too short to be PMTiles" % path)
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except BaseException:
            self._file.close()
            raise
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        fields = _HEADER.unpack_from(self._map, 0)
        if fields[0] != b"PMTiles":
            raise BuilderError("archive_invalid", "%s is not a PMTiles archive" % self.path)
        if fields[1] != 3:
            raise BuilderError(
                "archive_invalid", "%s is PMTiles version %d; version 3 is needed" % (self.path, fields[1])
            )
        self._root = (fields[2], fields[3])
        self._metadata_at = (fields[4], fields[5])
        self._leaves_at = fields[6]
        self._data_at, self._data_length = fields[8], fields[9]
        self._internal_compression = fields[14]
        self.tile_compression = fields[15]
        self.tile_type = fields[16]
        if self._internal_compression not in (_NONE, _GZIP) or self.tile_compression not in (0, _NONE, _GZIP):
            raise BuilderError("archive_invalid", "the tile archive uses a compression other than none or gzip")
        if self._data_at + self._data_length > self._size_bytes:
            raise BuilderError("archive_invalid", "the tile archive %s is cut short" % self.path, hint="send it again")

    def metadata(self) -> Dict[str, Any]:
        """The archive's JSON metadata; empty where it is unreadable, since nothing depends on it."""
        try:
            data = json.loads(self._unpacked(*self._metadata_at).decode("utf-8"))
        except (ValueError, BuilderError):
            return {}
        return data if isinstance(data, dict) else {}

    def _unpacked(self, offset: int, length: int) -> bytes:
        if offset + length > self._size_bytes:
            raise BuilderError("archive_invalid", "the tile archive %s is cut short" % self.path, hint="send it again")
        raw = self._map[offset : offset + length]
        if self._internal_compression == _NONE:
            return raw
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
                data = stream.read(_MAX_DIRECTORY_BYTES + 1)
        except (OSError, EOFError, ValueError) as error:
            raise BuilderError("archive_invalid", "a directory of the tile archive cannot be unpacked") from error
        except Exception as error:  # zlib.error derives from Exception alone
            if type(error).__name__ != "error":
                raise
            raise BuilderError("archive_invalid", "a directory of the tile archive cannot be unpacked") from error
        if len(data) > _MAX_DIRECTORY_BYTES:
            raise BuilderError("archive_invalid", "a directory of the tile archive unpacks to over 64 MiB")
        return data

    def _directory(self, offset: int, length: int) -> List[Tuple[int, int, int, int]]:
        data = self._unpacked(offset, length)
        at = 0

        def varint() -> int:
            nonlocal at
            value = shift = 0
            while True:
                if at >= len(data) or shift > 63:
                    raise BuilderError("archive_invalid", "a directory of the tile archive is damaged")
                byte = data[at]
                at += 1
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    return value
                shift += 7

        count = varint()
        if count > len(data):
            raise BuilderError("archive_invalid", "a directory of the tile archive is damaged")
        ids: List[int] = []
        last = 0
        for _index in range(count):
            last += varint()
            ids.append(last)
        runs = [varint() for _index in range(count)]
        lengths = [varint() for _index in range(count)]
        offsets: List[int] = []
        for index in range(count):
            value = varint()
            if value == 0:
                if index == 0:
                    raise BuilderError("archive_invalid", "a directory of the tile archive is damaged")
                offsets.append(offsets[-1] + lengths[index - 1])
            else:
                offsets.append(value - 1)
        return list(zip(ids, runs, lengths, offsets))

    def entries(self) -> Iterator[TileEntry]:
        """Every addressed tile, in the archive's order."""
        yield from self._walk(self._root[0], self._root[1], 0)

    def _walk(self, offset: int, length: int, depth: int) -> Iterator[TileEntry]:
        if depth >= _MAX_DEPTH:
            raise BuilderError("archive_invalid", "the tile archive's directories nest too deep")
        for tile_id, run, size_bytes, at in self._directory(offset, length):
            if run == 0:
                yield from self._walk(self._leaves_at + at, size_bytes, depth + 1)
                continue
            if at + size_bytes > self._data_length or run > (1 << 24):
                raise BuilderError("archive_invalid", "the tile archive points beyond its end")
            for step in range(run):
                z, x, y = zxy_of(tile_id + step)
                yield TileEntry(z=z, x=x, y=y, offset=at, length=size_bytes)

    def read(self, offset: int, length: int) -> bytes:
        """A tile's bytes, as stored for `TileEntry.offset` and `.length`."""
        start = self._data_at + offset
        data = self._map[start : start + length]
        if self.tile_compression == _GZIP:
            try:
                with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                    return stream.read(16 * 1024 * 1024)
            except Exception:  # noqa: BLE001 - a damaged tile is a verdict of the screen, not a failure of the archive
                return b""
        return data

    def close(self) -> None:
        """Close the map and the file."""
        self._map.close()
        self._file.close()

    def __enter__(self) -> PmtilesReader:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()
