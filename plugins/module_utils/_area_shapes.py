# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cores of a flight's parts, to be widened, in Web Mercator metres (EPSG:3857), with unwrapped longitudes.

Tiles live there, so nothing is projected twice, and the antimeridian is a cut at the end, not a
special case. A width of ground metres is multiplied by the largest scale of the projection in a
piece of route of little height, so a shape is never too small, and at most some 3 % and 2 m too wide.

Between two vertices a planner draws a straight line on a Mercator map (a rhumb line) while an
autopilot flies close to the geodesic; a long leg covers both, and what lies between them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Iterator, List, NamedTuple, Sequence, Tuple

from ._errors import AreaError
from ._flight import RouteKind, RoutePart, Waypoint
from ._geo import MAX_MERCATOR_LAT_DEG, LonLat
from ._tiles import EARTH_RADIUS_M

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

__all__ = [
    "ECC2",
    "HALF_WORLD_M",
    "QUARTER_SEGMENTS",
    "Core",
    "disc",
    "distance_m",
    "latitude",
    "longitude",
    "mercator_x",
    "named",
    "nearest_turn",
    "part_cores",
]

HALF_WORLD_M = math.pi * EARTH_RADIUS_M
_FLATTENING = 1 / 298.257223563
ECC2 = _FLATTENING * (2 - _FLATTENING)
"""Squared eccentricity of WGS 84."""

QUARTER_SEGMENTS = 8
"""Chords in a quarter of a circle, for the buffers of the cores."""

_PIECE_HEIGHT_M = 20_000.0
_PIECE_VERTICES = 8
_SAGITTA_M = 1.0
_SLACK = 0.01
_SHORTEST_RADIUS_M = 6335439.0
# A polygon of N chords lies inside its circle: widening by this factor puts it outside.
_CHORD_FACTOR = 1.0 / math.cos(math.pi / (4 * QUARTER_SEGMENTS))


Point = Tuple[float, float]
"""x and y in metres of EPSG:3857, x unwrapped."""


class Core(NamedTuple):
    """A geometry, and how far it is to be widened, both in metres of EPSG:3857."""

    geometry: BaseGeometry
    width: float


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


def disc(centre: Waypoint, radius_m: float, near_x: float) -> Core:
    """A disc of ground metres around the vertex."""
    import shapely

    x = nearest_turn(mercator_x(centre.position.lon), near_x, 2 * HALF_WORLD_M)
    width = _widened(centre.position.lat, radius_m, centre)
    return Core(shapely.Point(x, _mercator_y(centre.position.lat)), width)


def part_cores(part: RoutePart, width_m: float, near_x: float) -> List[Core]:
    """Cores that cover the part when each is widened by its own width.

    Args:
        part: the part; it has at least one vertex.
        width_m: ground metres on every side.
        near_x: x in metres near which the first vertex is unwrapped.

    Raises AreaError where the part comes too near to a pole, or goes around one.
    """
    import shapely

    vertices = part.vertices
    if part.kind is RouteKind.POINT or len(vertices) == 1:
        return [disc(vertex, width_m, near_x) for vertex in vertices]
    slack_m = width_m * _SLACK + _SAGITTA_M
    outermost = max(vertices, key=lambda vertex: abs(vertex.position.lat))
    _widened(outermost.position.lat, width_m + slack_m, outermost)
    is_ring = part.kind is RouteKind.POLYGON and len(vertices) > 2
    points = _unwrapped(vertices + vertices[:1] if is_ring else vertices, near_x)
    cores: List[Core] = []
    if is_ring:
        if abs(points[0][0] - points[-1][0]) > HALF_WORLD_M:
            who = named(vertices[0])
            raise AreaError(f"the polygon from {who} goes around a pole", details={"vertex": who})
        # The inside as it is; its outline is widened below like any line.
        cores.append(Core(_filled(points), 0.0))
    if len(points) > _PIECE_VERTICES:
        # A vertex that leaves the straight line by less than the slack adds nothing but work.
        tolerance = width_m * _SLACK * _scale(min(abs(vertex.position.lat) for vertex in vertices)) / 1.01
        line = shapely.simplify(shapely.LineString(points), tolerance, preserve_topology=False)
        points = [(point[0], point[1]) for point in shapely.get_coordinates(line).tolist()]
    for piece in _pieces(points):
        width = _widened(max(abs(latitude(y)) for _x, y in piece), width_m + slack_m, outermost)
        if len(piece) > 2 or piece[0] != piece[1]:
            cores.append(Core(shapely.LineString(piece), width))
        else:
            cores.append(Core(shapely.Point(piece[0]), width))
    for start, end in zip(points, points[1:]):
        cores.extend(Core(hull, _widened(lat, width_m + slack_m, outermost)) for hull, lat in _lens(start, end))
    return cores


