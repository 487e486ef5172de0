# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reader of GPX 1.0 and 1.1: routes, else tracks, else waypoints."""

from __future__ import annotations

from typing import List, Optional, Tuple
from xml.etree.ElementTree import Element

from ._flight import Waypoint
from ._mission import Mission
from ._mission_shapes import Shapes
from ._mission_xml import children, line_of, local_name, lon_lat, text_of

__all__ = ["read_gpx"]

_LINES: Tuple[Tuple[str, str, str], ...] = (("rte", "route", "rtept"), ("trkseg", "track", "trkpt"))
"""Element of a line, what it is called, and its points; the first kind that has points is the flight."""


def read_gpx(root: Element) -> Mission:
    """The mission of a GPX document. Raises FlightFileError with the line of what cannot be understood."""
    mission = Mission(format="gpx", name=_name(root))
    shapes = Shapes(mission)
    chosen = ""
    for tag, what, point in _LINES:
        for element in root.iter():
            if local_name(element) != tag:
                continue
            vertices = [_vertex(child) for child in children(element, point)]
            if not vertices:
                mission.ignore(line_of(element), f"{what} without points")
            elif chosen and chosen != tag:
                mission.ignore(line_of(element), f"{what} beside a route: the route is flown")
            else:
                chosen = tag
                shapes.line(vertices)
    points: List[Element] = list(children(root, "wpt"))
    for element in points:
        shapes.point(_vertex(element))
    return shapes.done()


def _name(root: Element) -> Optional[str]:
    metadata = next(children(root, "metadata"), None)
    return text_of(metadata, "name") if metadata is not None else text_of(root, "name")


def _vertex(element: Element) -> Waypoint:
    where = line_of(element)
    height = text_of(element, "ele")
    try:
        alt_m = float(height) if height else None
    except ValueError:
        alt_m = None
    if alt_m is not None and not abs(alt_m) < 1e6:
        alt_m = None
    return Waypoint(lon_lat(element.get("lon"), element.get("lat"), where), alt_m, source=where)
