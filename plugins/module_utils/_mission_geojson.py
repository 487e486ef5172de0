# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reader of GeoJSON (RFC 7946): lines are flown, polygons are covered. Coordinates are [longitude, latitude]."""

from __future__ import annotations

import math
import re
from typing import Any, Callable, Dict, List, Optional

from ._flight import Waypoint
from ._geo import LonLat
from ._mission import Mission
from ._mission_json import JsonAt
from ._mission_shapes import Shapes

__all__ = ["is_geojson", "read_geojson"]

_DEGREES = re.compile(r"(?:OGC:1\.3:CRS84|EPSG:(?:\d|\.)*:?4326|OGC::CRS84)\Z")


def is_geojson(body: Any) -> bool:
    """True for an object whose type is one of GeoJSON's."""
    return body.get("type") in {"FeatureCollection", "Feature", "GeometryCollection", *_GEOMETRIES}


def read_geojson(document: JsonAt) -> Mission:
    """The mission of a GeoJSON document. Raises FlightFileError with the JSON path."""
    _check_crs(document.get("crs"))
    mission = Mission(format="geojson", name=document.get("name").text())
    shapes = Shapes(mission)
    _object(document, shapes, mission)
    return shapes.done()


def _check_crs(at: JsonAt) -> None:
    """GeoJSON is in WGS 84 degrees; older files may name another system, whose numbers would be misread."""
    if at.is_none:
        return
    name = at.get("properties").get("name").text() if not at.get("properties").is_none else None
    if name is None or not _DEGREES.search(name):
        at.fail(f"is {str(name)[:60]!r}: only WGS 84 degrees (CRS84) are read")


def _object(at: JsonAt, shapes: Shapes, mission: Mission) -> None:
    kind = at.get("type").text() or ""
    if kind == "FeatureCollection":
        for feature in at.get("features").list():
            _object(feature, shapes, mission)
    elif kind == "Feature":
        geometry = at.get("geometry")
        if geometry.is_none:
            mission.ignore(at.path or "the document", "feature without a geometry")
        else:
            _object(geometry, shapes, mission)
    elif kind == "GeometryCollection":
        for geometry in at.get("geometries").list():
            _object(geometry, shapes, mission)
    elif kind in _GEOMETRIES:
        _GEOMETRIES[kind](at.get("coordinates"), shapes)
    else:
        at.fail(f"has the type {kind[:40]!r}, which GeoJSON does not know")


def _vertex(at: JsonAt) -> Waypoint:
    numbers = at.list()
    if len(numbers) < 2:
        at.fail("is not a position [longitude, latitude]")
    lon, lat = numbers[0].number(), numbers[1].number()
    if not (abs(lon) <= 180 and abs(lat) <= 90):
        at.fail(f"is not a position: longitude {lon}, latitude {lat}")
    alt_m: Optional[float] = numbers[2].number() if len(numbers) > 2 else math.nan
    return Waypoint(LonLat(lon=lon, lat=lat), None if alt_m is None or math.isnan(alt_m) else alt_m, source=at.path)


def _vertices(at: JsonAt) -> List[Waypoint]:
    return [_vertex(position) for position in at.list()]


def _point(at: JsonAt, shapes: Shapes) -> None:
    shapes.point(_vertex(at))


def _line(at: JsonAt, shapes: Shapes) -> None:
    shapes.line(_vertices(at))


def _polygon(at: JsonAt, shapes: Shapes) -> None:
    # The first ring is the outline; holes are covered too.
    for ring in at.list()[:1]:
        shapes.polygon(_vertices(ring), at.path)


_Reader = Callable[[JsonAt, Shapes], None]


def _many(one: _Reader) -> _Reader:
    def read(at: JsonAt, shapes: Shapes) -> None:
        for member in at.list():
            one(member, shapes)

    return read


_GEOMETRIES: Dict[str, _Reader] = {
    "Point": _point,
    "LineString": _line,
    "Polygon": _polygon,
    "MultiPoint": _many(_point),
    "MultiLineString": _many(_line),
    "MultiPolygon": _many(_polygon),
}
