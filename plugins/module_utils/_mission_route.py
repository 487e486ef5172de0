# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a mission to a flight: which items are flown, where the vehicle takes off, which legs lead home."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace
from typing import Callable, Dict, List, Optional, Tuple

from ._errors import FlightFileError, FlightRouteError
from ._flight import (
    Flight,
    FlightResolveSource,
    IgnoredItem,
    RouteKind,
    RoutePart,
    TakeoffOrigin,
    TakeoffRule,
    Waypoint,
)
from ._geo import LonLat
from ._mavlink_commands import FRAME_MISSION, FRAMES_GLOBAL, FRAMES_LOCAL, Command, Role, command_of
from ._mission import Mission, MissionBreak, MissionHome, MissionItem, is_unset

__all__ = ["DEFAULT_LOITER_RADIUS_M", "MAX_ITEMS", "flight_from_mission"]

DEFAULT_LOITER_RADIUS_M = 80.0
"""Radius of a loiter whose item leaves it to the vehicle: PX4's NAV_LOITER_RAD (80 m; ArduPlane's is 60 m)."""

MAX_ITEMS = 100_000
MAX_RADIUS_M = 20_000.0
HOME_WARNING_M = 1_000.0
_HOME_LEGS = frozenset({"departure", "return_to_launch", "rally"})

_RETURN_TO_LAUNCH = 20
_TAKEOFFS = frozenset({22, 84})
_SET_HOME = 179
_FENCE_RETURN = 5000
_RALLY = 5100
_SPLINE = 82
_ARC = 36


def flight_from_mission(
    mission: Mission,
    *,
    flight_id: str,
    source: FlightResolveSource,
    revision: Optional[str] = None,
    origin: Optional[TakeoffOrigin] = None,
    name: Optional[str] = None,
) -> Flight:
    """The flight that the mission describes.

    Args:
        mission: what a reader found.
        flight_id: name of the flight in reports.
        source: where it came from.
        revision: ETag or file hash.
        origin: the operator's own take-off origin, stronger than anything in the file.
        name: a better name than the file's own.

    Raises:
        FlightFileError: an item's position is impossible.
        FlightRouteError: nothing in the mission is a position to fly to.
    """
    if len(mission.elements) > MAX_ITEMS:
        raise FlightFileError(f"the mission has {len(mission.elements):,} items, over the limit of {MAX_ITEMS:,}")
    walk = _Walk(mission)
    walk.run()
    route = walk.flown
    parts = walk.parts
    if not route and not any(part.vertices for part in parts) and not mission.rally and not mission.fence:
        raise FlightRouteError(
            f"the {mission.format} mission has no position to fly to"
            + (f" ({len(walk.ignored)} items without one)" if walk.ignored else "")
        )
    if not route and not any(part.vertices for part in parts):
        parts, warnings = _without_route(mission)
        walk.warnings.extend(warnings)
    chosen = _origin(origin, mission.home, walk, parts)
    parts = walk.departure(chosen) + parts + walk.return_legs(chosen)
    _warn_of_far_home(chosen, parts, walk.warnings)
    return Flight(
        flight_id=flight_id,
        name=name or mission.name,
        source=source,
        format=mission.format,
        waypoints=tuple(route),
        parts=tuple(parts),
        takeoff_origin=chosen,
        revision=revision,
        ignored=tuple(mission.ignored + walk.ignored),
        warnings=tuple(mission.warnings + walk.warnings),
    )


def _without_route(mission: Mission) -> Tuple[List[RoutePart], List[str]]:
    """A file of only fences or rally points still says where the drone will be."""
    if mission.fence:
        return list(mission.fence), ["the file holds a fence and no route: the area inside the fence is covered"]
    points = [RoutePart(RouteKind.POINT, (vertex,), why="rally") for vertex in mission.rally]
    return points, ["the file holds rally points and no route: the rally points are covered"]


