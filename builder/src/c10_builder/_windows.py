# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The window planner: overlapping squares cut from the mosaic, as large as what the camera will see.

The grid of windows is fixed to the map, not to the area, so that a neighbouring flight plans the same windows and
finds their descriptors in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from ._errors import BuilderError
from ._geo import WORLD_M, Polygons, hilbert_keys, lonlat_of, mercator_stretch
from ._request import Camera, Settings
from ._screen import Screened

__all__ = ["Plan", "Scale", "Window", "ladder_sides_m", "make_plan"]

_MIN_SOURCE_PX = 96


@dataclass(frozen=True)
class Scale:
    """One rung of the ladder: windows of `side_m` on the ground, `side_px` pixels of the map at `zoom`."""

    index: int
    side_m: float
    zoom: int
    side_px: int
    stride_px: int
    gsd_m: float


@dataclass(frozen=True)
class Window:
    """One row of the index to be: a square of map pixels at its scale's zoom."""

    __slots__ = ("scale", "x_px", "y_px")  # there may be a million of them

    scale: Scale
    x_px: int
    y_px: int

    def bounds(self, tile_px: int) -> Tuple[float, float, float, float]:
        """(mx_min, my_min, mx_max, my_max) in Mercator metres."""
        unit = WORLD_M / (tile_px << self.scale.zoom)
        side = self.scale.side_px
        return (self.x_px * unit, self.y_px * unit, (self.x_px + side) * unit, (self.y_px + side) * unit)


@dataclass(frozen=True)
class Plan:
    """All windows, sorted by scale then Hilbert key."""

    scales: Tuple[Scale, ...]
    windows: Tuple[Window, ...]
    tile_px: int

    def squares(self) -> Tuple[Any, Any]:
        """n int64, the scale of each window; n x 4 float64, its `Window.bounds`."""
        count = len(self.windows)
        scale = np.fromiter((window.scale.index for window in self.windows), dtype=np.int64, count=count)
        x = np.fromiter((window.x_px for window in self.windows), dtype=np.int64, count=count)
        y = np.fromiter((window.y_px for window in self.windows), dtype=np.int64, count=count)
        unit = np.array([WORLD_M / (self.tile_px << each.zoom) for each in self.scales])[scale]
        side = np.array([each.side_px for each in self.scales])[scale]
        return scale, np.stack([x * unit, y * unit, (x + side) * unit, (y + side) * unit], axis=1)


def ladder_sides_m(camera: Camera, settings: Settings) -> List[float]:
    """Window sides in metres: steps of sqrt(2) from below the lowest footprint to above the highest."""
    low, high = camera.footprint_m(camera.agl_min_m), camera.footprint_m(camera.agl_max_m)
    steps = int(math.ceil(2 * math.log(high / low, 2) - 0.25)) if high > low else 0
    return [low * math.sqrt(2.0) ** k for k in range(-settings.ladder_below, max(0, steps) + settings.ladder_above + 1)]


def _zoom_for(side_m: float, zooms: Sequence[int], tile_px: int, stretch: float, window_px: int) -> int:
    """The coarsest zoom still as fine as the model's input, else the finest there is."""
    for zoom in sorted(zooms):
        gsd_m = WORLD_M / (tile_px << zoom) / stretch
        if gsd_m <= 1.1 * side_m / window_px:
            return zoom
    return max(zooms)


def make_plan(
    area: Polygons, screened: Screened, camera: Camera, settings: Settings, *, window_px: int
) -> Tuple[Plan, List[Tuple[str, str]]]:
    """Plan the windows of an area.

    Returns:
        the plan, and warnings as (code, text).

    Raises:
        BuilderError: `area_empty`, `area_too_large`, `nothing_to_describe`.
    """
    notes: List[Tuple[str, str]] = []
    x0, y0, x1, y1 = area.bounds
    if not area.area_m2 > 0:
        raise BuilderError("area_empty", "the area encloses no ground", hint="resolve the flight again")
    # half degrees: fine enough for a window's side, coarse enough that neighbouring flights share their windows
    latitude = round(lonlat_of((x0 + x1) / 2, (y0 + y1) / 2)[1] * 2) / 2
    stretch = mercator_stretch(latitude)
    usable: Dict[int, List[Tuple[int, int]]] = {}
    for key in sorted(screened.tiles):
        if screened.usable(key) is not None:
            usable.setdefault(key[0], []).append((key[1], key[2]))
    filled: Dict[int, float] = {}
    for zoom, places in usable.items():
        wanted = tiles_of_area(area, zoom)
        present = set(places).intersection(wanted)
        if present:
            filled[zoom] = len(present) / len(wanted)
    if not filled:
        raise BuilderError(
            "nothing_to_describe",
            "no readable tile of the archive lies in the area",
            hint="check that archive and flight belong together, and the tile source's XYZ or TMS row order",
        )
    # a zoom level that stops halfway must not be chosen over one that covers the area
    zooms = [zoom for zoom in sorted(filled) if filled[zoom] >= 0.9 * max(filled.values())]
    extent_m = _extent_m(usable, max(zooms), stretch)
    sides = ladder_sides_m(camera, settings)
    kept = [side for side in sides if side <= 0.95 * extent_m]
    if len(kept) < len(sides):
        notes.append(
            (
                "scale_dropped",
                "windows of %s m are larger than the map (%.0f m)"
                % (", ".join("%.0f" % s for s in sides if s not in kept), extent_m),
            )
        )
    if not kept:
        kept = [0.6 * extent_m]
    scales: List[Scale] = []
    for side in kept:
        zoom = _zoom_for(side, zooms, screened.tile_px, stretch, window_px)
        gsd_m = WORLD_M / (screened.tile_px << zoom) / stretch
        side_px, stride_px = _pixels(side / gsd_m, settings.stride_ratio)
        if side_px < _MIN_SOURCE_PX and side != kept[-1]:
            notes.append(("scale_dropped", "the map is too coarse (%.2f m/px) for windows of %.0f m" % (gsd_m, side)))
            continue
        if side_px < _MIN_SOURCE_PX:
            notes.append(("imagery_coarse", "windows of %.0f m are only %d map pixels wide" % (side, side_px)))
        scales.append(Scale(len(scales), side_px * gsd_m, zoom, side_px, stride_px, gsd_m))
    windows: List[Window] = []
    for scale in scales:
        windows.extend(_windows_of(scale, area, screened.tile_px, settings.max_windows - len(windows)))
    if not windows:
        raise BuilderError("nothing_to_describe", "the area is smaller than any window")
    return Plan(tuple(scales), tuple(windows), screened.tile_px), notes


