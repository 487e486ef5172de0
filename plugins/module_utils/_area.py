# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a flight to the area that needs map, and from the area to its tiles.

All geometry is made in Web Mercator metres (EPSG:3857) with unwrapped longitudes: tiles live
there, so nothing is projected twice, and the antimeridian is a cut at the end, not a special
case. A buffer of ground metres is widened by the largest scale of the projection in a piece of
route of at most `_PIECE_M`, so the area is never too small, and at most about 1 % too wide.

Between two vertices a planner draws a straight line on a Mercator map (a rhumb line) while an
autopilot flies close to the geodesic; the area covers both, and what lies between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

from ._area_scan import scan_runs
from ._errors import AreaError, AreaTooLargeError
from ._flight import Flight, RouteKind, RoutePart, Waypoint
from ._geo import MAX_MERCATOR_LAT_DEG, BBox, LonLat
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

_HALF_WORLD_M = math.pi * EARTH_RADIUS_M
_PIECE_M = 20_000.0
_PIECE_VERTICES = 64
_QUARTER_SEGMENTS = 16
# A polygon of N chords lies inside its circle: widening by this factor puts it outside.
_CHORD_FACTOR = 1.0 / math.cos(math.pi / (4 * _QUARTER_SEGMENTS))
_FLATTENING = 1 / 298.257223563
_ECC2 = _FLATTENING * (2 - _FLATTENING)


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

        geometry: MultiPolygon = shapely.from_wkb(self.mercator_wkb)
        return geometry

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

        parts = [orient(part) for part in _to_degrees(self.mercator).geoms]
        found = mapping(shapely.geometry.MultiPolygon(parts))
        return {
            "type": "MultiPolygon",
            "coordinates": [
                [[[round(lon, 9), round(lat, 9)] for lon, lat in ring] for ring in polygon]
                for polygon in found["coordinates"]
            ],
        }


