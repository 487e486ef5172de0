# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A position hint held against the active cache: is the place on its map, and how many windows lie within?

Runs on the companion: standard library only, Python 3.8. The index's `meta.npy` and `index.json` are read as
docs/reference/builder.md describes them.
"""

from __future__ import annotations

import ast
import json
import math
import os
import struct
from typing import Any, Dict, Optional, Tuple

from ._activation_state import CacheRoot
from ._errors import CacheVerifyError
from ._generation_faults import Reason, reason_of
from ._geo import LonLat
from ._grant import Grant
from ._reloc_hint import PositionHint, refuse_hint
from ._takeoff_check_route import check_coverage

__all__ = ["active_content", "check_on_map", "count_windows"]

MAX_GRANT_BYTES = 8 * 1024
MAX_INDEX_BYTES = 1024 * 1024
WORLD_M = 2.0 * math.pi * 6378137.0
ROW = struct.Struct("<ddfffBBH")
"""One window: mx_m, my_m, side_m, inv_length, localisability, valid, scale, flags."""
READ_ROWS = 4096


def active_content(root: CacheRoot) -> Tuple[str, str]:
    """Content id and flight of the active cache, by its grant.

    Raises:
        PositionHintError: there is none, or it cannot be read.
    """
    try:
        if root.link_target("current") is None:
            raise refuse_hint("no-cache", "no cache is active on this companion")
        with open(root.join("current", "grant.json"), "rb") as stream:
            grant = Grant.parse(stream.read(MAX_GRANT_BYTES + 1))
    except (OSError, CacheVerifyError) as exc:
        raise refuse_hint("no-cache", f"the active cache cannot be read: {exc}") from None
    return grant.content_id, grant.flight_id


def check_on_map(root: CacheRoot, hint: PositionHint) -> None:
    """Whether the hint's centre lies on a tile of the active cache.

    Raises:
        PositionHintError: it does not, or the cache's archive cannot be read.
    """
    place = LonLat(lon=hint.lon_deg, lat=hint.lat_deg)
    try:
        check_coverage(root.join("current", "tiles.pmtiles"), [[place]])
    except CacheVerifyError as exc:
        if reason_of(exc) is Reason.ROUTE_UNCOVERED:
            where = f"lat {hint.lat_deg:.6f}, lon {hint.lon_deg:.6f}"
            raise refuse_hint("outside-cache", f"{where} is not on the map of the active cache") from None
        raise refuse_hint("no-cache", exc.message) from None


def count_windows(root: CacheRoot, hint: PositionHint) -> Optional[int]:
    """How many windows of the built index have their centre within the hint; None where there is no index to ask.

    The index's own reader (`c10_builder.Near`) measures the same way: Mercator metres, stretched at the map's latitude.
    """
    folder = root.join("current", "index")
    try:
        with open(os.path.join(folder, "index.json"), "rb") as stream:
            latitude_deg = float(json.loads(stream.read(MAX_INDEX_BYTES))["latitude_deg"])
        with open(os.path.join(folder, "meta.npy"), "rb") as stream:
            rows = _rows_of(stream)
            reach = hint.radius_m / math.cos(math.radians(latitude_deg))
            mx, my = _mercator(hint)
            count = 0
            while rows > 0:
                part = stream.read(ROW.size * min(rows, READ_ROWS))
                part = part[: len(part) // ROW.size * ROW.size]
                if not part:
                    return None
                rows -= len(part) // ROW.size
                count += sum(math.hypot(row[0] - mx, row[1] - my) <= reach for row in ROW.iter_unpack(part))
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, RecursionError, struct.error):
        return None
    return count


def _rows_of(stream: Any) -> int:
    """The number of rows, after the header of a .npy file of windows."""
    start = stream.read(10)
    if start[:6] != b"\x93NUMPY" or start[6] != 1:
        raise ValueError("not a .npy file")
    header: Dict[str, Any] = ast.literal_eval(stream.read(struct.unpack("<H", start[8:10])[0]).decode("latin-1"))
    names = [field[0] for field in header["descr"]]
    if names[:2] != ["mx_m", "my_m"] or len(names) != 8 or header["fortran_order"]:
        raise ValueError("not a table of windows")
    return int(header["shape"][0])


def _mercator(hint: PositionHint) -> Tuple[float, float]:
    """Mercator metres from the map's north-west corner."""
    sine = math.sin(math.radians(hint.lat_deg))
    mx = (hint.lon_deg + 180.0) / 360.0 * WORLD_M
    return mx, (0.5 - math.log((1 + sine) / (1 - sine)) / (4 * math.pi)) * WORLD_M
