# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A resolved flight: where the drone will be, and why we think so."""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Optional, Tuple

from ._errors import FlightRouteError
from ._geo import LonLat

__all__ = [
    "Flight",
    "FlightResolveSource",
    "IgnoredItem",
    "RouteKind",
    "RoutePart",
    "TakeoffOrigin",
    "TakeoffRule",
    "Waypoint",
]


class FlightResolveSource(str, enum.Enum):
    """Where the flight came from."""

    FLIGHTS_API = "flights_api"
    FILE = "file"


class TakeoffRule(str, enum.Enum):
    """The rule that chose the take-off origin, strongest first."""

    OPTION = "option"
    PLANNED_HOME = "planned_home"
    TAKEOFF_ITEM = "takeoff_item"
    FIRST_WAYPOINT = "first_waypoint"


class RouteKind(str, enum.Enum):
    """What a part of the route is to the area: a line that is flown, a ring that is covered, or a point."""

    LINE = "line"
    POLYGON = "polygon"
    POINT = "point"


@dataclass(frozen=True)
class Waypoint:
    """One vertex that the vehicle flies to; `source` names its item, line or JSON path in the mission."""

    position: LonLat
    alt_m: Optional[float] = None
    command: Optional[int] = None
    radius_m: float = 0.0
    source: str = ""


@dataclass(frozen=True)
class RoutePart:
    """A connected part of the footprint: a flown line, a surveyed polygon or a single point.

    `half_width_m` widens it beyond the area's own buffer (corridor scans, loiter circles);
    `why` says what made it (`route`, `survey`, `return_to_launch`, `rally`, …).
    """

    kind: RouteKind
    vertices: Tuple[Waypoint, ...]
    half_width_m: float = 0.0
    why: str = "route"


@dataclass(frozen=True)
class IgnoredItem:
    """An item of the mission that adds no geometry, and the reason."""

    source: str
    command: Optional[int]
    reason: str


@dataclass(frozen=True)
class TakeoffOrigin:
    """Where the vehicle takes off; `alt_m` above mean sea level where known."""

    lat_deg: float
    lon_deg: float
    alt_m: Optional[float]
    rule: TakeoffRule


@dataclass(frozen=True)
class Flight:
    """A flight as the rest of the tool sees it.

    `waypoints` are the vertices flown to, in order; `parts` is the whole footprint that needs tiles.
    `revision` is the flights API's ETag, or the SHA-256 of the file's bytes.
    """

    flight_id: str
    name: Optional[str]
    source: FlightResolveSource
    format: str
    waypoints: Tuple[Waypoint, ...]
    parts: Tuple[RoutePart, ...]
    takeoff_origin: TakeoffOrigin
    revision: Optional[str] = None
    ignored: Tuple[IgnoredItem, ...] = ()
    warnings: Tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not any(part.vertices for part in self.parts):
            raise FlightRouteError(f"flight {self.flight_id} has no position to fly to")

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the geometry and the origin: equal flights need equal maps, whatever file they came from."""
        body = {
            "parts": [
                [
                    part.kind.value,
                    part.half_width_m,
                    [[vertex.position.lon, vertex.position.lat, vertex.alt_m] for vertex in part.vertices],
                ]
                for part in self.parts
            ],
            "takeoff_origin": asdict(self.takeoff_origin),
        }
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
