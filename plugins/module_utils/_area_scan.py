# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tiles a polygon touches, by a scan over its edges: the work follows the outline, not the tiles.

A tile touches the polygon exactly where an edge passes through it or it lies wholly inside. The
first kind comes from the columns that each edge spans in each row; the second from the
crossings of each row's middle line, by the even-odd rule.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Iterator, Tuple

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

__all__ = ["scan_runs"]

_BAND_PAIRS = 1_000_000
_EDGE_SLACK_TILES = 1e-9


def scan_runs(geometry: BaseGeometry, zoom: int, half_world_m: float) -> Iterator[Tuple[int, int, int]]:
    """Runs `(row, first column, last column)` of the tiles that the geometry touches, sorted, apart.

    Args:
        geometry: polygons in EPSG:3857 metres, inside the world.
        zoom: the zoom of the tiles.
        half_world_m: half the side of the world in the same metres.

    Memory is bounded by the outline: rows are scanned in bands of about a million edge-row pairs.
    """
    import numpy as np

    side = 1 << zoom
    starts, ends = _edges(geometry)
    if len(starts) == 0:
        return
    scale = side / (2 * half_world_m)
    x0 = (starts[:, 0] + half_world_m) * scale
    x1 = (ends[:, 0] + half_world_m) * scale
    y0 = (half_world_m - starts[:, 1]) * scale
    y1 = (half_world_m - ends[:, 1]) * scale
    down = y0 <= y1
    top_x, bottom_x = np.where(down, x0, x1), np.where(down, x1, x0)
    top_y, bottom_y = np.where(down, y0, y1), np.where(down, y1, y0)
    first_row = np.clip(np.floor(top_y - _EDGE_SLACK_TILES), 0, side - 1).astype(np.int64)
    last_row = np.clip(np.floor(bottom_y + _EDGE_SLACK_TILES), 0, side - 1).astype(np.int64)
    pairs = int((last_row - first_row + 1).sum())
    lowest, highest = int(first_row.min()), int(last_row.max())
    bands = max(1, math.ceil(pairs / _BAND_PAIRS))
    height = max(1, math.ceil((highest - lowest + 1) / bands))
    del geometry, starts, ends, x0, x1, y0, y1, down
    for band in range(lowest, highest + 1, height):
        last = min(band + height - 1, highest)
        chosen = np.flatnonzero((first_row <= last) & (last_row >= band))
        if len(chosen):
            yield from _band(
                (np.maximum(first_row[chosen], band), np.minimum(last_row[chosen], last)),
                (top_x[chosen], top_y[chosen]),
                (bottom_x[chosen], bottom_y[chosen]),
                side,
            )


def _edges(geometry: BaseGeometry) -> Tuple[Any, Any]:
    """Both ends of every edge of every ring."""
    import numpy as np
    import shapely

    rings = shapely.get_rings(shapely.get_parts(geometry))
    points, of_ring = shapely.get_coordinates(rings, return_index=True)
    same = of_ring[:-1] == of_ring[1:]
    return np.ascontiguousarray(points[:-1][same]), np.ascontiguousarray(points[1:][same])


def _band(row_range: Any, top: Any, bottom: Any, side: int) -> Iterator[Tuple[int, int, int]]:
    """Runs of the rows in a band; each edge comes with its range of rows, its upper end and its lower end."""
    import numpy as np

    (first_row, last_row), (top_x, top_y), (bottom_x, bottom_y) = row_range, top, bottom
    spans = last_row - first_row + 1
    edge = np.repeat(np.arange(len(spans)), spans)
    offsets = np.cumsum(spans) - spans
    row = np.arange(len(edge)) - offsets[edge] + first_row[edge]
    x_top, y_top, x_bottom, y_bottom = top_x[edge], top_y[edge], bottom_x[edge], bottom_y[edge]
    height = y_bottom - y_top
    level = height <= 0
    slope = (x_bottom - x_top) / np.where(level, 1.0, height)
    # Columns that the edge spans between the upper and the lower border of its row.
    at_upper = np.where(level, x_top, x_top + (np.clip(row, y_top, y_bottom) - y_top) * slope)
    at_lower = np.where(level, x_bottom, x_top + (np.clip(row + 1, y_top, y_bottom) - y_top) * slope)
    touch_first = _column(np.minimum(at_upper, at_lower) - _EDGE_SLACK_TILES, side)
    touch_last = _column(np.maximum(at_upper, at_lower) + _EDGE_SLACK_TILES, side)
    # Crossings of the row's middle line; half-open in y, so that a shared vertex counts once.
    middle = row + 0.5
    crosses = (y_top <= middle) & (middle < y_bottom)
    cross_row = row[crosses]
    cross_x = x_top[crosses] + (middle[crosses] - y_top[crosses]) * slope[crosses]
    order = np.lexsort((cross_x, cross_row))
    cross_row, cross_x = cross_row[order], cross_x[order]
    rows = np.concatenate([row, cross_row[0::2]])
    firsts = np.concatenate([touch_first, _column(cross_x[0::2], side)])
    lasts = np.concatenate([touch_last, _column(cross_x[1::2], side)])
    yield from _joined(rows, firsts, lasts)


def _column(x: Any, side: int) -> Any:
    import numpy as np

    return np.clip(np.floor(x), 0, side - 1).astype(np.int64)


def _joined(rows: Any, firsts: Any, lasts: Any) -> Iterator[Tuple[int, int, int]]:
    """Overlapping and touching runs joined, sorted by row and column."""
    import numpy as np

    # One number holds row and column, so that one running maximum serves all rows; the gap of
    # 2^31 between rows keeps the end of one row from ever touching the start of the next.
    start_key = (rows << 32) + firsts
    order = np.argsort(start_key, kind="stable")
    start_key = start_key[order]
    reach = np.maximum.accumulate(((rows << 32) + lasts)[order])
    is_new = np.empty(len(start_key), dtype=bool)
    is_new[0] = True
    is_new[1:] = start_key[1:] > reach[:-1] + 1
    heads = np.flatnonzero(is_new)
    tails = np.append(heads[1:], len(start_key)) - 1
    mask = (1 << 32) - 1
    yield from zip(
        (start_key[heads] >> 32).tolist(), (start_key[heads] & mask).tolist(), (reach[tails] & mask).tolist()
    )
