# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which zooms a camera needs: those whose pixels are as fine as its own on the ground."""

from __future__ import annotations

import math
from typing import Tuple

from ._errors import AreaError
from ._tiles import MAX_ZOOM, zoom_for_gsd

__all__ = ["ground_sample_distance_m", "zooms_for_camera"]


def ground_sample_distance_m(*, agl_m: float, hfov_deg: float, width_px: int) -> float:
    """Metres of level ground that one pixel covers for a camera that looks straight down.

    Formula: 2 h tan(fov / 2) / pixels (any textbook of photogrammetry, for instance Wolf, Dewitt, Wilkinson).
    Raises AreaError for a height, angle or width that no camera has.
    """
    if not (math.isfinite(agl_m) and agl_m > 0):
        raise AreaError(f"height above ground is {agl_m} m, not above zero")
    if not 1 <= hfov_deg < 179:
        raise AreaError(f"horizontal field of view is {hfov_deg}°, not between 1 and 179")
    if width_px < 1:
        raise AreaError(f"width of the image is {width_px} pixels, not above zero")
    return 2 * agl_m * math.tan(math.radians(hfov_deg) / 2) / width_px


def zooms_for_camera(
    *,
    agl_m: Tuple[float, float],
    hfov_deg: float,
    width_px: int,
    lat_deg: float,
    tile_px: int = 256,
    source_zooms: Tuple[int, int] = (0, MAX_ZOOM),
) -> Tuple[int, ...]:
    """The zooms for a camera between two heights above ground, within what the tile source has.

    The deepest is the shallowest one that is at least as fine as the camera at its lowest height; the
    shallowest is the same for its greatest height. A source that ends earlier gives its nearest zoom.

    Args:
        agl_m: lowest and greatest height above ground.
        hfov_deg: horizontal field of view.
        width_px: width of the image.
        lat_deg: latitude; the poleward one where the area spans many, since tiles are finest there.
        tile_px: pixels on a tile's side.
        source_zooms: shallowest and deepest zoom of the source.

    Raises AreaError for impossible values.
    """
    low_m, high_m = agl_m
    if low_m > high_m:
        raise AreaError(f"heights above ground are {low_m} to {high_m} m: the lowest comes first")
    first, last = source_zooms
    if not 0 <= first <= last <= MAX_ZOOM:
        raise AreaError(f"zooms of the tile source are {first} to {last}, not within 0 to {MAX_ZOOM}")

    def zoom_at(height_m: float) -> int:
        gsd_m = ground_sample_distance_m(agl_m=height_m, hfov_deg=hfov_deg, width_px=width_px)
        return min(last, max(first, zoom_for_gsd(gsd_m, lat_deg, tile_px)))

    return tuple(range(zoom_at(high_m), zoom_at(low_m) + 1))