def _origin(
    option: Optional[TakeoffOrigin], home: Optional[MissionHome], walk: _Walk, parts: List[RoutePart]
) -> TakeoffOrigin:
    if option is not None:
        return replace(option, rule=TakeoffRule.OPTION)
    if home is not None:
        return TakeoffOrigin(home.position.lat, home.position.lon, home.alt_m, home.rule)
    if walk.takeoff is not None:
        return _origin_at(walk.takeoff, TakeoffRule.TAKEOFF_ITEM)
    first = walk.flown[0] if walk.flown else next(part.vertices[0] for part in parts if part.vertices)
    return _origin_at(first, TakeoffRule.FIRST_WAYPOINT)


def _origin_at(vertex: Waypoint, rule: TakeoffRule) -> TakeoffOrigin:
    # An item's altitude is above home, above terrain or above the sea: only a home's altitude is known to be AMSL.
    return TakeoffOrigin(vertex.position.lat, vertex.position.lon, None, rule)


def _warn_of_far_home(origin: TakeoffOrigin, parts: List[RoutePart], warnings: List[str]) -> None:
    at = LonLat(lon=origin.lon_deg, lat=origin.lat_deg)
    vertices = [vertex for part in parts if part.why not in _HOME_LEGS for vertex in part.vertices]
    nearest = min((rough_distance_m(at, vertex.position) for vertex in vertices), default=0.0)
    if nearest > HOME_WARNING_M:
        warnings.append(
            f"the take-off origin ({origin.rule.value}) is {nearest / 1000:,.1f} km from the nearest waypoint"
        )


def rough_distance_m(a: LonLat, b: LonLat) -> float:
    """Great-circle distance on the mean sphere (haversine formula)."""
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    half_lon = math.radians(b.lon - a.lon) / 2
    h = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * 6371008.8 * math.asin(min(1.0, math.sqrt(h)))


