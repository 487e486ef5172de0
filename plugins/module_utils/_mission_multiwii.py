# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reader of INAV's and MultiWii's mission XML, as mwp, INAV Configurator and EZ-GUI write it."""

from __future__ import annotations

import math
from typing import Dict, Optional
from xml.etree.ElementTree import Element

from ._errors import FlightFileError
from ._flight import TakeoffRule
from ._mission import Mission, MissionBreak, MissionHome, MissionItem
from ._mission_xml import line_of, local_name, lon_lat

__all__ = ["MULTIWII_ROOTS", "read_multiwii"]

MULTIWII_ROOTS = frozenset({"mission", "missions"})
"""Names of the root element, in lower case."""

_COMMANDS: Dict[str, int] = {
    "WAYPOINT": 16,
    "POSHOLD_UNLIM": 17,
    "POSHOLD_TIME": 19,
    "RTH": 20,
    "LAND": 21,
    "SET_HEAD": 115,
    "JUMP": 177,
    "SET_POI": 195,
    "UNASSIGNED": 16,
}
_END_OF_MISSION = 165
_FLY_BY_HOME = 72


def read_multiwii(root: Element) -> Mission:
    """The mission of the document. Raises FlightFileError with the line of what cannot be understood."""
    mission = Mission(format="multiwii-xml")
    for element in root.iter():
        kind = local_name(element).lower()
        if kind == "mwp" and mission.home is None:
            mission.home = _home(element)
        elif kind == "missionitem":
            _item(element, mission)
    return mission


def _home(element: Element) -> Optional[MissionHome]:
    lon, lat = _attribute(element, "home-x"), _attribute(element, "home-y")
    if lon is None or lat is None:
        return None
    position = lon_lat(lon, lat, f"{line_of(element)} (home)")
    if position.lat == 0 and position.lon == 0:
        return None
    return MissionHome(position, None, TakeoffRule.PLANNED_HOME, f"{line_of(element)} (home)")


def _item(element: Element, mission: Mission) -> None:
    where = line_of(element)
    action = (_attribute(element, "action") or "").strip().upper()
    command = _COMMANDS.get(action)
    flag = int(_number(element, "flag", where))
    number = int(_number(element, "no", where))
    if command is None:
        mission.ignore(where, f"action {action[:40]!r} is unknown: taken as no position")
        mission.warnings.append(f"{where}: action {action[:40]!r} is unknown and was taken as no position")
    else:
        lat, lon = _number(element, "lat", where), _number(element, "lon", where)
        if flag == _FLY_BY_HOME and mission.home is not None:
            lat, lon = mission.home.position.lat, mission.home.position.lon
        elif flag == _FLY_BY_HOME:
            mission.warnings.append(f"{where}: flies to home, which the file does not state")
        first = _number(element, "parameter1", where)
        # No action of this format has a radius: 1 m keeps the loiter from being widened to a default of others.
        params = (first, 1.0, 1.0, math.nan)
        mission.elements.append(
            MissionItem(command, 3, params, lat, lon, _number(element, "alt", where), number, where)
        )
    if flag == _END_OF_MISSION:
        mission.elements.append(MissionBreak("next mission"))


def _attribute(element: Element, name: str) -> Optional[str]:
    return next((value for key, value in element.attrib.items() if key.lower() == name), None)


def _number(element: Element, name: str, where: str) -> float:
    text = _attribute(element, name)
    if text is None:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e10:
        raise FlightFileError(f"{where}: {name} is {text[:40]!r}, not a number")
    return value
