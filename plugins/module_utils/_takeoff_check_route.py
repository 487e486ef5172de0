# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Does the tile archive cover the route? Every tile that a leg touches, at the archive's finest zoom, must be there.

Runs on the companion: standard library only, Python 3.8. Legs are straight on the Mercator map, as autopilots fly them
over these distances, and take the short way across the antimeridian.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, Iterator, List, NamedTuple, Sequence, Set, Tuple

from ._errors import TileSourceError
from ._generation_faults import Reason, refuse
from ._geo import MAX_MERCATOR_LAT_DEG, LonLat
from ._pmtiles import PmtilesReader, zxy_to_tile_id

__all__ = ["RouteCoverage", "check_coverage", "read_route", "tiles_of_leg"]

MAX_ROUTE_BYTES = 4 * 1024 * 1024
MAX_POSITIONS = 100_000
MAX_TILES = 1_000_000
_WPL_MAGIC = "QGC WPL 110"
_WPL_NAV_WITH_POSITION = (16, 17, 18, 19, 21, 22, 31, 82, 84, 85)
_DEPTH_LIMIT = 8


class RouteCoverage(NamedTuple):
    """What was looked at."""

    zoom: int
    tile_count: int
    leg_count: int


def read_route(path: str) -> List[List[LonLat]]:
    """The lines of a route file: GeoJSON, or a waypoint file `QGC WPL 110` as ground stations save it.

    Raises:
        CacheVerifyError: `route-unreadable`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            content = stream.read(MAX_ROUTE_BYTES + 1)
    except OSError as exc:
        raise refuse(Reason.ROUTE_UNREADABLE, f"the route {path} cannot be read: {exc.strerror}", file=path) from None
    if len(content) > MAX_ROUTE_BYTES:
        raise refuse(Reason.ROUTE_UNREADABLE, f"the route {path} is larger than {MAX_ROUTE_BYTES} bytes", file=path)
    try:
        text = content.decode("utf-8-sig")
        lines = [_waypoints(text)] if text.startswith(_WPL_MAGIC) else list(_geojson(json.loads(text), 0))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError):
        raise refuse(
            Reason.ROUTE_UNREADABLE, f"the route {path} is neither GeoJSON nor a QGC WPL 110 file", file=path
        ) from None
    count = sum(map(len, lines))
    if not count or count > MAX_POSITIONS:
        raise refuse(Reason.ROUTE_UNREADABLE, f"the route {path} has {count} positions", file=path)
    return lines


def _waypoints(text: str) -> List[LonLat]:
    found = []
    for line in text.splitlines()[1:]:
        columns = line.split()
        if not columns:
            continue
        index, command = int(columns[0]), int(columns[3])
        position = LonLat(lat=float(columns[8]), lon=float(columns[9]))
        nowhere = position.lat == 0 and position.lon == 0
        if not nowhere and (index == 0 or command in _WPL_NAV_WITH_POSITION):
            found.append(position)
    return found


def _position(item: Sequence[Any]) -> LonLat:
    return LonLat(lon=float(item[0]), lat=float(item[1]))


def _geojson(item: Any, depth: int) -> Iterator[List[LonLat]]:
    if depth > _DEPTH_LIMIT or not isinstance(item, dict):
        raise ValueError("not GeoJSON")
    kind = item["type"]
    if kind == "FeatureCollection":
        for feature in item["features"]:
            yield from _geojson(feature, depth + 1)
    elif kind == "Feature":
        yield from _geojson(item["geometry"], depth + 1)
    elif kind == "GeometryCollection":
        for geometry in item["geometries"]:
            yield from _geojson(geometry, depth + 1)
    elif kind == "Point":
        yield [_position(item["coordinates"])]
    elif kind == "MultiPoint":
        yield from ([_position(point)] for point in item["coordinates"])
    elif kind == "LineString":
        yield [_position(point) for point in item["coordinates"]]
    elif kind in ("MultiLineString", "Polygon"):
        yield from ([_position(point) for point in line] for line in item["coordinates"])
    else:
        raise ValueError(kind)


def _map_position(position: LonLat, zoom: int) -> Tuple[float, float]:
    """Tile coordinates with fractions (EPSG:3857, as tile services number them)."""
    side = float(1 << zoom)
    latitude = math.radians(max(-MAX_MERCATOR_LAT_DEG, min(MAX_MERCATOR_LAT_DEG, position.lat)))
    row = (1.0 - math.asinh(math.tan(latitude)) / math.pi) / 2.0
    return (position.lon + 180.0) / 360.0 * side, row * side


def tiles_of_leg(begin: LonLat, end: LonLat, zoom: int) -> Iterator[Tuple[int, int]]:
    """Columns and rows of all tiles that the leg touches.

    The walk is that of J. Amanatides and A. Woo, "A fast voxel traversal algorithm for ray tracing" (1987).
    """
    side = 1 << zoom
    x, y = _map_position(begin, zoom)
    to_x, to_y = _map_position(end, zoom)
    if to_x - x > side / 2:
        to_x -= side
    elif x - to_x > side / 2:
        to_x += side
    column, row = math.floor(x), math.floor(y)
    last_column, last_row = math.floor(to_x), math.floor(to_y)
    step_x, step_y = (1 if to_x > x else -1), (1 if to_y > y else -1)
    run_x, run_y = abs(to_x - x), abs(to_y - y)
    delta_x = 1 / run_x if run_x else math.inf
    delta_y = 1 / run_y if run_y else math.inf
    next_x = (column + (step_x > 0) - x) * step_x * delta_x if run_x else math.inf
    next_y = (row + (step_y > 0) - y) * step_y * delta_y if run_y else math.inf
    for _step in range(abs(last_column - column) + abs(last_row - row) + 1):
        yield column % side, min(max(row, 0), side - 1)
        if next_x < next_y:
            column += step_x
            next_x += delta_x
        else:
            row += step_y
            next_y += delta_y


def check_coverage(archive_path: str, lines: Sequence[Sequence[LonLat]]) -> RouteCoverage:
    """Hold the archive's directory against the route.

    Args:
        archive_path: the tile archive; a path through `/proc/self/fd` keeps it pinned.
        lines: the route's lines; one of a single position is a point.

    Raises:
        CacheVerifyError: `route-uncovered` with the first place, or `archive-damaged`.
    """
    seen: Set[int] = set()
    legs = 0
    try:
        with PmtilesReader(archive_path) as archive:
            zoom = archive.header.max_zoom
            if zoom > 26:
                raise refuse(Reason.ARCHIVE_DAMAGED, f"the archive names zoom {zoom}", file="tiles.pmtiles")
            for line in lines:
                for begin, end in zip(line, line[1:] or line):
                    legs += 1
                    for column, row in tiles_of_leg(begin, end, zoom):
                        tile_id = zxy_to_tile_id(zoom, column, row)
                        if tile_id in seen:
                            continue
                        if len(seen) >= MAX_TILES:
                            raise refuse(Reason.ROUTE_UNREADABLE, f"the route touches more than {MAX_TILES} tiles")
                        if archive.locate(tile_id) is None:
                            raise _uncovered(begin, end, (zoom, column, row))
                        seen.add(tile_id)
    except TileSourceError as exc:
        raise refuse(Reason.ARCHIVE_DAMAGED, exc.message, file="tiles.pmtiles") from None
    return RouteCoverage(zoom, len(seen), legs)


def _uncovered(begin: LonLat, end: LonLat, tile: Tuple[int, int, int]) -> Exception:
    zoom, column, row = tile
    leg = f"from lon {begin.lon:.6f}, lat {begin.lat:.6f} to lon {end.lon:.6f}, lat {end.lat:.6f}"
    return refuse(
        Reason.ROUTE_UNCOVERED,
        f"tile {zoom}/{column}/{row} on the leg {leg} is not in the cache",
        tile=[zoom, column, row],
    )
