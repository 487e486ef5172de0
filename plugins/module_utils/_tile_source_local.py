# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tiles on this machine's disk: PMTiles and MBTiles archives, z/x/y folders; GeoTIFF has a file of its own."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import stat
from typing import Any, NamedTuple, Optional
from urllib.parse import quote

from ._errors import TileSourceError
from ._pmtiles import PmtilesReader
from ._tiles import Tile

__all__ = ["LocalTile", "LocalTiles", "check_local_path", "file_identity", "open_local"]

MAX_FILE_BYTES = 16 * 1024 * 1024
SUFFIXES = (".jpg", ".png", ".webp", ".jpeg")


class LocalTile(NamedTuple):
    """A tile's bytes, and a stamp that changes with them."""

    body: bytes
    stamp: Optional[str]


class LocalTiles:
    """An open local source; `identity` changes where the tiles may have, `max_zoom` is the finest of use."""

    identity: Any = None
    stamped = False
    max_zoom = 24

    def __enter__(self) -> "LocalTiles":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def read(self, tile: Tile) -> Optional[LocalTile]:
        """The tile, None where the source has none."""
        raise NotImplementedError

    def stamp(self, tile: Tile) -> Optional[str]:
        """The stamp alone; None where the source has none."""
        return None

    def close(self) -> None:
        """Release the files."""


def check_local_path(path: str) -> None:
    """Refuse what names a server, or a virtual file of GDAL, where a path is wanted.

    Raises:
        TileSourceError: it is none of this machine's disk. What may be secret in it (a signed URL) is not repeated.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", path)
    virtual = re.match(r"/+vsi[a-z0-9_]*(?=/|$)", path)
    if scheme or virtual:
        what = virtual.group(0) if virtual else f"{scheme.group(1)}://" if scheme else ""
        raise TileSourceError(
            f"a tile source by {what} is not read: archives and GeoTIFF files are read from this machine's disk alone",
            remediation="Download the file first, and give its path as tile source.",
        )


def file_identity(path: str) -> Any:
    """What changes when a file does."""
    try:
        status = os.stat(path)
    except OSError as exc:
        raise TileSourceError(f"cannot open the tile source {path}: {exc.strerror}") from None
    return [path, status.st_size, status.st_mtime_ns]


class _Pmtiles(LocalTiles):
    def __init__(self, path: str) -> None:
        self.identity = file_identity(path)
        self._reader = PmtilesReader(path)

    def read(self, tile: Tile) -> Optional[LocalTile]:
        body = self._reader.get(tile.z, tile.x, tile.y)
        return None if body is None else LocalTile(body, None)

    def close(self) -> None:
        self._reader.close()


class _Mbtiles(LocalTiles):
    """SQLite with TMS rows (mbtiles-spec 1.3)."""

    def __init__(self, path: str) -> None:
        self.identity = file_identity(path)
        if not os.path.isfile(path):
            raise TileSourceError(f"the tile source {path} is not a file")
        self._path = path
        try:
            self._db = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=5.0)
        except sqlite3.Error as exc:
            raise TileSourceError(f"{path} cannot be opened as an MBTiles archive: {exc}") from None
        try:
            self._db.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles LIMIT 1").fetchone()
        except sqlite3.Error as exc:
            self._db.close()
            raise TileSourceError(f"{path} is not an MBTiles archive, or is damaged: {exc}") from None

    def read(self, tile: Tile) -> Optional[LocalTile]:
        try:
            row = self._db.execute(
                "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?",
                (tile.z, tile.x, (1 << tile.z) - 1 - tile.y),
            ).fetchone()
        except sqlite3.Error as exc:
            raise TileSourceError(f"the tile source {self._path} is damaged: {exc}") from None
        if row is None or row[0] is None or len(row[0]) == 0:
            return None
        return LocalTile(row[0].encode() if isinstance(row[0], str) else bytes(row[0]), None)

    def close(self) -> None:
        self._db.close()


class _Folder(LocalTiles):
    stamped = True

    def __init__(self, path: str, *, from_south: bool = False) -> None:
        if not os.path.isdir(path):
            raise TileSourceError(f"the tile folder {path} does not exist")
        self.identity = path
        self._path = path
        self._from_south = from_south
        self._suffixes = list(SUFFIXES)

    def _stem(self, tile: Tile) -> str:
        row = (1 << tile.z) - 1 - tile.y if self._from_south else tile.y
        return f"{self._path}/{tile.z}/{tile.x}/{row}"

    def _find(self, tile: Tile) -> Optional[int]:
        stem = self._stem(tile)
        for suffix in self._suffixes:
            name = stem + suffix
            try:
                found = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as exc:
                if exc.errno in (errno.ENOENT, errno.ENOTDIR):
                    continue
                raise TileSourceError(f"cannot read {name}: {exc.strerror}") from None
            if suffix != self._suffixes[0]:
                self._suffixes.remove(suffix)
                self._suffixes.insert(0, suffix)
            return found
        return None

    def read(self, tile: Tile) -> Optional[LocalTile]:
        descriptor = self._find(tile)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise TileSourceError(f"tile {tile.z}/{tile.x}/{tile.y} in {self._path} is not a regular file")
            body = stream.read(MAX_FILE_BYTES + 1)
        return LocalTile(body, f"{status.st_mtime_ns}-{status.st_size}")

    def stamp(self, tile: Tile) -> Optional[str]:
        stem = self._stem(tile)
        for suffix in self._suffixes:
            try:
                status = os.stat(stem + suffix, follow_symlinks=False)
            except OSError:
                continue
            return f"{status.st_mtime_ns}-{status.st_size}"
        return None


def open_local(kind: str, path: str, *, tile_size_px: int = 256, image_format: str = "auto") -> LocalTiles:
    """The tiles at a path; size and format are for what is rendered.

    Raises:
        TileSourceError: missing, unreadable, damaged or of another kind.
    """
    if kind == "geotiff":
        from ._tile_source_geotiff import GeotiffTiles

        return GeotiffTiles(path, tile_size_px=tile_size_px, image_format=image_format)
    if kind == "folder_tms":
        return _Folder(path, from_south=True)
    return {"pmtiles": _Pmtiles, "mbtiles": _Mbtiles, "folder": _Folder}[kind](path)