def _widened(lat_deg: float, width_m: float, who: Waypoint) -> float:
    """`width_m` of ground in metres of the projection, at the poleward edge of what is widened."""
    edge = abs(lat_deg) + math.degrees(width_m / _SHORTEST_RADIUS_M)
    if edge > MAX_MERCATOR_LAT_DEG:
        raise AreaError(
            f"{named(who)} with its buffer reaches latitude {edge:.4f}°, beyond ±{MAX_MERCATOR_LAT_DEG:.4f}° "
            "where Web Mercator has no tile",
            details={"vertex": named(who)},
        )
    return width_m * _scale(edge) * _CHORD_FACTOR


def _unwrapped(vertices: Sequence[Waypoint], near_x: float) -> List[Point]:
    """Vertices in metres of the projection; each x is the turn nearest to its predecessor's."""
    points: List[Point] = []
    for vertex in vertices:
        near_x = nearest_turn(mercator_x(vertex.position.lon), near_x, 2 * HALF_WORLD_M)
        points.append((near_x, _mercator_y(vertex.position.lat)))
    return points


def _filled(ring: Sequence[Point]) -> BaseGeometry:
    """The inside of the ring; one that crosses itself is filled whole, pockets included."""
    import shapely

    inside = shapely.Polygon(ring)
    if inside.is_valid:
        return inside
    faces = shapely.polygonize([shapely.node(shapely.LineString(ring))])
    filled: BaseGeometry = shapely.union_all(shapely.get_parts(faces))
    return filled


def _pieces(points: Sequence[Point]) -> Iterator[List[Point]]:
    """The line in pieces of few vertices and of little height, so that each has about one scale."""
    piece: List[Point] = [points[0]]
    lowest = highest = points[0][1]
    for x, y in points[1:]:
        x_start, y_start = piece[-1]
        steps = max(1, math.ceil(abs(y - y_start) / _PIECE_HEIGHT_M))
        for step in range(1, steps + 1):
            y_step = y_start + (y - y_start) * step / steps
            lowest, highest = min(lowest, y_step), max(highest, y_step)
            if len(piece) >= _PIECE_VERTICES or (len(piece) > 1 and highest - lowest > _PIECE_HEIGHT_M):
                yield piece
                piece = [piece[-1]]
                lowest, highest = min(piece[0][1], y_step), max(piece[0][1], y_step)
            piece.append((x_start + (x - x_start) * step / steps, y_step))
    yield piece if len(piece) > 1 else piece * 2


def _lens(start: Point, end: Point) -> Iterator[Tuple[BaseGeometry, float]]:
    """What lies between a long leg's line on the map and its great circle, in hulls with their highest latitude.

    A leg whose two ways are nowhere further apart than the slack gives none. The sagitta of the arc is
    L² tan φ / 8R, and with it the number of hulls whose own arcs are as flat as that.
    """
    import shapely

    lat = max(abs(latitude(start[1])), abs(latitude(end[1])))
    leg_m = math.dist(start, end) * math.cos(math.radians(min(abs(latitude(start[1])), abs(latitude(end[1])))))
    steps = math.ceil(leg_m * math.sqrt(math.tan(math.radians(lat)) / (8 * EARTH_RADIUS_M * _SAGITTA_M)))
    if steps < 2:
        return
    circle = _great_circle(start, end, steps)
    straight = [
        (start[0] + (end[0] - start[0]) * i / steps, start[1] + (end[1] - start[1]) * i / steps)
        for i in range(steps + 1)
    ]
    for i in range(steps):
        corners = [straight[i], straight[i + 1], circle[i + 1], circle[i]]
        yield shapely.convex_hull(shapely.MultiPoint(corners)), max(abs(latitude(y)) for _x, y in corners)


def _great_circle(start: Point, end: Point, steps: int) -> List[Point]:
    """Points of the great circle (spherical linear interpolation)."""

    def vector(x_m: float, y_m: float) -> Tuple[float, float, float]:
        lon, lat = x_m / EARTH_RADIUS_M, math.radians(latitude(y_m))
        return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)

    a, b = vector(*start), vector(*end)
    angle = math.acos(max(-1.0, min(1.0, sum(p * q for p, q in zip(a, b)))))
    points = [start]
    near_x = start[0]
    for i in range(1, steps):
        weight_a, weight_b = math.sin((1 - i / steps) * angle), math.sin(i / steps * angle)
        x, y, z = (weight_a * p + weight_b * q for p, q in zip(a, b))
        near_x = nearest_turn(math.atan2(y, x) * EARTH_RADIUS_M, near_x, 2 * HALF_WORLD_M)
        points.append((near_x, math.asinh(z / math.hypot(x, y)) * EARTH_RADIUS_M))
    points.append(end)
    return points
