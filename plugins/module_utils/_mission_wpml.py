# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reader of DJI's WPML: the waylines of a `.wpml` document. Namespaces vary by release: local names count."""

from __future__ import annotations

import math
from typing import List, Optional
from xml.etree.ElementTree import Element

from ._flight import TakeoffRule
from ._mission import Mission, MissionBreak, MissionHome, MissionItem
from ._mission_kml import read_kml
from ._mission_xml import children, find, line_of, local_name, lon_lat, text_of

__all__ = ["has_waylines", "is_wpml", "read_wpml", "take_off_reference"]

_FINISH_AT_HOME = frozenset({"goHome"})
_NAMESPACES = ("http://www.dji.com/wpmz/", "http://www.uav.com/wpmz/")


def is_wpml(root: Element) -> bool:
    """True where any element is in one of DJI's namespaces."""
    return any(element.tag.startswith(tuple("{" + space for space in _NAMESPACES)) for element in root.iter())


def has_waylines(root: Element) -> bool:
    """True where some folder holds a placemark with a point."""
    return any(find(folder, "Point") is not None for folder in root.iter() if local_name(folder) == "Folder")


def read_wpml(root: Element) -> Mission:
    """The mission of the document. Raises FlightFileError with the line of what cannot be understood."""
    if not has_waylines(root):
        # A template of a mapping flight holds its polygon only.
        mission = read_kml(root)
        mission.format = "dji-wpml"
        mission.home = take_off_reference(root)
        return mission
    mission = Mission(format="dji-wpml", home=take_off_reference(root))
    folders = [folder for folder in root.iter() if local_name(folder) == "Folder"]
    for number, folder in enumerate(folders):
        if number:
            mission.elements.append(MissionBreak("next wayline"))
        mission.elements.extend(_wayline(folder, mission))
    config = find(root, "missionConfig")
    finish = text_of(config, "finishAction") if config is not None else None
    if config is not None and finish in _FINISH_AT_HOME:
        mission.elements.append(_item(20, math.nan, math.nan, math.nan, f"{line_of(config)} (finishAction {finish})"))
    return mission


def take_off_reference(root: Element) -> Optional[MissionHome]:
    """The reference point of the take-off, written as latitude, longitude, height; None where unset."""
    element = find(root, "takeOffRefPoint")
    numbers = (element.text or "").split(",") if element is not None else []
    if element is None or len(numbers) < 2:
        return None
    position = lon_lat(numbers[1], numbers[0], line_of(element))
    if position.lat == 0 and position.lon == 0:
        return None
    # Its height is above the ellipsoid or unsaid: not an altitude above the sea.
    return MissionHome(position, None, TakeoffRule.PLANNED_HOME, f"{line_of(element)} (takeOffRefPoint)")


def _wayline(folder: Element, mission: Mission) -> List[MissionItem]:
    found: List[MissionItem] = []
    wayline = text_of(folder, "waylineId") or "0"
    for placemark in children(folder, "Placemark"):
        point = next(children(placemark, "Point"), None)
        if point is None:
            mission.ignore(line_of(placemark), "placemark without a point")
            continue
        index = text_of(placemark, "index") or str(len(found))
        where = f"{line_of(placemark)} (wayline {wayline[:10]}, waypoint {index[:10]})"
        numbers = (text_of(point, "coordinates") or "").split(",")
        position = lon_lat(numbers[0], numbers[1] if len(numbers) > 1 else "", where)
        found.append(_item(16, position.lat, position.lon, _height(placemark), where))
        look = find(placemark, "waypointPoiPoint")
        if look is not None and any(char in "123456789" for char in look.text or ""):
            mission.ignore(line_of(look), "point of interest: looked at, not flown to")
    return found


def _height(placemark: Element) -> float:
    text = text_of(placemark, "executeHeight") or text_of(placemark, "height") or ""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if abs(value) < 1e6 else math.nan


def _item(command: int, lat: float, lon: float, height_m: float, source: str) -> MissionItem:
    return MissionItem(command, 3, (math.nan,) * 4, lat, lon, height_m, -1, source)
