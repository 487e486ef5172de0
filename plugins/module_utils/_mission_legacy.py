# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reader of QGroundControl's older missions (JSON): `.mission`, version 1 and 2, before plans."""

from __future__ import annotations

import math
from typing import Any, List, Optional

from ._flight import TakeoffRule
from ._mission import Mission, MissionHome, MissionItem
from ._mission_json import JsonAt
from ._mission_plan import planned_home, read_item

__all__ = ["is_legacy_mission", "read_legacy_mission"]


def is_legacy_mission(body: Any) -> bool:
    """True for version 2 (fileType "Mission") and for the unlabelled documents before it."""
    kind = body.get("fileType")
    return kind == "Mission" or (kind is None and isinstance(body.get("items"), list) and "type" not in body)


def read_legacy_mission(document: JsonAt) -> Mission:
    """The mission of the document. Raises FlightFileError with the JSON path."""
    mission = Mission(format="qgc-mission")
    home = document.get("plannedHomePosition")
    mission.home = _home_item(home) if isinstance(home.value, dict) else planned_home(home)
    for item in document.get("items").list():
        if item.has("param1"):
            mission.elements.append(_first_version(item))
        else:
            read_item(item, mission)
    # Version 1 keeps complex items apart; their place among the others does not change what they cover.
    for item in document.get("complexItems").list():
        read_item(item, mission, complex_item=True)
    return mission


def _first_version(at: JsonAt) -> MissionItem:
    numbers: List[float] = [value.number() for value in at.get("coordinate").list()[:3]]
    x, y, z = (numbers + [math.nan] * 3)[:3]
    params = tuple(at.get(f"param{index}").number() for index in range(1, 5))
    return MissionItem(
        command=at.get("command").integer(),
        frame=at.get("frame").integer(default=3),
        params=(params[0], params[1], params[2], params[3]),
        x=x,
        y=y,
        z=z,
        number=at.get("id").integer(default=-1),
        source=at.path,
    )


def _home_item(at: JsonAt) -> Optional[MissionHome]:
    home = planned_home(at.get("coordinate"))
    return home and MissionHome(home.position, home.alt_m, TakeoffRule.PLANNED_HOME, at.path)
