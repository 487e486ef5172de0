# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shapes of a flight's parts in Web Mercator metres (EPSG:3857), with unwrapped longitudes.

Tiles live there, so nothing is projected twice, and the antimeridian is a cut at the end, not a
special case. A buffer of ground metres is widened by the largest scale of the projection in a
piece of route of at most `_PIECE_M`, so a shape is never too small, and at most about 1 % too wide.

Between two vertices a planner draws a straight line on a Mercator map (a rhumb line) while an
autopilot flies close to the geodesic; a long leg covers both, and what lies between them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, List, Sequence, Tuple

from ._errors import AreaError
from ._flight import RouteKind, RoutePart, Waypoint
from ._geo import MAX_MERCATOR_LAT_DEG, LonLat
from ._tiles import EARTH_RADIUS_M

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

__all__ = [
    "ECC2",
    "HALF_WORLD_M",
    "disc",
    "distance_m",
    "latitude",
    "longitude",
    "mercator_x",
    "named",
    "nearest_turn",
    "part_shapes",
]

HALF_WORLD_M = math.pi * EARTH_RADIUS_M
_FLATTENING = 1 / 298.257223563
ECC2 = _FLATTENING * (2 - _FLATTENING)
"""Squared eccentricity of WGS 84."""

_PIECE_M = 20_000.0
_PIECE_VERTICES = 64
_QUARTER_SEGMENTS = 16
# A polygon of N chords lies inside its circle: widening by this factor puts it outside.
_CHORD_FACTOR = 1.0 / math.cos(math.pi / (4 * _QUARTER_SEGMENTS))


def distance_m(a: LonLat, b: LonLat) -> float:
    """Great-circle distance on the mean sphere, within 0.6 % of the geodesic (haversine formula)."""
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    half_lon = math.radians(b.lon - a.lon) / 2
    h = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * 6371008.8 * math.asin(min(1.0, math.sqrt(h)))


def named(vertex: Waypoint) -> str:
    where = f"{vertex.position.lat:.6f}, {vertex.position.lon:.6f}"
    return f"{vertex.source} ({where})" if vertex.source else f"({where})"


def nearest_turn(value: float, near: float, turn: float) -> float:
    """`value` plus the whole turns that bring it nearest to `near`."""
    return value - turn * round((value - near) / turn)


def mercator_x(lon_deg: float) -> float:
    return math.radians(lon_deg) * EARTH_RADIUS_M


def _mercator_y(lat_deg: float) -> float:
    return math.asinh(math.tan(math.radians(lat_deg))) * EARTH_RADIUS_M


def latitude(y_m: float) -> float:
    return math.degrees(math.atan(math.sinh(y_m / EARTH_RADIUS_M)))


def longitude(x_m: float, *, upper: bool = False) -> float:
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
    bent = 1 - ECC2 * math.sin(phi) ** 2
    return max(bent * math.sqrt(bent) / (1 - ECC2), math.sqrt(bent)) / math.cos(phi)


def _widened(lats: Sequence[float], width_m: float, who: Waypoint) -> float:
    """`width_m` of ground in metres of the projection, at the poleward edge of the latitudes."""
    edge = max(abs(lat) for lat in lats) + math.degrees(width_m / 6335439.0)
    if edge > MAX_MERCATOR_LAT_DEG:
        raise AreaError(
            f"{named(who)} with its buffer reaches latitude {edge:.4f}°, beyond ±{MAX_MERCATOR_LAT_DEG:.4f}° "
            "where Web Mercator has no tile",
            details={"vertex": named(who)},
        )
    return width_m * _scale(edge) * _CHORD_FACTOR


def disc(centre: Waypoint, radius_m: float, near_x: float) -> BaseGeometry:
    import shapely

    position = centre.position
    x = nearest_turn(mercator_x(position.lon), near_x, 2 * HALF_WORLD_M)
    radius = _widened([position.lat], radius_m, centre)
    shape: BaseGeometry = shapely.buffer(
        shapely.Point(x, _mercator_y(position.lat)), radius, quad_segs=_QUARTER_SEGMENTS
    )
    return shape


def part_shapes(part: RoutePart, width_m: float, near_x: float) -> List[BaseGeometry]:

    vertices = part.vertices
    if part.kind is RouteKind.POINT or len(vertices) == 1:
        return [disc(vertex, width_m, near_x) for vertex in vertices]
    closed = part.kind is RouteKind.POLYGON
    ring = vertices + vertices[:1] if closed and len(vertices) > 2 else vertices
    points = _unwrapped(ring, near_x)
    shapes: List[BaseGeometry] = []
    if closed and len(vertices) > 2 and abs(points[0][0] - points[-1][0]) < HALF_WORLD_M:
        _widened([lat for _x, lat in points], 0.0, max(ring, key=lambda vertex: abs(vertex.position.lat)))
        # The inside as it is; its outline is widened below like any line.
        shapes.append(_filled([(x, _mercator_y(lat)) for x, lat in points]))
    elif closed and len(vertices) > 2:
        raise AreaError(f"the polygon from {named(ring[0])} goes around a pole", details={"vertex": named(ring[0])})
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


def _unwrapped(vertices: Sequence[Waypoint], near_x: float) -> List[Tuple[float, float]]:
    """Vertices as x and latitude; each x is the turn nearest to its predecessor's."""
    points: List[Tuple[float, float]] = []
    for vertex in vertices:
        near_x = nearest_turn(mercator_x(vertex.position.lon), near_x, 2 * HALF_WORLD_M)
        points.append((near_x, vertex.position.lat))
    return points


def _filled(ring: Sequence[Tuple[float, float]]) -> BaseGeometry:
    """The inside of the ring; one that crosses itself is filled whole, pockets included."""
    import shapely

    inside = shapely.Polygon(ring)
    if inside.is_valid:
        return inside
    faces = shapely.polygonize([shapely.node(shapely.LineString(ring))])
    filled: BaseGeometry = shapely.union_all(shapely.get_parts(faces))
    return filled


def _position(x_m: float, lat_deg: float) -> LonLat:
    return LonLat(lon=longitude(x_m), lat=lat_deg)


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
    straight = [(x_a + (x_b - x_a) * i / steps, latitude(y_a + (y_b - y_a) * i / steps)) for i in range(steps + 1)]
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
        near_x = nearest_turn(math.atan2(y, x) * EARTH_RADIUS_M, near_x, 2 * HALF_WORLD_M)
        points.append((near_x, math.degrees(math.atan2(z, math.hypot(x, y)))))
    points.append(end)
    return points
