# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a flight to the area that needs map, and from the area to its tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, cast

from ._area_scan import scan_runs
from ._area_shapes import (
    ECC2,
    HALF_WORLD_M,
    QUARTER_SEGMENTS,
    Core,
    disc,
    distance_m,
    latitude,
    longitude,
    mercator_x,
    named,
    nearest_turn,
    part_cores,
)
from ._errors import AreaError, AreaTooLargeError
from ._flight import Flight, RoutePart, Waypoint
from ._geo import BBox, LonLat
from ._tiles import EARTH_RADIUS_M, MAX_ZOOM, TileRun, TileSet

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon
    from shapely.geometry.base import BaseGeometry

__all__ = [
    "AREA_KINDS",
    "Area",
    "build_area",
    "distance_m",
    "tiles_for_area",
]

AREA_KINDS = ("corridor", "bbox", "polygon")
"""`corridor`: the footprint, buffered. `bbox`: the box around it. `polygon`: its convex outline."""

DEFAULT_MAX_LEG_M = 100_000.0
DEFAULT_MAX_TILES = 2_000_000
MAX_ROUTE_M = 5_000_000.0
"""Longest route that is believed: farther than any civil drone flies, and it bounds the work."""

_EDGE_M = 5_000.0


@dataclass(frozen=True)
class Area:
    """The area that needs tiles.

    `mercator_wkb` holds a MultiPolygon in EPSG:3857 metres, cut at the antimeridian so that every
    part lies within ±180°. `outlier` names the vertex furthest from the others, for errors.
    """

    kind: str
    buffer_m: float
    area_km2: float
    bbox: BBox
    mercator_wkb: bytes = field(repr=False)
    outlier: str = ""

    def __post_init__(self) -> None:
        if self.kind not in AREA_KINDS:
            raise ValueError(f"kind of area is {self.kind!r}, not one of {', '.join(AREA_KINDS)}")

    @property
    def mercator(self) -> MultiPolygon:
        """The geometry in EPSG:3857 metres."""
        import shapely

        geometry: Any = shapely.from_wkb(self.mercator_wkb)
        return cast("MultiPolygon", geometry)

    @property
    def geometry_wkb(self) -> bytes:
        """The geometry as WKB in degrees (longitude, latitude)."""
        import shapely

        wkb: bytes = shapely.to_wkb(_to_degrees(self.mercator), byte_order=1)
        return wkb

    def to_geojson(self) -> Dict[str, Any]:
        """The geometry as a GeoJSON MultiPolygon in degrees (RFC 7946: cut at the antimeridian)."""
        import shapely
        from shapely.geometry import mapping
        from shapely.geometry.polygon import orient

        parts = [orient(part) for part in shapely.get_parts(_to_degrees(self.mercator))]
        found = mapping(shapely.geometry.MultiPolygon(parts))
        return {
            "type": "MultiPolygon",
            "coordinates": [
                [[[round(lon, 9), round(lat, 9)] for lon, lat in ring] for ring in polygon]
                for polygon in found["coordinates"]
            ],
        }


def build_area(
    flight: Flight,
    *,
    kind: str = "corridor",
    buffer_m: float = 500.0,
    takeoff_radius_m: float = 500.0,
    max_leg_m: float = DEFAULT_MAX_LEG_M,
) -> Area:
    """The area that the flight needs: every part of its footprint buffered, and a disc at the take-off.

    Args:
        flight: the resolved flight.
        kind: `corridor`, `bbox` or `polygon`.
        buffer_m: ground metres added on every side.
        takeoff_radius_m: radius of the disc around the take-off origin, ground metres; 0 for none.
        max_leg_m: longest leg that is believed.

    Raises:
        AreaError: a position is so near a pole that Web Mercator has no tile for it.
        AreaTooLargeError: a leg is longer than `max_leg_m`; the message names its vertex.
    """
    import shapely

    if kind not in AREA_KINDS:
        raise AreaError(f"kind of area is {kind!r}, not one of {', '.join(AREA_KINDS)}")
    for name, value in (("buffer_m", buffer_m), ("takeoff_radius_m", takeoff_radius_m)):
        if not (math.isfinite(value) and value >= 0):
            raise AreaError(f"{name} is {value}, not zero or more metres")
    origin = Waypoint(
        LonLat(lon=flight.takeoff_origin.lon_deg, lat=flight.takeoff_origin.lat_deg), source="take-off origin"
    )
    _check_legs(flight, origin, max_leg_m)
    # A buffer of nothing gives no polygon, and a map of no width helps no one.
    buffer_m_floor = max(buffer_m, 1.0)
    start_x = mercator_x(origin.position.lon)
    cores: List[Core] = []
    for part in flight.parts:
        if part.vertices:
            cores.extend(part_cores(part, buffer_m_floor + part.half_width_m, start_x))
    if takeoff_radius_m > 0:
        cores.append(disc(origin, max(takeoff_radius_m, buffer_m_floor), start_x))
    whole = shapely.union_all(_widen(cores))
    if kind == "bbox":
        whole = shapely.box(*whole.bounds)
    elif kind == "polygon":
        whole = shapely.convex_hull(whole)
    west_x, south_y, east_x, north_y = whole.bounds
    if east_x - west_x >= 2 * HALF_WORLD_M:
        raise AreaTooLargeError(f"the area goes around the whole globe; look at {_outlier(flight)}")
    world = _wrap(whole)
    return Area(
        kind=kind,
        buffer_m=float(buffer_m),
        area_km2=_area_km2(world),
        bbox=BBox(
            west=longitude(west_x),
            south=latitude(south_y),
            east=longitude(east_x, upper=True),
            north=latitude(north_y),
        ),
        mercator_wkb=shapely.to_wkb(world, byte_order=1),
        outlier=_outlier(flight),
    )


