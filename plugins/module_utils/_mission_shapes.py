# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shapes of formats that know lines, polygons and points but no commands: KML, GPX, GeoJSON."""

from __future__ import annotations

from typing import List, Tuple

from ._errors import FlightFileError
from ._flight import RouteKind, RoutePart, Waypoint
from ._mission import MAX_VERTICES, Mission

__all__ = ["Shapes"]


class Shapes:
    """Gathers what a file draws, and decides what of it is flown.

    Lines are flown and polygons are covered. Points are the route only where there is nothing else:
    beside lines or polygons they are labels.
    """

    def __init__(self, mission: Mission) -> None:
        self._mission = mission
        self._points: List[Waypoint] = []
        self._drawn = 0
        self._count = 0

    def line(self, vertices: List[Waypoint], why: str = "route") -> None:
        if vertices:
            kind = RouteKind.LINE if len(vertices) > 1 else RouteKind.POINT
            self._add(RoutePart(kind, tuple(vertices), why=why))

    def polygon(self, ring: List[Waypoint], source: str) -> None:
        if len(ring) > 1 and ring[0].position == ring[-1].position:
            ring = ring[:-1]
        if len(ring) < 3:
            self._mission.ignore(source, "polygon with fewer than three corners")
            return
        self._add(RoutePart(RouteKind.POLYGON, tuple(ring), why="survey"))

    def point(self, vertex: Waypoint) -> None:
        self._tally(1)
        self._points.append(vertex)

    def done(self) -> Mission:
        points: Tuple[Waypoint, ...] = tuple(self._points)
        if self._drawn:
            for vertex in points:
                self._mission.ignore(vertex.source, "point beside lines or polygons: a label, not flown to")
        elif points:
            kind = RouteKind.LINE if len(points) > 1 else RouteKind.POINT
            self._mission.elements.append(RoutePart(kind, points))
            if len(points) > 1:
                self._mission.warnings.append("the file holds points and no line: they are taken as a route in order")
        return self._mission

    def _add(self, part: RoutePart) -> None:
        self._drawn += 1
        self._tally(len(part.vertices))
        self._mission.elements.append(part)

    def _tally(self, count: int) -> None:
        self._count += count
        if self._count > MAX_VERTICES:
            raise FlightFileError(f"the file has more than {MAX_VERTICES:,} vertices")
