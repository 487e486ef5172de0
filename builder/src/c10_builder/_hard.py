# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""How the index does on pictures as a camera in the air would take them, made from the map itself.

Places lie anywhere, not on the windows' grid; heading and height are off, the camera leans, the air is hazy, the
picture is blurred and compressed. Another season is not in it, so the figure bounds what a flight will see from above.
"""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any, List, Tuple

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from ._cut import cut_window
from ._gates import evenly
from ._geo import WORLD_M, mercator_stretch
from ._index import Index
from ._screen import TileCache
from ._windows import Plan, Window

__all__ = ["as_seen_from_the_air", "hard_places", "hard_recall"]

_PLACES_MAX = 60
#: How far the cut-out reaches beyond the picture, so that turning and leaning never look past it.
_REACH = 1.7
_YAW_DEG, _SCALE, _TILT_DEG = 10.0, 0.15, 8.0


def as_seen_from_the_air(ground: Any, size_px: int, seed: int) -> Any:
    """A picture of the middle of a square of ground.

    Args:
        ground: uint8 square x 3, north up, `_REACH` times as wide as the picture.
        size_px: side of the picture.
        seed: decides everything.

    Returns:
        uint8 size_px x size_px x 3.
    """
    rng = np.random.RandomState(seed & 0x7FFFFFFF)
    yaw = math.radians(float(rng.uniform(-_YAW_DEG, _YAW_DEG)))
    half = ground.shape[0] / _REACH / 2 * float(rng.uniform(1 - _SCALE, 1 + _SCALE))
    # a lean widens the far edge and narrows the near one; 65 degrees of view across
    lean = math.tan(math.radians(float(rng.uniform(-_TILT_DEG, _TILT_DEG)))) * math.tan(math.radians(32.5))
    middle = ground.shape[0] / 2.0
    corners: List[float] = []
    for x, y in ((-1, -1), (-1, 1), (1, 1), (1, -1)):
        wide = half / (1 + lean * y)
        dx, dy = x * wide, y * wide
        corners += [
            middle + dx * math.cos(yaw) - dy * math.sin(yaw),
            middle + dx * math.sin(yaw) + dy * math.cos(yaw),
        ]
    # numbers instead of names: Pillow 9.0 and the newest agree on them alone
    image = Image.fromarray(ground).transform((size_px, size_px), 3, corners, resample=2)  # type: ignore[arg-type]
    image = ImageEnhance.Color(image).enhance(float(rng.uniform(0.6, 1.2)))
    image = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.75, 1.25)))
    haze = Image.new("RGB", image.size, (205, 212, 220))
    image = Image.blend(image, haze, float(rng.uniform(0.0, 0.3)))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.2))))
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=int(rng.randint(40, 80)))
    return np.asarray(Image.open(packed).convert("RGB"))


def hard_places(rows: int) -> int:
    """How many places to try: sixty, fewer on a small map, where they would cost more than the build."""
    return min(_PLACES_MAX, max(8, rows // 8))


def hard_recall(index: Index, plan: Plan, kept: Any, cache: TileCache, *, seed: int, places: int) -> float:
    """Share of made pictures whose first match lies within one window side of where they were made.

    Args:
        index: the index as opened from disk.
        plan: the windows it was built from.
        kept: position in the plan of each row.
        cache: the tiles.
        seed: decides the places and the pictures.
        places: how many; spread over all rows.
    """
    head, size = index.head(), int(index.meta["model"]["window_px"])
    rng = np.random.RandomState(seed & 0x7FFFFFFF)
    pictures: List[Any] = []
    truths: List[Tuple[float, float, int]] = []
    for row in evenly(len(index), places):
        window = plan.windows[int(kept[row])]
        side = window.scale.side_px
        shift_x, shift_y = (int(v) for v in rng.uniform(-0.25, 0.25, 2) * side)
        wide = int(round(side * _REACH))
        x_px, y_px = window.x_px + shift_x - (wide - side) // 2, window.y_px + shift_y - (wide - side) // 2
        around = Window(replace(window.scale, side_px=wide), x_px, y_px)
        ground, share = cut_window(around, cache, plan.tile_px, int(round(size * _REACH)))
        if share < 0.9:
            continue
        pictures.append(as_seen_from_the_air(ground, size, seed + int(row)))
        unit = WORLD_M / (plan.tile_px << window.scale.zoom)
        truths.append(((x_px + wide / 2) * unit, (y_px + wide / 2) * unit, window.scale.index))
    if not pictures:
        return float("nan")
    hits = 0
    stretch = mercator_stretch(index.meta["latitude_deg"])
    for descriptor, (mx, my, scale) in zip(head.describe(np.stack(pictures)), truths):
        best = index.search(descriptor, top=1, scales=[scale])[0]
        facts = index.rows_meta[best.row]
        hits += bool(np.hypot(facts["mx_m"] - mx, facts["my_m"] - my) <= float(facts["side_m"]) * stretch)
    return hits / len(pictures)
