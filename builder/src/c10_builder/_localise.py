# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Where on the map a picture can be placed at all, told from the map alone.

A window's localisability is the mean similarity of the windows that overlap it, minus that of its best look-alike
farther away than its own side. It tells the better zones of a map from its worse ones, not single windows, and its
zero means nothing; so the map is cut into its own thirds.
"""

from __future__ import annotations

import io
from typing import Any, Dict, List, Tuple

import numpy as np
from PIL import Image

from ._geo import lonlat_of
from ._publish import canonical

__all__ = ["localisability", "map_files", "thirds"]

_BLOCK_ROWS = 256
#: Above this many rows of one scale, each is compared with an even sample of this size besides its neighbours.
_COMPARED_MAX = 20_000
_NAMES = ("poor", "fair", "good")


def localisability(coded: Any, facts: Any, ranges: List[Tuple[int, int]], *, stretch: float) -> Tuple[Any, Any, Any]:
    """One value a row; NaN where a row has no overlapping neighbour.

    Args:
        coded: n x k int8 rows.
        facts: their META_DTYPE records.
        ranges: (first, last) row of each scale.
        stretch: Mercator metres per metre.

    Returns:
        (localisability, similarity of the best far look-alike, similarity of the best overlapping window), float32;
        NaN where there is none.
    """
    near_minus_far = np.full(len(coded), np.nan, dtype=np.float32)
    look_alike = np.full(len(coded), np.nan, dtype=np.float32)
    neighbour = np.full(len(coded), np.nan, dtype=np.float32)
    for first, last in ranges:
        count = last - first
        if count < 2:
            continue
        picks = np.arange(first, last)
        if count > _COMPARED_MAX:
            picks = first + np.unique(np.linspace(0, count - 1, _COMPARED_MAX).astype(np.int64))
        others = coded[picks].astype(np.float32) * facts["inv_length"][picks][:, None]
        ox, oy = facts["mx_m"][picks], facts["my_m"][picks]
        side = float(facts["side_m"][first]) * stretch
        for start in range(first, last, _BLOCK_ROWS):
            stop = min(last, start + _BLOCK_ROWS)
            block = np.zeros((_BLOCK_ROWS, coded.shape[1]), dtype=np.float32)
            block[: stop - start] = coded[start:stop].astype(np.float32) * facts["inv_length"][start:stop][:, None]
            similar = (block @ others.T)[: stop - start]
            dx = np.abs(facts["mx_m"][start:stop][:, None] - ox)
            dy = np.abs(facts["my_m"][start:stop][:, None] - oy)
            reach = np.maximum(dx, dy, out=dx)
            near = (reach < 0.75 * side) & (reach > 0.01 * side)
            far = reach > side
            near_count = near.sum(axis=1)
            near_mean = np.where(
                near_count > 0, np.where(near, similar, 0).sum(axis=1) / np.maximum(near_count, 1), np.nan
            )
            far_best = np.where(far.any(axis=1), np.where(far, similar, -2).max(axis=1), np.nan)
            near_minus_far[start:stop] = near_mean - far_best
            look_alike[start:stop] = far_best
            neighbour[start:stop] = np.where(near_count > 0, np.where(near, similar, -2).max(axis=1), np.nan)
    return near_minus_far, look_alike, neighbour


def thirds(values: Any) -> List[float]:
    """The two values that cut a map's windows into thirds; empty input gives [0, 0]."""
    known = values[np.isfinite(values)]
    if not len(known):
        return [0.0, 0.0]
    return [round(float(np.percentile(known, share)), 4) for share in (100 / 3, 200 / 3)]


def map_files(facts: Any, rows: Tuple[int, int], *, stride_m: float) -> Tuple[bytes, Dict[str, Any], bytes]:
    """The map of one scale as a raster and as zones.

    Args:
        facts: META_DTYPE records.
        rows: (first, last) row of the scale.
        stride_m: distance of its windows in Mercator metres.

    Returns:
        (PNG bytes: 0 not described, else 1 + 254 * clip((value + 0.5) / 1),
        the raster's place, canonical GeoJSON of zones).
    """
    part = facts[rows[0] : rows[1]]
    known = part[np.isfinite(part["localisability"])]
    # as text at once: a million windows have a hundred thousand zones, twelve times as large as objects
    zones: List[bytes] = []
    if not len(known):
        stream = io.BytesIO()
        Image.fromarray(np.zeros((1, 1), dtype=np.uint8)).save(stream, "PNG")
        return stream.getvalue(), {"columns": 1, "rows": 1, "bounds": None}, _collection(zones)
    left, top = float(known["mx_m"].min()), float(known["my_m"].min())
    columns = np.round((known["mx_m"] - left) / stride_m).astype(np.int64)
    lines = np.round((known["my_m"] - top) / stride_m).astype(np.int64)
    raster = np.zeros((int(lines.max()) + 1, int(columns.max()) + 1), dtype=np.uint8)
    raster[lines, columns] = 1 + np.round(254 * np.clip(known["localisability"] + 0.5, 0, 1)).astype(np.uint8)
    level = np.full(raster.shape, -1, dtype=np.int8)
    level[lines, columns] = np.searchsorted(
        np.array(thirds(known["localisability"])), known["localisability"], side="right"
    )
    for line in range(raster.shape[0]):
        start = 0
        while start < raster.shape[1]:
            stop = start + 1
            while stop < raster.shape[1] and level[line, stop] == level[line, start]:
                stop += 1
            if level[line, start] >= 0:
                zone = _zone(_NAMES[level[line, start]], left, top, stride_m, line, start, stop)
                zones.append(canonical(zone).rstrip())
            start = stop
    stream = io.BytesIO()
    Image.fromarray(raster).save(stream, "PNG", optimize=False)
    west, north = lonlat_of(left - stride_m / 2, top - stride_m / 2)
    east, south = lonlat_of(left + (raster.shape[1] - 0.5) * stride_m, top + (raster.shape[0] - 0.5) * stride_m)
    place = {"columns": raster.shape[1], "rows": raster.shape[0], "bounds": [west, south, east, north]}
    return stream.getvalue(), place, _collection(zones)


def _collection(features: List[bytes]) -> bytes:
    """The canonical FeatureCollection of canonical features."""
    return canonical({"type": "FeatureCollection", "features": []}).replace(b"[]", b"[" + b",".join(features) + b"]")


def _zone(name: str, left: float, top: float, stride: float, line: int, start: int, stop: int) -> Dict[str, Any]:
    west, north = lonlat_of(left + (start - 0.5) * stride, top + (line - 0.5) * stride)
    east, south = lonlat_of(left + (stop - 0.5) * stride, top + (line + 0.5) * stride)
    w, s, e, n = (round(value, 7) for value in (west, south, east, north))
    ring = [[w, s], [e, s], [e, n], [w, n], [w, s]]
    return {"type": "Feature", "properties": {"level": name}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