def tiles_for_area(area: Area, zooms: Sequence[int], *, max_tiles: int = DEFAULT_MAX_TILES) -> TileSet:
    """Every tile of the zooms that the area touches.

    Raises AreaTooLargeError, naming the outermost vertex, before any work that the limit forbids.
    """
    wanted = sorted(set(zooms))
    if not wanted:
        raise AreaError("no zoom is asked for")
    for zoom in wanted:
        if not 0 <= zoom <= MAX_ZOOM:
            raise AreaError(f"zoom {zoom} is outside 0 to {MAX_ZOOM}")
    shape = area.mercator
    unit = {zoom: (1 << zoom) / (2 * HALF_WORLD_M) for zoom in wanted}
    # Tiles cover the area, so there are at least as many as fit into it: known before any is counted.
    least = sum(shape.area * unit[zoom] ** 2 for zoom in wanted)
    if least > max_tiles:
        raise _too_many_tiles(area, math.ceil(least), wanted, max_tiles)
    runs: List[TileRun] = []
    count = 0
    for zoom in wanted:
        for y, x_first, x_last in scan_runs(shape, zoom, HALF_WORLD_M):
            count += x_last - x_first + 1
            if count > max_tiles:
                raise _too_many_tiles(area, count, wanted, max_tiles)
            runs.append(TileRun(zoom, y, x_first, x_last))
    return TileSet(tuple(runs))


def _widen(cores: Sequence[Core]) -> Any:
    """The cores widened, as an array; what is there twice is widened once."""
    import numpy as np
    import shapely

    unique = {(core.width, core.geometry.wkb): core for core in cores}
    geometries = np.array([core.geometry for core in unique.values()], dtype=object)
    widths = np.array([core.width for core in unique.values()])
    return shapely.buffer(geometries, widths, quad_segs=QUARTER_SEGMENTS)


def _too_many_tiles(area: Area, least: int, zooms: Sequence[int], max_tiles: int) -> AreaTooLargeError:
    named = f"; the outermost vertex is {area.outlier}" if area.outlier else ""
    return AreaTooLargeError(
        f"the area of {area.area_km2:,.1f} km² needs at least {least:,} tiles at zoom "
        f"{', '.join(map(str, zooms))}, over the limit of {max_tiles:,}{named}",
        details={"tiles": least, "max_tiles": max_tiles, "zooms": list(zooms), "vertex": area.outlier},
    )


def _check_apart(part: RoutePart, known: Sequence[Waypoint], max_leg_m: float) -> None:
    """A part that no leg joins is as stray as a long leg, where it is that far from all `known` vertices."""
    first = part.vertices[0]
    apart_m = min(distance_m(first.position, vertex.position) for vertex in known)
    if apart_m > max_leg_m:
        raise AreaTooLargeError(
            f"{named(first)} lies {apart_m / 1000:,.1f} km from the rest of the flight, over the limit of "
            f"{max_leg_m / 1000:,.1f} km for a leg",
            details={"apart_m": round(apart_m, 1), "max_leg_m": max_leg_m, "vertex": named(first)},
        )


