# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a flight to the tiles it needs, by the run's settings."""

from __future__ import annotations

from typing import Tuple

from ._area import Area, build_area, tiles_for_area
from ._config import PreflightConfig
from ._flight import Flight
from ._tiles import TileSet

__all__ = ["plan_tiles"]


def plan_tiles(flight: Flight, config: PreflightConfig) -> Tuple[Area, TileSet]:
    """The area around the flight and the tiles that cover it; deterministic.

    Raises:
        AreaError, AreaTooLargeError: the route gives no area, or one beyond the limits.
    """
    area = build_area(
        flight,
        kind=config.flight_area_kind,
        buffer_m=config.flight_bbox_buffer_m,
        takeoff_radius_m=config.takeoff_radius_m,
        max_leg_m=config.max_leg_m,
    )
    return area, tiles_for_area(area, config.zooms, max_tiles=config.max_tiles)
