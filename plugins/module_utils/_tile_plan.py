# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a flight to the tiles it needs, by the run's settings."""

from __future__ import annotations

import math
from typing import Tuple

from ._area import Area, build_area, tiles_for_area
from ._config import PreflightConfig
from ._errors import AreaTooLargeError, FailurePhase, SettingsError
from ._flight import Flight
from ._tile_download_sample import FALLBACK_TILE_BYTES
from ._tiles import TileSet, zoom_for_gsd

__all__ = ["choose_zooms", "plan_tiles"]

WINDOW_PX = 224
"""Side of the picture that the descriptor model sees: the footprint needs no more pixels than that."""


def choose_zooms(config: PreflightConfig, lat_deg: float) -> Tuple[int, ...]:
    """The configured zooms, else two that serve the camera: as fine as the model needs, and one above.

    The footprint of a camera that looks down is 2·AGL·tan(HFOV/2) wide; the model sees it with `WINDOW_PX` pixels.
    """
    if config.zooms:
        return config.zooms
    footprint_m = 2 * config.camera_agl_m * math.tan(math.radians(config.camera_hfov_deg) / 2)
    zoom = zoom_for_gsd(footprint_m / WINDOW_PX, lat_deg)
    return (zoom - 1, zoom) if zoom > 0 else (zoom,)


def plan_tiles(flight: Flight, config: PreflightConfig) -> Tuple[Area, TileSet]:
    """The area around the flight and the tiles that cover it; deterministic.

    Raises:
        AreaError, AreaTooLargeError: the route gives no area, or one beyond the limits.
        SettingsError: the flight is not the one that the plan was made for.
    """
    expected = config.expected_flight_fingerprint
    if expected and expected != flight.fingerprint:
        raise SettingsError(
            f"flight {flight.flight_id} is not the one that the plan was made for: its route has changed",
            phase=FailurePhase.FLIGHT_RESOLVE,
            remediation="Make a new plan with `operator-tool plan`, and look at it.",
        )
    area = build_area(
        flight,
        kind=config.flight_area_kind,
        buffer_m=config.flight_bbox_buffer_m,
        takeoff_radius_m=config.takeoff_radius_m,
        max_leg_m=config.max_leg_m,
    )
    zooms = choose_zooms(config, flight.takeoff_origin.lat_deg)
    tiles = tiles_for_area(area, zooms, max_tiles=config.max_tiles)
    likely_bytes = len(tiles) * FALLBACK_TILE_BYTES
    if likely_bytes > config.max_download_bytes:
        where = f"; {area.outlier} lies farthest out" if area.outlier else ""
        raise AreaTooLargeError(
            f"the area needs {len(tiles)} tiles, about {likely_bytes / 1e9:.1f} GB, over the limit of "
            f"{config.max_download_bytes / 1e9:.1f} GB{where}",
            details={"tiles": len(tiles), "likely_bytes": likely_bytes},
        )
    return area, tiles
