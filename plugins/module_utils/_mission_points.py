# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Readers of bare text: fences (`lat lon` lines) and rally points (`RALLY …` lines) of MAVProxy and MissionPlanner."""

from __future__ import annotations

import io
import re
from typing import List, Match, Optional, Pattern, Tuple

from ._errors import FlightFileError
from ._flight import RouteKind, RoutePart, Waypoint
from ._geo import LonLat
from ._mission import MAX_VERTICES, Mission

__all__ = ["is_fence_text", "is_rally_text", "read_fence_text", "read_rally_text"]

_NUMBER = r"[+-]?\d{1,3}(?:[.,]\d{1,20})?"
_PAIR = re.compile(rf"({_NUMBER})(?:\s*;\s*|\s+|\s*,\s+|,(?=[+-]?\d+\.))({_NUMBER})\s*\Z")
_RALLY = re.compile(rf"RALLY\s+({_NUMBER})\s+({_NUMBER})\s+(\S+)(?:\s+\S+){{0,4}}\s*\Z")


def is_fence_text(text: str) -> bool:
    """True where the first line that says anything is a pair of numbers."""
    return _PAIR.match(_first(text)) is not None


def is_rally_text(text: str) -> bool:
    """True where the first line that says anything begins with RALLY."""
    return _first(text).startswith("RALLY")


def read_fence_text(text: str) -> Mission:
    """The fence: its first line is the return point, the others its corners, the last of them the first again."""
    mission = Mission(format="fence-text")
    vertices = [_vertex(match, number) for number, match in _lines(text, _PAIR, "a pair `latitude longitude`")]
    home, ring = vertices[0], vertices[1:]
    if len(ring) > 1 and ring[0].position == ring[-1].position:
        ring = ring[:-1]
    mission.ignore(home.source, "return point of the fence: flown to on a breach only")
    mission.elements.append(RoutePart(RouteKind.POINT, (home,), why="fence_return"))
    if ring:
        kind = RouteKind.POLYGON if len(ring) > 2 else RouteKind.POINT
        mission.elements.append(RoutePart(kind, tuple(ring), why="fence"))
        mission.warnings.append("the file holds a fence and no route: the area inside the fence is covered")
    return mission


def read_rally_text(text: str) -> Mission:
    """The rally points."""
    mission = Mission(format="rally-text")
    for number, match in _lines(text, _RALLY, "`RALLY latitude longitude altitude …`"):
        mission.rally.append(_vertex(match, number))
    return mission


def _first(text: str) -> str:
    for line in text.splitlines()[:50]:
        stripped = line.split("#", 1)[0].strip()
        if stripped:
            return stripped
    return ""


def _lines(text: str, pattern: Pattern[str], what: str) -> List[Tuple[int, Match[str]]]:
    found: List[Tuple[int, Match[str]]] = []
    for number, line in enumerate(io.StringIO(text), start=1):
        stripped = line.split("#", 1)[0].strip()
        if not stripped:
            continue
        match: Optional[Match[str]] = pattern.match(stripped)
        if match is None:
            raise FlightFileError(f"line {number}: {stripped[:60]!r} is not {what}", details={"line": number})
        found.append((number, match))
        if len(found) > MAX_VERTICES:
            raise FlightFileError(f"line {number}: more than {MAX_VERTICES:,} points")
    return found


def _vertex(match: Match[str], number: int) -> Waypoint:
    lat, lon = (float(match[at].replace(",", ".")) for at in (1, 2))
    if not (abs(lat) <= 90 and abs(lon) <= 180):
        raise FlightFileError(
            f"line {number}: {lat}, {lon} is not a latitude and a longitude", details={"line": number}
        )
    return Waypoint(LonLat(lon=lon, lat=lat), source=f"line {number}")
