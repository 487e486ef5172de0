# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reader of QGroundControl's plans (JSON): `.plan`. All their coordinates are [latitude, longitude]."""

from __future__ import annotations

import math
from typing import Callable, Dict, List, Optional, Tuple

from ._flight import RouteKind, RoutePart, TakeoffRule, Waypoint
from ._mission import Mission, MissionHome, MissionItem
from ._mission_json import JsonAt

__all__ = ["planned_home", "read_item", "read_plan"]

_MAX_CORRIDOR_M = 20_000.0


def read_plan(document: JsonAt) -> Mission:
    """The mission of a plan. Raises FlightFileError with the JSON path for what cannot be understood."""
    version = document.get("version")
    if version.integer(default=1) != 1:
        version.fail(f"is {version.value}: only version 1 of the plan format is known")
    body = document.get("mission")
    if body.get("version").integer(default=2) not in (1, 2):
        body.get("version").fail(f"is {body.get('version').value}: only versions 1 and 2 of the mission are known")
    mission = Mission(format="qgc-plan")
    mission.home = planned_home(body.get("plannedHomePosition"))
    for item in body.get("items").list():
        read_item(item, mission)
    _fence(document.get("geoFence"), mission)
    rally = document.get("rallyPoints")
    for point in [] if rally.is_none else rally.get("points").list():
        mission.rally.append(Waypoint(point.lat_lon(), command=5100, source=point.path))
    return mission


def planned_home(at: JsonAt) -> Optional[MissionHome]:
    """The planned home; None where it is missing, null or 0, 0, which planners write for "not planned"."""
    if at.is_none:
        return None
    values = at.list()
    if len(values) < 2:
        at.fail("is not a position [latitude, longitude, altitude]")
    lat, lon = values[0].number(), values[1].number()
    if math.isnan(lat) or math.isnan(lon) or (lat == 0 and lon == 0):
        return None
    alt_m = values[2].number() if len(values) > 2 else math.nan
    return MissionHome(at.lat_lon(), None if math.isnan(alt_m) else alt_m, TakeoffRule.PLANNED_HOME, at.path)


def read_item(at: JsonAt, mission: Mission, *, complex_item: bool = False) -> None:
    """Appends a simple or complex item to the mission."""
    if complex_item or at.get("type").text() == "ComplexItem" or at.has("complexItemType"):
        _complex(at, mission)
    else:
        mission.elements.append(_simple(at))


def _simple(at: JsonAt) -> MissionItem:
    if at.get("command").is_none:
        at.fail("has no command")
    params = at.get("params").list()
    numbers = [param.number() for param in params[:7]] + [math.nan] * (7 - len(params))
    coordinate = at.get("coordinate")
    if not coordinate.is_none:
        # Older plans, and some generators, give the position apart; it wins, since params 5-7 are then padding.
        numbers[4:7] = ([value.number() for value in coordinate.list()] + [math.nan] * 3)[:3]
    return MissionItem(
        command=at.get("command").integer(),
        frame=at.get("frame").integer(default=3),
        params=(numbers[0], numbers[1], numbers[2], numbers[3]),
        x=numbers[4],
        y=numbers[5],
        z=numbers[6],
        number=at.get("doJumpId").integer(default=-1),
        source=at.path,
    )


def _complex(at: JsonAt, mission: Mission) -> None:
    kind = at.get("complexItemType").text() or ""
    reader = _COMPLEX.get(kind)
    if reader is None:
        mission.ignore(at.path, f"complex item {kind[:60]!r} is unknown")
        mission.warnings.append(f"{at.path}: complex item {kind[:60]!r} is unknown: its area is not covered")
        return
    reader(at, mission)


def _ring(at: JsonAt) -> Tuple[Waypoint, ...]:
    return tuple(Waypoint(point.lat_lon(), source=point.path) for point in at.list())


def _width(at: JsonAt, what: str) -> float:
    value = at.number(default=0.0)
    if not 0 <= abs(value) <= _MAX_CORRIDOR_M:
        at.fail(f"is {value} m: not a {what}")
    return abs(value)