class _Walk:
    """One pass over the mission's elements."""

    def __init__(self, mission: Mission) -> None:
        self.mission = mission
        self.flown: List[Waypoint] = []
        self.parts: List[RoutePart] = []
        self.ignored: List[IgnoredItem] = []
        self.warnings: List[str] = []
        self.takeoff: Optional[Waypoint] = None
        self._line: List[Waypoint] = []
        self._returns: List[Tuple[str, Optional[Waypoint]]] = []
        self._at_number: Dict[int, Waypoint] = {}
        self._jumps: List[Tuple[MissionItem, Optional[Waypoint]]] = []
        self._last: Optional[Waypoint] = None

    def run(self) -> None:
        for element in self.mission.elements:
            if isinstance(element, MissionItem):
                self._item(element)
            elif isinstance(element, RoutePart):
                self._part(element)
            else:
                self._break(element)
        self._end_line()
        self._follow_jumps()

    def _part(self, part: RoutePart) -> None:
        self.parts.append(part)
        if part.kind is RouteKind.LINE and part.why == "route":
            self.flown.extend(part.vertices)

    def _break(self, _element: MissionBreak) -> None:
        self._end_line()
        self._last = None

    def _end_line(self) -> None:
        if len(self._line) > 1:
            self.parts.append(RoutePart(RouteKind.LINE, tuple(self._line)))
        elif self._line:
            self.parts.append(RoutePart(RouteKind.POINT, tuple(self._line)))
        self._line = []

    def _ignore(self, item: MissionItem, reason: str) -> None:
        self.ignored.append(IgnoredItem(source=item.source, command=item.command, reason=reason))

    def _item(self, item: MissionItem) -> None:
        command = command_of(item.command)
        if command is None:
            self._ignore(item, f"command {item.command} is unknown: taken as no position")
            self.warnings.append(f"{item.source}: command {item.command} is unknown and was taken as no position")
            return
        special = _SPECIAL.get(item.command)
        if special is not None and special(self, item, command):
            return
        if command.role is not Role.FLOWN:
            self._ignore(item, f"{command.name}: {command.role.value}")
        elif item.frame in FRAMES_LOCAL:
            self._ignore(item, f"{command.name} in local frame {item.frame}: metres, not degrees")
        elif item.frame == FRAME_MISSION and ((item.x == 0 and item.y == 0) or is_unset(item.x) or is_unset(item.y)):
            self._stay(item, command)
        elif item.frame not in FRAMES_GLOBAL and item.frame != FRAME_MISSION:
            self._ignore(item, f"{command.name} in unknown frame {item.frame}")
            self.warnings.append(f"{item.source}: frame {item.frame} is unknown, the item was ignored")
        elif is_unset(item.x) or is_unset(item.y) or (item.x == 0 and item.y == 0):
            self._stay(item, command)
        else:
            self._fly(item, command, _position_of(item))

    def _stay(self, item: MissionItem, command: Command) -> None:
        """`0, 0` or an unset position means "where you are": the vertex before it, or home for the first."""
        here = self._last
        if here is None and self.mission.home is not None:
            here = Waypoint(self.mission.home.position, source=self.mission.home.source)
        self._ignore(item, f"{command.name} without a position: flown at the current position")
        if here is None:
            return
        if not self._line and not self.flown:
            # The climb, or the hover, is at home; the first leg starts there.
            self._line.append(replace(here, command=item.command, source=item.source))
        radius_m = _radius(item, command)
        if radius_m > 0:
            self.parts.append(RoutePart(RouteKind.POINT, (here,), half_width_m=radius_m, why="loiter"))
        self._at_number[item.number] = here

    def _fly(self, item: MissionItem, command: Command, position: LonLat) -> None:
        radius_m = _radius(item, command)
        if radius_m > MAX_RADIUS_M:
            self.warnings.append(
                f"{item.source}: radius {radius_m:,.0f} m is over {MAX_RADIUS_M:,.0f} m and was taken as that"
            )
            radius_m = MAX_RADIUS_M
        vertex = Waypoint(
            position=position,
            alt_m=None if is_unset(item.z) else item.z,
            command=item.command,
            radius_m=radius_m,
            source=item.source,
        )
        if item.command in _TAKEOFFS and self.takeoff is None:
            self.takeoff = vertex
        if radius_m > 0:
            self.parts.append(RoutePart(RouteKind.POINT, (vertex,), half_width_m=radius_m, why="loiter"))
        if self._last is not None and item.command in (_SPLINE, _ARC):
            # A spline overshoots and an arc bulges: at most by half the leg in every layout that autopilots accept.
            half_m = rough_distance_m(self._last.position, position) / 2
            self.parts.append(RoutePart(RouteKind.LINE, (self._last, vertex), half_width_m=half_m, why="curve"))
        self.flown.append(vertex)
        self._line.append(vertex)
        self._last = vertex
        self._at_number[item.number] = vertex

    # Commands with a meaning of their own: each returns True where it has dealt with the item.

    def go_home(self, item: MissionItem, command: Command) -> bool:
        self._ignore(item, f"{command.name}: the legs home and to the rally points are covered instead")
        self._returns.append((item.source, self._last))
        # What follows is reached from home or by a jump, not from here.
        self._end_line()
        return True

    def jump(self, item: MissionItem, command: Command) -> bool:
        self._ignore(item, f"{command.name} to item {_integer(item.params[0])}: no position of its own")
        self._jumps.append((item, self._last))
        return True

    def set_home(self, item: MissionItem, command: Command) -> bool:
        reason = "sets home to the vehicle's position" if item.params[0] == 1 else Role.LOOKED_AT.value
        self._ignore(item, f"{command.name}: {reason}")
        return True

    def fence_or_rally(self, item: MissionItem, command: Command) -> bool:
        position = _position_of(item)
        vertex = Waypoint(position, None if is_unset(item.z) else item.z, item.command, source=item.source)
        if item.command == _RALLY:
            self.mission.rally.append(vertex)
            self._ignore(item, f"{command.name}: covered as a place to return to, not flown in order")
        else:
            self.parts.append(RoutePart(RouteKind.POINT, (vertex,), why="fence_return"))
            self._ignore(item, f"{command.name}: covered as the place to go on a breach, not flown in order")
        return True

    def _follow_jumps(self) -> None:
        known = {element.number for element in self.mission.elements if isinstance(element, MissionItem)}
        placed = sorted(self._at_number)
        for item, start in self._jumps:
            number = _integer(item.params[0])
            if number is None or number not in known:
                self.warnings.append(f"{item.source}: jumps to item {number}, which does not exist")
                continue
            # The target may be an item without a position: the leg then ends at the next one that has one.
            at = bisect_left(placed, number)
            target = self._at_number[placed[at]] if at < len(placed) else None
            if start is not None and target is not None and start.position != target.position:
                self.parts.append(RoutePart(RouteKind.LINE, (start, target), why="jump"))

    def departure(self, origin: TakeoffOrigin) -> List[RoutePart]:
        """The leg from the take-off to the first vertex, where the mission itself does not start there."""
        at = LonLat(lon=origin.lon_deg, lat=origin.lat_deg)
        route = next((part for part in self.parts if part.why == "route"), None)
        if not self.flown or self.flown[0].position == at or (route is not None and route.vertices[0].position == at):
            return []
        home = Waypoint(at, source=f"take-off origin ({origin.rule.value})")
        return [RoutePart(RouteKind.LINE, (home, self.flown[0]), why="departure")]

    def return_legs(self, origin: TakeoffOrigin) -> List[RoutePart]:
        home = Waypoint(LonLat(lon=origin.lon_deg, lat=origin.lat_deg), source=f"take-off origin ({origin.rule.value})")
        if len(self._returns) * len(self.mission.rally) > MAX_ITEMS:
            raise FlightFileError(
                f"the mission returns {len(self._returns):,} times and has {len(self.mission.rally):,} rally points: "
                f"over the limit of {MAX_ITEMS:,} legs"
            )
        legs: List[RoutePart] = []
        for source, start in self._returns:
            if start is not None and start.position != home.position:
                legs.append(
                    RoutePart(
                        RouteKind.LINE,
                        (replace(start, source=f"{start.source} before {source}"), home),
                        why="return_to_launch",
                    )
                )
            if start is not None:
                legs.extend(RoutePart(RouteKind.LINE, (start, rally), why="rally") for rally in self.mission.rally)
        legs.extend(RoutePart(RouteKind.POINT, (rally,), why="rally") for rally in self.mission.rally)
        return legs


