# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mission as a file tells it, before it is asked where it leads.

Every reader turns its format into a `Mission`; `_mission_route.py` alone decides what is flown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import List, Optional, Tuple, Union

from ._flight import IgnoredItem, RoutePart, TakeoffRule, Waypoint
from ._geo import LonLat

__all__ = ["MAX_VERTICES", "Mission", "MissionBreak", "MissionElement", "MissionHome", "MissionItem", "is_unset"]

MAX_VERTICES = 100_000
"""Most vertices that any file may have: the largest real missions have about a thousand."""

_INT32_MAX = 2147483647.0


def is_unset(value: float) -> bool:
    """True for the ways that files say "not set": NaN (JSON null) and the edges of a 32-bit integer."""
    return math.isnan(value) or abs(value) >= _INT32_MAX


@dataclass(frozen=True)
class MissionItem:
    """A MAVLink mission item: `x` is latitude and `y` longitude where the frame is global.

    `number` is what a jump in the same file calls it; `source` names its line or JSON path.
    """

    command: int
    frame: int
    params: Tuple[float, float, float, float]
    x: float
    y: float
    z: float
    number: int
    source: str


@dataclass(frozen=True)
class MissionBreak:
    """The route ends here and begins anew: separate lines of a file that are not flown as one."""

    why: str


@dataclass(frozen=True)
class MissionHome:
    """A home that the file states."""

    position: LonLat
    alt_m: Optional[float]
    rule: TakeoffRule
    source: str


MissionElement = Union[MissionItem, RoutePart, MissionBreak]


@dataclass
class Mission:
    """What a reader found, in the file's order; readers append, nothing else changes it.

    `elements` holds items that the command table judges, and parts whose meaning the format itself states.
    """

    format: str
    name: Optional[str] = None
    home: Optional[MissionHome] = None
    elements: List[MissionElement] = field(default_factory=list)
    rally: List[Waypoint] = field(default_factory=list)
    fence: List[RoutePart] = field(default_factory=list)
    ignored: List[IgnoredItem] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)

    def ignore(self, source: str, reason: str, command: Optional[int] = None) -> None:
        self.ignored.append(IgnoredItem(source=source, command=command, reason=reason))