def _transects(at: JsonAt, mission: Mission) -> float:
    """The flown lines of a survey-like item; returns its turn-around distance in metres."""
    style = at.get("TransectStyleComplexItem")
    if style.is_none:
        return 0.0
    items = style.get("Items").list()
    if items:
        for item in items:
            read_item(item, mission)
    else:
        # Without computed items, the transects that the planner drew are the route.
        for point in style.get("VisualTransectPoints").list():
            mission.elements.append(_waypoint(point))
    return _width(style.get("TurnAroundDistance"), "turn-around distance")


def _waypoint(point: JsonAt, command: int = 16, radius_m: float = math.nan) -> MissionItem:
    position = point.lat_lon()
    return MissionItem(
        command, 3, (math.nan, radius_m, radius_m, math.nan), position.lat, position.lon, math.nan, -1, point.path
    )


def _survey(at: JsonAt, mission: Mission) -> None:
    turn_m = _transects(at, mission)
    polygon = _ring(at.get("polygon"))
    if polygon:
        mission.elements.append(RoutePart(RouteKind.POLYGON, polygon, half_width_m=turn_m, why="survey"))


def _corridor(at: JsonAt, mission: Mission) -> None:
    turn_m = _transects(at, mission)
    line = _ring(at.get("polyline"))
    half_m = _width(at.get("CorridorWidth"), "corridor width") / 2
    if line:
        mission.elements.append(RoutePart(RouteKind.LINE, line, half_width_m=half_m + turn_m, why="corridor_scan"))


def _structure(at: JsonAt, mission: Mission) -> None:
    polygon = _ring(at.get("polygon"))
    # The vehicle circles outside the structure, at the camera's distance from its faces.
    calc = at.get("CameraCalc")
    standoff_m = 0.0 if calc.is_none else _width(calc.get("DistanceToSurface"), "distance to the surface")
    for point in at.get("polygon").list()[:1]:
        mission.elements.append(_waypoint(point))
    if polygon:
        mission.elements.append(RoutePart(RouteKind.POLYGON, polygon, half_width_m=standoff_m, why="structure_scan"))


def _landing(at: JsonAt, mission: Mission) -> None:
    approach = at.get("landingApproachCoordinate")
    if approach.is_none:
        approach = at.get("loiterCoordinate")
    radius_m = abs(at.get("loiterRadius").number(default=0.0))
    circles = at.get("useLoiterToAlt").value is not False
    if not approach.is_none:
        mission.elements.append(_waypoint(approach, 31 if circles else 16, radius_m))
    land = at.get("landCoordinate")
    if land.is_none:
        at.fail("has no landCoordinate")
    mission.elements.append(_waypoint(land, 21))


_COMPLEX: Dict[str, Callable[[JsonAt, Mission], None]] = {
    "survey": _survey,
    "CorridorScan": _corridor,
    "StructureScan": _structure,
    "fwLandingPattern": _landing,
    "vtolLandingPattern": _landing,
}


def _fence(at: JsonAt, mission: Mission) -> None:
    if at.is_none:
        return
    for circle in at.get("circles").list():
        body = circle.get("circle")
        centre = Waypoint(body.get("center").lat_lon(), source=body.get("center").path)
        _keep(circle, RoutePart(RouteKind.POINT, (centre,), _width(body.get("radius"), "radius"), "fence"), mission)
    polygons: List[JsonAt] = at.get("polygons").list()
    for polygon in polygons:
        ring = _ring(polygon.get("polygon"))
        if ring:
            _keep(polygon, RoutePart(RouteKind.POLYGON, ring, why="fence"), mission)
    back = at.get("breachReturn")
    if not back.is_none:
        point = Waypoint(back.lat_lon(), command=5000, source=back.path)
        mission.elements.append(RoutePart(RouteKind.POINT, (point,), why="fence_return"))


def _keep(at: JsonAt, part: RoutePart, mission: Mission) -> None:
    inclusion = at.get("inclusion").value is not False
    mission.ignore(
        at.path, f"fence ({'inclusion' if inclusion else 'exclusion'}): a limit, not a place that is flown to"
    )
    if inclusion:
        mission.fence.append(part)