_Handler = Callable[[_Walk, MissionItem, Command], bool]

_SPECIAL: Dict[int, _Handler] = {
    _RETURN_TO_LAUNCH: _Walk.go_home,
    177: _Walk.jump,
    _SET_HOME: _Walk.set_home,
    _FENCE_RETURN: _Walk.fence_or_rally,
    _RALLY: _Walk.fence_or_rally,
}


def _integer(value: float) -> Optional[int]:
    return int(value) if math.isfinite(value) and abs(value) < 1e9 else None


def _radius(item: MissionItem, command: Command) -> float:
    """The radius that the item flies, in metres; the sign is a direction, 0 and unset are the vehicle's default."""
    if command.radius_param is None:
        return 0.0
    value = item.params[command.radius_param - 1]
    return DEFAULT_LOITER_RADIUS_M if is_unset(value) or value == 0 else abs(value)


def _position_of(item: MissionItem) -> LonLat:
    """The item's position; degrees, or 1e-7 degrees where the numbers can be nothing else."""
    lat, lon = item.x, item.y
    if abs(lat) > 90 or abs(lon) > 360:
        lat, lon = lat * 1e-7, lon * 1e-7
    if not (abs(lat) <= 90 and abs(lon) <= 360):
        raise FlightFileError(
            f"{item.source}: position {item.x}, {item.y} is not a latitude and a longitude",
            details={"where": item.source},
        )
    if abs(lon) > 180:
        lon = (lon + 180.0) % 360.0 - 180.0
    return LonLat(lon=lon, lat=lat)
