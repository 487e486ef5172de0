# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reader of KML: lines and tracks are flown, polygons are covered, links are never followed."""

from __future__ import annotations

import re
from typing import Callable, Dict, List, Optional
from xml.etree.ElementTree import Element

from ._errors import FlightFileError
from ._flight import Waypoint
from ._mission import MAX_VERTICES, Mission
from ._mission_shapes import Shapes
from ._mission_xml import find, line_of, local_name, lon_lat, text_of

__all__ = ["KML_ROOTS", "read_kml"]

KML_ROOTS = frozenset(
    {"kml", "Document", "Folder", "Placemark", "LineString", "LinearRing", "Polygon", "MultiGeometry", "Point"}
)
_IGNORED = {
    "NetworkLink": "link to another document: never followed",
    "NetworkLinkControl": "control of a link: never followed",
    "GroundOverlay": "image overlay: not flown",
    "PhotoOverlay": "photo overlay: not flown",
    "ScreenOverlay": "screen overlay: not flown",
    "Model": "3D model: not flown",
    "Tour": "camera tour: not flown",
}
_TOKEN = re.compile(r"\S+")


def read_kml(root: Element) -> Mission:
    """The mission of a KML document. Raises FlightFileError with the line of what cannot be understood."""
    mission = Mission(format="kml")
    document = find(root, "Document")
    mission.name = text_of(document, "name") if document is not None else None
    shapes = Shapes(mission)
    _walk(root, shapes, mission)
    return shapes.done()


def _walk(element: Element, shapes: Shapes, mission: Mission) -> None:
    """Depth is bounded by `load_xml`."""
    name = local_name(element)
    if name in _IGNORED:
        mission.ignore(line_of(element), f"{name}: {_IGNORED[name]}")
        return
    reader = _READERS.get(name)
    if reader is not None:
        reader(element, shapes)
        return
    for child in element:
        _walk(child, shapes, mission)


def _line(element: Element, shapes: Shapes) -> None:
    shapes.line(_coordinates(element))


def _ring(element: Element, shapes: Shapes) -> None:
    shapes.polygon(_coordinates(element), line_of(element))


def _polygon(element: Element, shapes: Shapes) -> None:
    # Holes are covered too: the map under a hole helps, and a survey rarely means it.
    outer = find(element, "outerBoundaryIs")
    shapes.polygon(_coordinates(outer if outer is not None else element), line_of(element))


def _point(element: Element, shapes: Shapes) -> None:
    for vertex in _coordinates(element)[:1]:
        shapes.point(vertex)


def _track(element: Element, shapes: Shapes) -> None:
    coords = [child for child in element if local_name(child) == "coord" and (child.text or "").strip()]
    shapes.line([_vertex((coord.text or "").split(), line_of(coord)) for coord in coords])


_READERS: Dict[str, Callable[[Element, Shapes], None]] = {
    "LineString": _line,
    "LinearRing": _ring,
    "Polygon": _polygon,
    "Point": _point,
    "Track": _track,
}


def _coordinates(element: Element) -> List[Waypoint]:
    found = find(element, "coordinates")
    if found is None:
        return []
    where = line_of(found)
    # Each tuple has one or two commas: refused before a vertex is made of each.
    if (found.text or "").count(",") > 2 * MAX_VERTICES:
        raise FlightFileError(f"{where}: more than {MAX_VERTICES:,} tuples")
    return [
        _vertex(match[0].split(","), f"{where}, tuple {index}")
        for index, match in enumerate(_TOKEN.finditer(found.text or ""), start=1)
    ]


def _vertex(numbers: List[str], where: str) -> Waypoint:
    if len(numbers) < 2:
        raise FlightFileError(f"{where}: {','.join(numbers)[:40]!r} is not longitude,latitude[,altitude]")
    return Waypoint(lon_lat(numbers[0], numbers[1], where), _altitude(numbers[2:3]), source=where)


def _altitude(numbers: List[str]) -> Optional[float]:
    try:
        value = float(numbers[0])
    except (IndexError, ValueError):
        return None
    return value if abs(value) < 1e6 else None
