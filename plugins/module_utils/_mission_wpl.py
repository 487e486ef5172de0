# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reader of "QGC WPL" text: missions, fences and rally points of QGroundControl, pymavlink and MissionPlanner."""

from __future__ import annotations

import math
import re
from typing import List

from ._errors import FlightFileError
from ._flight import RouteKind, RoutePart, TakeoffRule, Waypoint
from ._geo import LonLat
from ._mission import Mission, MissionHome, MissionItem, is_unset

__all__ = ["is_wpl", "read_wpl"]

_HEADER = re.compile(r"\s*(?:QGC\s+WPL|PB)\s+(\d{1,4})\s*(?:#.*)?\Z")
_VERSIONS_WITH_HOME = frozenset({"100", "110"})
_VERSION_WITHOUT_HOME = "120"
_FIELDS = 12
_SEPARATORS = tuple(re.compile(pattern) for pattern in (r"\s+", r"\s*;\s*", r"\s*,\s*", r"[\s,;]+"))
"""Ways to part a line, tried in order until one gives the right number of fields: a comma is a separator
only where blanks and tabs are not, since some writers put decimal commas."""
_MAX_LINES = 110_000


def is_wpl(text: str) -> bool:
    """True where the first line that is not blank or a comment is the header."""
    for line in text.splitlines()[:50]:
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            return re.match(r"(?:QGC\s+WPL|PB)\b", stripped) is not None
    return False


def read_wpl(text: str) -> Mission:
    """The mission of the text. Raises FlightFileError with the line for what cannot be understood."""
    lines = text.splitlines()
    if len(lines) > _MAX_LINES:
        raise FlightFileError(f"the file has {len(lines):,} lines, over the limit of {_MAX_LINES:,}")
    version = ""
    mission = Mission(format="qgc-wpl")
    items: List[MissionItem] = []
    for number, line in enumerate(lines, start=1):
        stripped = line.split("#", 1)[0].strip()
        if not stripped:
            continue
        if not version:
            version = _version(stripped, number)
            continue
        items.append(_item(stripped, number, len(items)))
    _fences(items, mission)
    if items and version in _VERSIONS_WITH_HOME and _is_home(items[0]):
        items = _take_home(items, mission)
    mission.elements.extend(item for item in items if item.command not in _FENCE)
    return mission


def _version(line: str, number: int) -> str:
    header = _HEADER.match(line)
    if header is None:
        raise FlightFileError(f"line {number}: the header {line[:40]!r} is not `QGC WPL 110`", details={"line": number})
    if header[1] not in _VERSIONS_WITH_HOME and header[1] != _VERSION_WITHOUT_HOME:
        raise FlightFileError(
            f"line {number}: version {header[1]} of the QGC WPL format is unknown (known are 100, 110 and 120)",
            details={"line": number},
        )
    return header[1]


def _item(line: str, number: int, index: int) -> MissionItem:
    fields = _fields(line, number)
    values = [_value(name, text, number) for name, text in zip(_NAMES, fields)]
    for at in (2, 3):
        if values[at] != math.floor(values[at]) if math.isfinite(values[at]) else True:
            raise _wrong(number, f"{_NAMES[at]} is {fields[at][:40]!r}, not a whole number")
    return MissionItem(
        command=int(values[3]),
        frame=int(values[2]),
        params=(values[4], values[5], values[6], values[7]),
        x=values[8],
        y=values[9],
        z=values[10],
        # Jumps count items in the order of the file; real files have gaps in `seq`.
        number=index,
        source=f"line {number}",
    )


def _fields(line: str, number: int) -> List[str]:
    line = line.rstrip(",;")
    most = 0
    # Some writers leave the last field (autocontinue) out.
    for wanted in (_FIELDS, _FIELDS - 1):
        for separator in _SEPARATORS:
            fields = separator.split(line)
            if len(fields) == wanted:
                return fields
            most = max(most, len(fields))
    raise _wrong(number, f"has {most} fields, not {_FIELDS} (seq current frame command p1-p4 lat lon alt autocontinue)")


def _value(name: str, text: str, number: int) -> float:
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    # float() takes "1_000" and "inf" too; no planner means a number by them.
    if math.isinf(value) or "_" in text:
        raise _wrong(number, f"{name} is {text[:40]!r}, not a number")
    return value


def _wrong(number: int, why: str) -> FlightFileError:
    return FlightFileError(f"line {number}: {why}", details={"line": number})


_NAMES = ("seq", "current", "frame", "command", "p1", "p2", "p3", "p4", "lat", "lon", "alt", "autocontinue")


def _is_home(item: MissionItem) -> bool:
    return item.command == 16 and item.frame == 0


def _take_home(items: List[MissionItem], mission: Mission) -> List[MissionItem]:
    home = items[0]
    if is_unset(home.x) or is_unset(home.y) or (home.x == 0 and home.y == 0):
        mission.ignore(home.source, "home that is not set", command=home.command)
    elif not (abs(home.x) <= 90 and abs(home.y) <= 180):
        raise FlightFileError(f"{home.source}: home {home.x}, {home.y} is not a latitude and a longitude")
    else:
        mission.home = MissionHome(
            LonLat(lon=home.y, lat=home.x), None if is_unset(home.z) else home.z, TakeoffRule.PLANNED_HOME, home.source
        )
        mission.ignore(home.source, "home (item 0): the take-off origin, not a waypoint", command=home.command)
    return items[1:]


_FENCE = frozenset({5001, 5002, 5003, 5004})
_POLYGONS = frozenset({5001, 5002})
_INCLUSIONS = frozenset({5001, 5003})


def _fences(items: List[MissionItem], mission: Mission) -> None:
    """Fence items: a polygon is as many vertices in a row as each of them says (param 1)."""
    ring: List[Waypoint] = []
    for item in items:
        if item.command not in _FENCE:
            continue
        inclusion = item.command in _INCLUSIONS
        mission.ignore(
            item.source,
            f"fence ({'inclusion' if inclusion else 'exclusion'}): a limit, not a place that is flown to",
            command=item.command,
        )
        if not inclusion:
            continue
        position = _fence_position(item)
        vertex = Waypoint(position, command=item.command, source=item.source)
        if item.command not in _POLYGONS:
            radius_m = 0.0 if is_unset(item.params[0]) else min(abs(item.params[0]), 20_000.0)
            mission.fence.append(RoutePart(RouteKind.POINT, (vertex,), radius_m, "fence"))
            continue
        ring.append(vertex)
        if len(ring) >= 3 and len(ring) == item.params[0]:
            mission.fence.append(RoutePart(RouteKind.POLYGON, tuple(ring), why="fence"))
            ring = []
    if ring:
        mission.fence.append(RoutePart(RouteKind.POLYGON, tuple(ring), why="fence"))


def _fence_position(item: MissionItem) -> LonLat:
    if not (abs(item.x) <= 90 and abs(item.y) <= 180):
        raise FlightFileError(f"{item.source}: position {item.x}, {item.y} is not a latitude and a longitude")
    return LonLat(lon=item.y, lat=item.x)