def distance_m(a: LonLat, b: LonLat) -> float:
    """Great-circle distance on the mean sphere, within 0.6 % of the geodesic (haversine formula)."""
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    half_lon = math.radians(b.lon - a.lon) / 2
    h = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * 6371008.8 * math.asin(min(1.0, math.sqrt(h)))


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
    start_x = _mercator_x(origin.position.lon)
    shapes: List[BaseGeometry] = []
    for part in flight.parts:
        if part.vertices:
            shapes.extend(_part_shapes(part, buffer_m_floor + part.half_width_m, start_x))
    if takeoff_radius_m > 0:
        shapes.append(_disc(origin, max(takeoff_radius_m, buffer_m_floor), start_x))
    whole = shapely.union_all(shapes)
    if kind == "bbox":
        whole = shapely.box(*whole.bounds)
    elif kind == "polygon":
        whole = shapely.convex_hull(whole)
    west_x, south_y, east_x, north_y = whole.bounds
    if east_x - west_x >= 2 * _HALF_WORLD_M:
        raise AreaTooLargeError(f"the area goes around the whole globe; look at {_outlier(flight)}")
    world = _wrap(whole)
    return Area(
        kind=kind,
        buffer_m=float(buffer_m),
        area_km2=_area_km2(world),
        bbox=BBox(
            west=_longitude(west_x),
            south=_latitude(south_y),
            east=_longitude(east_x, upper=True),
            north=_latitude(north_y),
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
    unit = {zoom: (1 << zoom) / (2 * _HALF_WORLD_M) for zoom in wanted}
    # Tiles cover the area, so there are at least as many as fit into it: known before any is counted.
    least = sum(shape.area * unit[zoom] ** 2 for zoom in wanted)
    if least > max_tiles:
        raise _too_many_tiles(area, math.ceil(least), wanted, max_tiles)
    runs: List[TileRun] = []
    count = 0
    for zoom in wanted:
        for y, x_first, x_last in scan_runs(shape, zoom, _HALF_WORLD_M):
            count += x_last - x_first + 1
            if count > max_tiles:
                raise _too_many_tiles(area, count, wanted, max_tiles)
            runs.append(TileRun(zoom, y, x_first, x_last))
    return TileSet(tuple(runs))


def _too_many_tiles(area: Area, least: int, zooms: Sequence[int], max_tiles: int) -> AreaTooLargeError:
    named = f"; the outermost vertex is {area.outlier}" if area.outlier else ""
    return AreaTooLargeError(
        f"the area of {area.area_km2:,.1f} km² needs at least {least:,} tiles at zoom "
        f"{', '.join(map(str, zooms))}, over the limit of {max_tiles:,}{named}",
        details={"tiles": least, "max_tiles": max_tiles, "zooms": list(zooms), "vertex": area.outlier},
    )


def _check_legs(flight: Flight, origin: Waypoint, max_leg_m: float) -> None:
    for part in flight.parts:
        for a, b in zip(part.vertices, part.vertices[1:]):
            length_m = distance_m(a.position, b.position)
            if length_m > max_leg_m:
                stray = max((a, b), key=lambda vertex: distance_m(vertex.position, origin.position))
                raise AreaTooLargeError(
                    f"the leg from {_named(a)} to {_named(b)} is {length_m / 1000:,.1f} km long, over the limit of "
                    f"{max_leg_m / 1000:,.1f} km; look at {_named(stray)}",
                    details={"leg_m": round(length_m, 1), "max_leg_m": max_leg_m, "vertex": _named(stray)},
                )


def _named(vertex: Waypoint) -> str:
    where = f"{vertex.position.lat:.6f}, {vertex.position.lon:.6f}"
    return f"{vertex.source} ({where})" if vertex.source else f"({where})"


def _outlier(flight: Flight) -> str:
    vertices = [vertex for part in flight.parts for vertex in part.vertices]
    lats = sorted(vertex.position.lat for vertex in vertices)
    first_lon = vertices[0].position.lon
    lons = sorted(_nearest_turn(vertex.position.lon, first_lon, 360.0) for vertex in vertices)
    middle_lat, middle_lon = lats[len(lats) // 2], lons[len(lons) // 2]
    middle = LonLat(lon=(middle_lon + 180.0) % 360.0 - 180.0, lat=middle_lat)
    return _named(max(vertices, key=lambda vertex: distance_m(vertex.position, middle)))


def _nearest_turn(value: float, near: float, turn: float) -> float:
    """`value` plus the whole turns that bring it nearest to `near`."""
    return value - turn * round((value - near) / turn)


def _mercator_x(lon_deg: float) -> float:
    return math.radians(lon_deg) * EARTH_RADIUS_M


def _mercator_y(lat_deg: float) -> float:
    return math.asinh(math.tan(math.radians(lat_deg))) * EARTH_RADIUS_M


def _latitude(y_m: float) -> float:
    return math.degrees(math.atan(math.sinh(y_m / EARTH_RADIUS_M)))


def _longitude(x_m: float, *, upper: bool = False) -> float:
    lon = math.degrees(x_m / EARTH_RADIUS_M)
    if -180.0 <= lon <= 180.0:
        return lon
    wrapped = (lon + 180.0) % 360.0 - 180.0
    return 180.0 if upper and wrapped == -180.0 else wrapped


def _scale(lat_deg: float) -> float:
    """Largest scale of EPSG:3857 at the latitude: its metres per metre of ground on WGS 84.

    The projection puts ellipsoidal latitudes on a sphere, so the scales along meridian (a / (M cos φ)) and
    parallel (a / (N cos φ)) differ a little; the larger one is taken (EPSG guidance note 7-2, method 1024).
    """
    phi = math.radians(lat_deg)
    bent = 1 - _ECC2 * math.sin(phi) ** 2
    return max(bent**1.5 / (1 - _ECC2), math.sqrt(bent)) / math.cos(phi)


def _widened(lats: Sequence[float], width_m: float, who: Waypoint) -> float:
    """`width_m` of ground in metres of the projection, at the poleward edge of the latitudes."""
    edge = max(abs(lat) for lat in lats) + math.degrees(width_m / 6335439.0)
    if edge > MAX_MERCATOR_LAT_DEG:
        raise AreaError(
            f"{_named(who)} with its buffer reaches latitude {edge:.4f}°, beyond ±{MAX_MERCATOR_LAT_DEG:.4f}° "
            "where Web Mercator has no tile",
            details={"vertex": _named(who)},
        )
    return width_m * _scale(edge) * _CHORD_FACTOR


def _disc(centre: Waypoint, radius_m: float, near_x: float) -> BaseGeometry:
    import shapely

    position = centre.position
    x = _nearest_turn(_mercator_x(position.lon), near_x, 2 * _HALF_WORLD_M)
    radius = _widened([position.lat], radius_m, centre)
    disc: BaseGeometry = shapely.buffer(
        shapely.Point(x, _mercator_y(position.lat)), radius, quad_segs=_QUARTER_SEGMENTS
    )
    return disc


def _unwrapped(vertices: Sequence[Waypoint], near_x: float) -> List[Tuple[float, float]]:
    """Vertices as x and latitude; each x is the turn nearest to its predecessor's."""
    points: List[Tuple[float, float]] = []
    for vertex in vertices:
        near_x = _nearest_turn(_mercator_x(vertex.position.lon), near_x, 2 * _HALF_WORLD_M)
        points.append((near_x, vertex.position.lat))
    return points


def _part_shapes(part: RoutePart, width_m: float, near_x: float) -> List[BaseGeometry]:
    import shapely

    vertices = part.vertices
    if part.kind is RouteKind.POINT or len(vertices) == 1:
        return [_disc(vertex, width_m, near_x) for vertex in vertices]
    closed = part.kind is RouteKind.POLYGON
    ring = vertices + vertices[:1] if closed and len(vertices) > 2 else vertices
    points = _unwrapped(ring, near_x)
    shapes: List[BaseGeometry] = []
    if closed and len(vertices) > 2 and points[0][0] == points[-1][0]:
        _widened([lat for _x, lat in points], 0.0, max(ring, key=lambda vertex: abs(vertex.position.lat)))
        # The inside as it is; its outline is widened below like any line. A ring that crosses itself is filled whole.
        inside = shapely.Polygon([(x, _mercator_y(lat)) for x, lat in points])
        shapes.append(inside if inside.is_valid else shapely.make_valid(inside))
    piece: List[Tuple[float, float]] = [points[0]]
    who = ring[0]
    length_m = 0.0
    for vertex, (x, lat), (x_next, lat_next) in zip(ring[1:], points, points[1:]):
        leg_m = distance_m(_position(x, lat), _position(x_next, lat_next))
        if leg_m > _PIECE_M / 4:
            # Long legs are cut, so that each piece is buffered with the scale of its own latitude.
            if len(piece) > 1:
                shapes.append(_line(piece, width_m, who))
            shapes.extend(_long_leg((x, lat), (x_next, lat_next), leg_m, width_m, vertex))
            piece, length_m, who = [(x_next, lat_next)], 0.0, vertex
            continue
        piece.append((x_next, lat_next))
        length_m += leg_m
        who = max((who, vertex), key=lambda candidate: abs(candidate.position.lat))
        if length_m > _PIECE_M or len(piece) >= _PIECE_VERTICES:
            shapes.append(_line(piece, width_m, who))
            piece, length_m, who = [piece[-1]], 0.0, vertex
    if len(piece) > 1 or not shapes:
        shapes.append(_line(piece, width_m, who))
    return shapes


def _position(x_m: float, lat_deg: float) -> LonLat:
    return LonLat(lon=_longitude(x_m), lat=lat_deg)


def _line(points: Sequence[Tuple[float, float]], width_m: float, who: Waypoint) -> BaseGeometry:
    import shapely

    width = _widened([lat for _x, lat in points], width_m, who)
    flat = [(x, _mercator_y(lat)) for x, lat in points]
    line = shapely.LineString(flat if len(flat) > 1 else flat * 2)
    widened: BaseGeometry = shapely.buffer(line, width, quad_segs=_QUARTER_SEGMENTS)
    return widened


def _long_leg(
    start: Tuple[float, float], end: Tuple[float, float], leg_m: float, width_m: float, who: Waypoint
) -> List[BaseGeometry]:
    """A long leg as pieces: its straight line on the map, its great circle, and the lens between them."""
    import shapely

    steps = max(2, math.ceil(leg_m / (_PIECE_M / 4)))
    (x_a, lat_a), (x_b, lat_b) = start, end
    y_a, y_b = _mercator_y(_clamped(lat_a, who)), _mercator_y(_clamped(lat_b, who))
    straight = [(x_a + (x_b - x_a) * i / steps, _latitude(y_a + (y_b - y_a) * i / steps)) for i in range(steps + 1)]
    circle = _great_circle(start, end, steps)
    shapes: List[BaseGeometry] = []
    for i in range(steps):
        corners = [straight[i], straight[i + 1], circle[i + 1], circle[i]]
        width = _widened([lat for _x, lat in corners], width_m, who)
        hull = shapely.convex_hull(shapely.MultiPoint([(x, _mercator_y(lat)) for x, lat in corners]))
        shapes.append(shapely.buffer(hull, width, quad_segs=_QUARTER_SEGMENTS))
    return shapes


def _clamped(lat_deg: float, who: Waypoint) -> float:
    _widened([lat_deg], 0.0, who)
    return lat_deg


def _great_circle(start: Tuple[float, float], end: Tuple[float, float], steps: int) -> List[Tuple[float, float]]:
    """Points of the great circle as x and latitude (spherical linear interpolation)."""

    def vector(x_m: float, lat_deg: float) -> Tuple[float, float, float]:
        lon, lat = x_m / EARTH_RADIUS_M, math.radians(lat_deg)
        return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)

    a, b = vector(*start), vector(*end)
    angle = math.acos(max(-1.0, min(1.0, sum(p * q for p, q in zip(a, b)))))
    points = [start]
    near_x = start[0]
    for i in range(1, steps):
        if angle < 1e-12:
            points.append(start)
            continue
        weight_a, weight_b = math.sin((1 - i / steps) * angle), math.sin(i / steps * angle)
        x, y, z = (weight_a * p + weight_b * q for p, q in zip(a, b))
        near_x = _nearest_turn(math.atan2(y, x) * EARTH_RADIUS_M, near_x, 2 * _HALF_WORLD_M)
        points.append((near_x, math.degrees(math.atan2(z, math.hypot(x, y)))))
    points.append(end)
    return points


def _wrap(geometry: BaseGeometry) -> MultiPolygon:
    """The unwrapped geometry cut into worlds of ±180° and laid back into the one world."""
    import shapely
    from shapely import affinity

    west_x, _south, east_x, _north = geometry.bounds
    world = 2 * _HALF_WORLD_M
    pieces: List[BaseGeometry] = []
    for turn in range(math.floor((west_x + _HALF_WORLD_M) / world), math.floor((east_x + _HALF_WORLD_M) / world) + 1):
        left = turn * world - _HALF_WORLD_M
        cut = geometry
        if west_x < left or east_x > left + world:
            cut = shapely.intersection(geometry, shapely.box(left, -_HALF_WORLD_M, left + world, _HALF_WORLD_M))
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

    degrees: MultiPolygon = shapely.transform(geometry, convert)
    return degrees


def _area_km2(geometry: MultiPolygon) -> float:
    """Area on the ellipsoid, by the authalic (equal-area cylindrical) projection: Snyder 1987, eq. 3-12 and 10-14."""
    import numpy as np
    import shapely

    ecc = math.sqrt(_ECC2)

    def equal_area(points: Any) -> Any:
        sin_phi = np.tanh(points[:, 1] / EARTH_RADIUS_M)
        q = (1 - _ECC2) * (sin_phi / (1 - _ECC2 * sin_phi**2) + np.arctanh(ecc * sin_phi) / ecc)
        return np.column_stack([points[:, 0], q * EARTH_RADIUS_M / 2])

    return float(shapely.area(shapely.transform(geometry, equal_area))) / 1e6