def _pixels(side_px: float, stride_ratio: float) -> Tuple[int, int]:
    """Side and stride of the windows of a scale in whole pixels; the side a multiple of the stride where it can be.

    Windows then begin at whole pixels of the resampled map (see `_cut`).
    """
    times = round(1 / stride_ratio)
    if abs(times * stride_ratio - 1) < 1e-9:
        stride = max(-(-16 // times), int(round(side_px / times)))
        return times * stride, stride
    side = max(16, int(round(side_px)))
    return side, max(1, int(round(side * stride_ratio)))


def tiles_of_area(area: Polygons, zoom: int, *, limit: int = 20_000_000) -> List[Tuple[int, int]]:
    """(x, y) of every tile at `zoom` that touches the area, sorted by row then column."""
    unit = WORLD_M / (1 << zoom)
    x0, y0, x1, y1 = (int(value / unit) for value in area.bounds)
    if (x1 - x0 + 1) * (y1 - y0 + 1) > limit:
        raise _too_large(limit)
    found: List[Tuple[int, int]] = []
    columns = np.arange(x0, x1 + 1)
    for y in range(y0, y1 + 1):
        top = np.full(len(columns), y * unit)
        hit = area.touches(columns * unit, top, (columns + 1) * unit, top + unit)
        found.extend((int(x), y) for x in columns[hit])
    return found


def _extent_m(usable: Dict[int, List[Tuple[int, int]]], zoom: int, stretch: float) -> float:
    places = np.array(usable[zoom])
    spans = places.max(axis=0) - places.min(axis=0) + 1
    return float(spans.min()) * WORLD_M / (1 << zoom) / stretch


def _windows_of(scale: Scale, area: Polygons, tile_px: int, budget: int) -> List[Window]:
    unit = WORLD_M / (tile_px << scale.zoom)
    low_x, low_y, high_x, high_y = (value / unit for value in area.bounds)
    half = scale.side_px / 2.0
    first_i, last_i = (int(math.floor((value - half) / scale.stride_px)) for value in (low_x, high_x))
    first_j, last_j = (int(math.floor((value - half) / scale.stride_px)) for value in (low_y, high_y))
    i_values = np.arange(first_i, last_i + 2)
    if len(i_values) * (last_j + 2 - first_j) > 64 * budget + 4096:
        raise _too_large(budget)
    found: List[Tuple[int, int]] = []
    for j in range(first_j, last_j + 2):
        # the cell around a window's centre, nearer to it than to any other window of this scale
        cx, cy = i_values * scale.stride_px + half, j * scale.stride_px + half
        reach = scale.stride_px / 2.0
        cy_array = np.full(len(cx), cy)
        hit = area.touches(
            (cx - reach) * unit, (cy_array - reach) * unit, (cx + reach) * unit, (cy_array + reach) * unit
        )
        found.extend((int(i), j) for i in i_values[hit])
        if len(found) > budget:
            raise _too_large(budget)
    if not found:
        return []
    cells = np.array(found, dtype=np.int64)
    keys = hilbert_keys(cells[:, 0], cells[:, 1])
    return [
        Window(scale, found[k][0] * scale.stride_px, found[k][1] * scale.stride_px)
        for k in np.argsort(keys, kind="stable")
    ]


def _too_large(budget: int) -> BuilderError:
    return BuilderError(
        "area_too_large",
        "the area needs more windows than settings.max_windows allows (%d left)" % budget,
        hint="make the area smaller, fly higher, or raise max_windows",
    )


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


__all__ += ["batches", "tiles_of_area"]
