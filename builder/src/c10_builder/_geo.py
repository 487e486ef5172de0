# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Web Mercator in metres and pixels, Hilbert keys, and which rectangles touch a polygon.

Formulas: EPSG:3857 on the sphere of radius 6378137 m. "Mercator metres" (mx east, my SOUTH of the map's north-west
corner) grow like pixel coordinates, so that a pixel box is the same numbers times one factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, List, Sequence, Tuple

import numpy as np

__all__ = [
    "WORLD_M",
    "Polygons",
    "ground_distance_m",
    "hilbert_keys",
    "lonlat_of",
    "mercator_of",
    "mercator_stretch",
]

#: The map's side in Mercator metres.
WORLD_M = 2.0 * math.pi * 6378137.0


def mercator_of(*, lon_deg: float, lat_deg: float) -> Tuple[float, float]:
    """(mx, my) in Mercator metres from the map's north-west corner."""
    mx = (lon_deg + 180.0) / 360.0 * WORLD_M
    sine = math.sin(math.radians(min(85.05112878, max(-85.05112878, lat_deg))))
    my = (0.5 - math.log((1 + sine) / (1 - sine)) / (4 * math.pi)) * WORLD_M
    return mx, my


def lonlat_of(mx: float, my: float) -> Tuple[float, float]:
    """(lon_deg, lat_deg) of a point in Mercator metres."""
    lon = mx / WORLD_M * 360.0 - 180.0
    lat = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * my / WORLD_M))))
    return lon, lat


def mercator_stretch(lat_deg: float) -> float:
    """Mercator metres per metre on the ground at `lat_deg`."""
    return 1.0 / math.cos(math.radians(lat_deg))


def ground_distance_m(mx1: Any, my1: Any, mx2: Any, my2: Any, lat_deg: float) -> Any:
    """Distance on the ground between near points, in metres; arrays welcome."""
    return np.hypot(np.asarray(mx1) - mx2, np.asarray(my1) - my2) / mercator_stretch(lat_deg)


def hilbert_keys(x: Any, y: Any, order: int = 26) -> Any:
    """Hilbert curve index of grid cells (integer arrays below 2**order), as uint64."""
    x = np.asarray(x, dtype=np.int64).copy()
    y = np.asarray(y, dtype=np.int64).copy()
    key = np.zeros(x.shape, dtype=np.uint64)
    side = np.int64(1 << order)
    half = 1 << (order - 1)
    while half:
        rx = (x & half) > 0
        ry = (y & half) > 0
        quadrant = (3 * rx.astype(np.int64)) ^ ry.astype(np.int64)
        key += (np.uint64(half) * np.uint64(half)) * quadrant.astype(np.uint64)
        flip = rx & ~ry
        x = np.where(flip, side - 1 - x, x)
        y = np.where(flip, side - 1 - y, y)
        x, y = np.where(~ry, y, x), np.where(~ry, x, y)
        half >>= 1
    return key


@dataclass(frozen=True)
class Polygons:
    """Rings in Mercator metres under the even-odd rule, so holes need no marking."""

    rings: Tuple[Any, ...]

    @staticmethod
    def of_lonlat(polygons: Sequence[Sequence[Sequence[Sequence[float]]]]) -> Polygons:
        """From the coordinates of a GeoJSON MultiPolygon."""
        rings: List[Any] = []
        for polygon in polygons:
            for ring in polygon:
                points = np.array([mercator_of(lon_deg=p[0], lat_deg=p[1]) for p in ring], dtype=np.float64)
                if len(points) and not np.array_equal(points[0], points[-1]):
                    points = np.vstack([points, points[:1]])
                rings.append(points)
        return Polygons(tuple(rings))

    @property
    def bounds(self) -> Tuple[float, float, float, float]:
        """(mx_min, my_min, mx_max, my_max)."""
        points = np.vstack(self.rings)
        low, high = points.min(axis=0), points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def area_m2(self) -> float:
        """Area in square Mercator metres; outer rings minus holes by their winding's absolute nesting."""
        total = 0.0
        for ring in self.rings:
            x, y = ring[:, 0] - ring[0, 0], ring[:, 1] - ring[0, 1]
            area = 0.5 * abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])))
            # a ring whose first point lies inside an odd number of the others is a hole
            inside = sum(
                bool(Polygons((other,)).contains(ring[:1, 0], ring[:1, 1])[0])
                for other in self.rings
                if other is not ring
            )
            total += -area if inside % 2 else area
        return max(0.0, total)

    def contains(self, mx: Any, my: Any) -> Any:
        """Which of the points lie inside (boolean array)."""
        mx, my = np.asarray(mx, dtype=np.float64), np.asarray(my, dtype=np.float64)
        inside = np.zeros(mx.shape, dtype=bool)
        for ring in self.rings:
            for (ax, ay), (bx, by) in zip(ring[:-1], ring[1:]):
                if ay == by:
                    continue
                crosses = (ay > my) != (by > my)
                if crosses.any():
                    inside ^= crosses & (mx < (bx - ax) * (my - ay) / (by - ay) + ax)
        return inside

    def touches(self, x0: Any, y0: Any, x1: Any, y1: Any) -> Any:
        """Which of the rectangles share a point with the polygons (boolean array)."""
        x0, y0, x1, y1 = (np.asarray(v, dtype=np.float64) for v in (x0, y0, x1, y1))
        hit = self.contains((x0 + x1) / 2, (y0 + y1) / 2)
        for ring in self.rings:
            for (ax, ay), (bx, by) in zip(ring[:-1], ring[1:]):
                near = ~hit & (x0 <= max(ax, bx)) & (x1 >= min(ax, bx)) & (y0 <= max(ay, by)) & (y1 >= min(ay, by))
                picks = np.flatnonzero(near)
                if not len(picks):
                    continue
                # Liang-Barsky: the part of the edge inside the rectangle is not empty
                low, high = np.zeros(len(picks)), np.ones(len(picks))
                dx, dy = bx - ax, by - ay
                for p, q in (
                    (-dx, ax - x0[picks]),
                    (dx, x1[picks] - ax),
                    (-dy, ay - y0[picks]),
                    (dy, y1[picks] - ay),
                ):
                    if p == 0:
                        high = np.where(q < 0, -1.0, high)
                    elif p < 0:
                        low = np.maximum(low, q / p)
                    else:
                        high = np.minimum(high, q / p)
                hit[picks[low <= high]] = True
        return hit
