# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Positions and boxes on the WGS 84 ellipsoid, in degrees."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["MAX_MERCATOR_LAT_DEG", "BBox", "LonLat"]

MAX_MERCATOR_LAT_DEG = 85.0511287798066
"""Latitude at which the square of Web Mercator ends (EPSG:3857)."""


@dataclass(frozen=True)
class LonLat:
    """A position in degrees; longitude in [-180, 180], latitude in [-90, 90]."""

    lon: float
    lat: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lon) and math.isfinite(self.lat)):
            raise ValueError(f"position is not finite: lon {self.lon}, lat {self.lat}")
        if not (-180.0 <= self.lon <= 180.0 and -90.0 <= self.lat <= 90.0):
            raise ValueError(f"position is outside the globe: lon {self.lon}, lat {self.lat}")


@dataclass(frozen=True)
class BBox:
    """A box in degrees. As in RFC 7946, `west` > `east` where it crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float

    def __post_init__(self) -> None:
        if self.south > self.north:
            raise ValueError(f"box has south {self.south} above north {self.north}")
        LonLat(lon=self.west, lat=self.south)
        LonLat(lon=self.east, lat=self.north)

    @property
    def crosses_antimeridian(self) -> bool:
        return self.west > self.east