def _check_legs(flight: Flight, origin: Waypoint, max_leg_m: float) -> None:
    route_m = 0.0
    known = [origin]
    for part in flight.parts:
        if not part.vertices:
            continue
        _check_apart(part, known, max_leg_m)
        known = [origin, part.vertices[0], part.vertices[-1]]
        for a, b in zip(part.vertices, part.vertices[1:]):
            length_m = distance_m(a.position, b.position)
            route_m += length_m
            if length_m > max_leg_m:
                stray = max((a, b), key=lambda vertex: distance_m(vertex.position, origin.position))
                raise AreaTooLargeError(
                    f"the leg from {named(a)} to {named(b)} is {length_m / 1000:,.1f} km long, over the limit of "
                    f"{max_leg_m / 1000:,.1f} km; look at {named(stray)}",
                    details={"leg_m": round(length_m, 1), "max_leg_m": max_leg_m, "vertex": named(stray)},
                )
    if route_m > max(MAX_ROUTE_M, max_leg_m):
        raise AreaTooLargeError(
            f"the route is {route_m / 1000:,.0f} km long, over the limit of {MAX_ROUTE_M / 1000:,.0f} km; "
            f"look at {_outlier(flight)}",
            details={"route_m": round(route_m), "vertex": _outlier(flight)},
        )


def _outlier(flight: Flight) -> str:
    vertices = [vertex for part in flight.parts for vertex in part.vertices]
    lats = sorted(vertex.position.lat for vertex in vertices)
    first_lon = vertices[0].position.lon
    lons = sorted(nearest_turn(vertex.position.lon, first_lon, 360.0) for vertex in vertices)
    middle_lat, middle_lon = lats[len(lats) // 2], lons[len(lons) // 2]
    middle = LonLat(lon=(middle_lon + 180.0) % 360.0 - 180.0, lat=middle_lat)
    return named(max(vertices, key=lambda vertex: distance_m(vertex.position, middle)))


def _wrap(geometry: BaseGeometry) -> MultiPolygon:
    """The unwrapped geometry cut into worlds of ±180° and laid back into the one world."""
    import shapely
    from shapely import affinity

    west_x, _south, east_x, _north = geometry.bounds
    world = 2 * HALF_WORLD_M
    pieces: List[BaseGeometry] = []
    for turn in range(math.floor((west_x + HALF_WORLD_M) / world), math.floor((east_x + HALF_WORLD_M) / world) + 1):
        left = turn * world - HALF_WORLD_M
        cut = geometry
        if west_x < left or east_x > left + world:
            cut = shapely.intersection(geometry, shapely.box(left, -HALF_WORLD_M, left + world, HALF_WORLD_M))
        pieces.append(affinity.translate(cut, xoff=-turn * world) if turn else cut)
    merged = shapely.union_all(pieces) if len(pieces) > 1 else pieces[0]
    polygons = [part for part in shapely.get_parts(merged) if part.geom_type == "Polygon" and not part.is_empty]
    multi: MultiPolygon = shapely.normalize(shapely.MultiPolygon(polygons))
    return multi


def _to_degrees(geometry: MultiPolygon) -> MultiPolygon:
    import numpy as np
    import shapely

    def convert(points: Any) -> Any:
        lon = np.degrees(points[:, 0] / EARTH_RADIUS_M)
        lat = np.degrees(np.arctan(np.sinh(points[:, 1] / EARTH_RADIUS_M)))
        return np.column_stack([np.clip(lon, -180.0, 180.0), lat])

    # A straight edge on the Mercator map is bent in degrees: short edges stay within a metre.
    degrees: MultiPolygon = shapely.transform(shapely.segmentize(geometry, _EDGE_M), convert)
    return degrees


def _area_km2(geometry: MultiPolygon) -> float:
    """Area on the ellipsoid, by the authalic (equal-area cylindrical) projection: Snyder 1987, eq. 3-12 and 10-14."""
    import numpy as np
    import shapely

    ecc = math.sqrt(ECC2)

    def equal_area(points: Any) -> Any:
        sin_phi = np.tanh(points[:, 1] / EARTH_RADIUS_M)
        q = (1 - ECC2) * (sin_phi / (1 - ECC2 * sin_phi**2) + np.arctanh(ecc * sin_phi) / ecc)
        return np.column_stack([points[:, 0], q * EARTH_RADIUS_M / 2])

    return float(shapely.area(shapely.transform(shapely.segmentize(geometry, _EDGE_M), equal_area))) / 1e6
