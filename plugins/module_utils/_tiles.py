# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tile grid: Web Mercator tiles in the XYZ scheme, and sets of them kept as runs.

A set of tiles is held as horizontal runs, never as a list of tiles, so that ten million tiles
cost as much memory as the outline of their area.
"""

from __future__ import annotations

import hashlib
import math
import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from ._geo import MAX_MERCATOR_LAT_DEG, BBox, LonLat

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "EARTH_RADIUS_M",
    "MAX_ZOOM",
    "Tile",
    "TileRun",
    "TileSet",
    "ground_resolution_m",
    "tile_at",
    "tile_bounds",
    "zoom_for_gsd",
]

EARTH_RADIUS_M = 6378137.0
"""Radius of the sphere of Web Mercator (EPSG:3857), the semi-major axis of WGS 84."""

MAX_ZOOM = 24
"""Deepest zoom that is accepted: at 24 a tile of 256 pixels resolves 1 cm at the equator."""


class Tile(NamedTuple):
    """One tile: zoom, column from the west, row from the north. Tuples sort by zoom, column, row."""

    z: int
    x: int
    y: int

    @classmethod
    def of(cls, z: int, x: int, y: int) -> Tile:
        """The tile, checked. Raises ValueError where the zoom has no such column or row."""
        if not 0 <= z <= MAX_ZOOM:
            raise ValueError(f"zoom {z} is outside 0 to {MAX_ZOOM}")
        side = 1 << z
        if not (0 <= x < side and 0 <= y < side):
            raise ValueError(f"tile {z}/{x}/{y} does not exist: zoom {z} has columns and rows 0 to {side - 1}")
        return cls(z, x, y)


# Runs are checked once when the set is made: its tiles need no constructor of their own.
_unchecked: Callable[[Tuple[int, int, int]], Tile] = partial(tuple.__new__, Tile)


class TileRun(NamedTuple):
    """Neighbouring tiles of one row, from column `x_first` to `x_last`, both included."""

    z: int
    y: int
    x_first: int
    x_last: int


@dataclass(frozen=True)
class TileSet:
    """A set of tiles, held as runs sorted by zoom, row and column that neither overlap nor touch.

    Make one with `from_runs` or `from_tiles`, which sort and join; the constructor only checks.
    """

    runs: Tuple[TileRun, ...]
    _length: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        previous: Optional[TileRun] = None
        length = 0
        for run in self.runs:
            z, y, x_first, x_last = run
            if not (0 <= z <= MAX_ZOOM and 0 <= y < (1 << z) and 0 <= x_first <= x_last < (1 << z)):
                raise ValueError(f"run of tiles does not exist: zoom {z}, row {y}, columns {x_first} to {x_last}")
            if previous is not None:
                same_row = previous[0] == z and previous[1] == y
                if (previous[0], previous[1]) > (z, y) or (same_row and x_first <= previous[3] + 1):
                    raise ValueError(f"runs of tiles are not sorted and apart: {previous} before {run}")
            previous = run
            length += x_last - x_first + 1
        object.__setattr__(self, "_length", length)

    @classmethod
    def from_runs(cls, runs: Iterable[TileRun]) -> TileSet:
        """The set that the runs make together; they may overlap and come in any order."""
        joined: List[TileRun] = []
        for run in sorted(runs):
            if joined:
                last = joined[-1]
                if last.z == run.z and last.y == run.y and run.x_first <= last.x_last + 1:
                    if run.x_last > last.x_last:
                        joined[-1] = TileRun(last.z, last.y, last.x_first, run.x_last)
                    continue
            joined.append(run)
        return cls(tuple(joined))

    @classmethod
    def from_tiles(cls, tiles: Iterable[Tile]) -> TileSet:
        """The set of single tiles; for small sets, since each tile is held once while sorting."""
        return cls.from_runs(TileRun(tile.z, tile.y, tile.x, tile.x) for tile in tiles)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Tile]:
        """Every tile, sorted by zoom, row, column."""
        for z, y, x_first, x_last in self.runs:
            yield from map(_unchecked, zip(repeat(z), range(x_first, x_last + 1), repeat(y)))

    def __contains__(self, tile: object) -> bool:
        if not isinstance(tile, tuple) or len(tile) != 3:
            return False
        z, x, y = tile
        at = bisect_right(self.runs, (z, y, x, math.inf)) - 1
        if at < 0:
            return False
        run = self.runs[at]
        return bool(run.z == z and run.y == y and run.x_first <= x <= run.x_last)

    @property
    def counts_by_zoom(self) -> Dict[int, int]:
        """How many tiles each zoom has, shallowest first."""
        counts: Dict[int, int] = {}
        for z, _row, x_first, x_last in self.runs:
            counts[z] = counts.get(z, 0) + x_last - x_first + 1
        return counts

    @property
    def zooms(self) -> Tuple[int, ...]:
        return tuple(self.counts_by_zoom)

    @property
    def min_zoom(self) -> int:
        """Shallowest zoom. Raises ValueError on the empty set."""
        if not self.runs:
            raise ValueError("an empty set of tiles has no zoom")
        return self.runs[0].z

    @property
    def max_zoom(self) -> int:
        """Deepest zoom. Raises ValueError on the empty set."""
        if not self.runs:
            raise ValueError("an empty set of tiles has no zoom")
        return self.runs[-1].z

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the runs as little-endian 32-bit numbers: equal sets, equal fingerprints."""
        digest = hashlib.sha256()
        pack = struct.Struct("<4I").pack
        for start in range(0, len(self.runs), 4096):
            digest.update(b"".join([pack(*run) for run in self.runs[start : start + 4096]]))
        return digest.hexdigest()

    def chunks(self, size: int = 1 << 18) -> Iterator[Tuple[int, npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
        """The tiles as arrays `(zoom, columns, rows)` of at most `size` tiles each, in the order of iteration.

        Bounded memory: two arrays of `size` 32-bit numbers, whatever the size of the set.
        """
        import numpy as np

        if size < 1:
            raise ValueError(f"a chunk needs at least one tile, not {size}")
        at = 0
        while at < len(self.runs):
            z = self.runs[at].z
            batch: List[TileRun] = []
            total = 0
            # A run longer than a chunk is cut; shorter ones are gathered until a chunk is full.
            while at < len(self.runs) and self.runs[at].z == z:
                run = self.runs[at]
                length = run.x_last - run.x_first + 1
                if total + length > size:
                    break
                batch.append(run)
                total += length
                at += 1
            if not batch:
                run = self.runs[at]
                for first in range(run.x_first, run.x_last + 1, size):
                    last = min(run.x_last, first + size - 1)
                    columns = np.arange(first, last + 1, dtype=np.int32)
                    yield z, columns, np.full(len(columns), run.y, dtype=np.int32)
                at += 1
                continue
            table = np.array(batch, dtype=np.int32)
            lengths = table[:, 3] - table[:, 2] + 1
            rows = np.repeat(table[:, 1], lengths)
            starts = np.cumsum(lengths, dtype=np.int32) - lengths
            columns = np.repeat(table[:, 2] - starts, lengths)
            columns += np.arange(total, dtype=np.int32)
            yield z, columns, rows


def tile_at(position: LonLat, zoom: int) -> Tile:
    """The tile that holds the position.

    Raises ValueError beyond ±85.0511°, where Web Mercator has no tile.
    Formula: OpenStreetMap wiki, "Slippy map tilenames".
    """
    if abs(position.lat) > MAX_MERCATOR_LAT_DEG:
        raise ValueError(f"latitude {position.lat} is beyond ±{MAX_MERCATOR_LAT_DEG:.4f}°, where no tile exists")
    side = 1 << zoom
    x = (position.lon + 180.0) / 360.0 * side
    y = (1.0 - math.asinh(math.tan(math.radians(position.lat))) / math.pi) / 2.0 * side
    return Tile.of(zoom, min(side - 1, max(0, math.floor(x))), min(side - 1, max(0, math.floor(y))))


def tile_bounds(tile: Tile) -> BBox:
    """The tile's box in degrees."""
    side = 1 << tile.z

    def latitude(row: int) -> float:
        return math.degrees(math.atan(math.sinh(math.pi * (1.0 - 2.0 * row / side))))

    return BBox(
        west=tile.x / side * 360.0 - 180.0,
        south=latitude(tile.y + 1),
        east=(tile.x + 1) / side * 360.0 - 180.0,
        north=latitude(tile.y),
    )


def ground_resolution_m(lat_deg: float, zoom: int, tile_px: int = 256) -> float:
    """Metres on the ground that one pixel of a tile covers at the latitude.

    Formula: Microsoft, "Bing Maps Tile System", ground resolution.
    """
    return math.cos(math.radians(lat_deg)) * 2.0 * math.pi * EARTH_RADIUS_M / (tile_px << zoom)


def zoom_for_gsd(gsd_m: float, lat_deg: float, tile_px: int = 256) -> int:
    """The shallowest zoom whose pixels are at least as fine as the ground sample distance `gsd_m`.

    Raises ValueError where the distance is not positive; never deeper than `MAX_ZOOM`.
    """
    if not (math.isfinite(gsd_m) and gsd_m > 0):
        raise ValueError(f"ground sample distance is not positive: {gsd_m}")
    exact = math.log2(ground_resolution_m(lat_deg, 0, tile_px) / gsd_m)
    # A hair under a whole zoom is that zoom: 1e-9 of a zoom is 7e-10 of a pixel.
    return min(MAX_ZOOM, max(0, math.ceil(exact - 1e-9)))
