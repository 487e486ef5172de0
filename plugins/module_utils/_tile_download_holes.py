# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where along the route the map has holes: missing tiles as stretches in kilometres, for the person who decides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, FrozenSet, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

from ._flight import Flight, RouteKind, RoutePart
from ._geo import MAX_MERCATOR_LAT_DEG, LonLat
from ._tiles import EARTH_RADIUS_M, Tile, ground_resolution_m, tile_at

__all__ = ["RouteStretch", "describe_stretches", "route_stretches"]

MAX_SAMPLES = 100_000


@dataclass(frozen=True)
class RouteStretch:
    """A stretch flown over missing tiles; kilometres count from the start of the part `part` of the flight."""

    part: int
    why: str
    from_km: float
    to_km: float
    zooms: Tuple[int, ...]


def _distance_m(one: LonLat, other: LonLat) -> float:
    """Great-circle distance by the haversine formula, on the sphere of Web Mercator."""
    lat_1, lat_2 = math.radians(one.lat), math.radians(other.lat)
    half_lat, half_lon = (lat_2 - lat_1) / 2, math.radians(other.lon - one.lon) / 2
    square = math.sin(half_lat) ** 2 + math.cos(lat_1) * math.cos(lat_2) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(square)))


def _between(one: LonLat, other: LonLat, share: float) -> LonLat:
    span = (other.lon - one.lon + 540.0) % 360.0 - 180.0
    lon = (one.lon + span * share + 540.0) % 360.0 - 180.0
    lat = one.lat + (other.lat - one.lat) * share
    return LonLat(lon=lon, lat=max(-MAX_MERCATOR_LAT_DEG, min(MAX_MERCATOR_LAT_DEG, lat)))


def _samples(part: RoutePart, step_m: float) -> Iterator[Tuple[float, LonLat]]:
    """Metres from the part's start, and the position there."""
    travelled_m = 0.0
    vertices = [vertex.position for vertex in part.vertices]
    if vertices:
        yield 0.0, _between(vertices[0], vertices[0], 0.0)
    for one, other in zip(vertices, vertices[1:]):
        length_m = _distance_m(one, other)
        count = max(1, math.ceil(length_m / step_m))
        for index in range(1, count + 1):
            yield travelled_m + length_m * index / count, _between(one, other, index / count)
        travelled_m += length_m


def route_stretches(flight: Flight, holes: Iterable[Mapping[str, Any]]) -> Tuple[RouteStretch, ...]:
    """The stretches of the flown lines that lie over tiles of `holes` (`failed_tiles` of a download report).

    A stretch is as exact as an eighth of a tile, or as the hundred-thousandth part of the route where that is longer.
    """
    tiles: FrozenSet[Tile] = frozenset(Tile(int(hole["z"]), int(hole["x"]), int(hole["y"])) for hole in holes)
    if not tiles:
        return ()
    zooms = sorted({tile.z for tile in tiles})
    lines = [(at, part) for at, part in enumerate(flight.parts) if part.kind is not RouteKind.POLYGON]
    total_m = sum(
        _distance_m(one.position, other.position)
        for _at, part in lines
        for one, other in zip(part.vertices, part.vertices[1:])
    )
    lat_deg = min(80.0, abs(flight.takeoff_origin.lat_deg))
    step_m = max(32 * ground_resolution_m(lat_deg, zooms[-1]), total_m / MAX_SAMPLES)
    found: List[RouteStretch] = []
    for at, part in lines:
        found.extend(_stretches_of(at, part, tiles, zooms, step_m))
    return tuple(found)


def _stretches_of(
    at: int, part: RoutePart, tiles: FrozenSet[Tile], zooms: List[int], step_m: float
) -> Iterator[RouteStretch]:
    open_from_m, last_m = -1.0, 0.0
    seen: Set[int] = set()
    for position_m, position in _samples(part, step_m):
        here = {zoom for zoom in zooms if tile_at(position, zoom) in tiles}
        if here and open_from_m < 0:
            open_from_m = position_m
        if here:
            seen |= here
            last_m = position_m
        elif open_from_m >= 0:
            yield _stretch(at, part, open_from_m, last_m, seen)
            open_from_m, seen = -1.0, set()
    if open_from_m >= 0:
        yield _stretch(at, part, open_from_m, last_m, seen)


def _stretch(at: int, part: RoutePart, from_m: float, to_m: float, zooms: Set[int]) -> RouteStretch:
    return RouteStretch(at, part.why, round(from_m / 1000, 3), round(to_m / 1000, 3), tuple(sorted(zooms)))


def _kilometres(from_km: float, to_km: float) -> str:
    first, last = f"{from_km:.2f}", f"{to_km:.2f}"
    return f"km {first}" if first == last else f"km {first} to {last}"


def describe_stretches(stretches: Sequence[Mapping[str, Any]], *, limit: int = 5) -> str:
    """One line for a person, of stretches as a report has them; empty where the holes lie beside the route."""
    shown = [
        f"{_kilometres(stretch['from_km'], stretch['to_km'])} of the {stretch['why'].replace('_', ' ')}"
        f" (zoom {', '.join(map(str, stretch['zooms']))})"
        for stretch in stretches[:limit]
    ]
    more = len(stretches) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
