# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Windows cut from the mosaic and resampled to the model's size.

Windows overlap: at half a side's distance each pixel lies in four of them. So the mosaic is resampled in blocks, once,
and a window is put together from its blocks. A block reads as far around itself as the filter reaches; it does not
show where it ends.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from typing import Any, List, Optional, Tuple

import numpy as np
from PIL import Image

from ._screen import Screened, TileCache
from ._windows import Scale, Window

__all__ = ["WindowCutter", "cut_window", "resample", "window_digest"]

_BICUBIC, _BOX = 3, 4
_BLOCKS_HELD = 512

Box = Tuple[int, int, int, int]


class WindowCutter:
    """Cuts windows of one size in pixels; quick where neighbours follow each other.

    Args:
        cache: the tiles.
        tile_px: side of a tile in pixels.
        size_px: side of the pictures.
    """

    def __init__(self, cache: TileCache, tile_px: int, size_px: int) -> None:
        self._cache, self._tile_px, self._size = cache, tile_px, size_px
        self._block_px = (size_px + 1) // 2
        self._blocks: OrderedDict[Tuple[int, int, int, int], Any] = OrderedDict()

    def cut(self, window: Window) -> Tuple[Any, float]:
        """See `cut_window`; the window's corner is rounded to a pixel of the picture."""
        size, step, scale = self._size, self._block_px, window.scale
        left, top = (round(value * size / scale.side_px) for value in (window.x_px, window.y_px))
        picture = Image.new("RGBA", (size, size))
        for row in range(top // step, (top + size - 1) // step + 1):
            for column in range(left // step, (left + size - 1) // step + 1):
                picture.paste(self._block(scale, column, row), (column * step - left, row * step - top))
        return _filled(picture)

    def _block(self, scale: Scale, column: int, row: int) -> Any:
        key = (scale.zoom, scale.side_px, column, row)
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = self._resampled(scale, column, row)
            if len(self._blocks) > _BLOCKS_HELD:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(key)
        return block

    def _resampled(self, scale: Scale, column: int, row: int) -> Any:
        step, (whole, reach) = self._block_px, _reach_px(scale.side_px, self._size)
        spans = []
        for place in (column, row):
            begin, end = (k * step * scale.side_px / self._size for k in (place, place + 1))
            # from a multiple of the whole factor on, so that neighbours reduce the same pixels alike
            first, last = (math.floor(begin) - reach) // whole * whole, -(-(math.ceil(end) + reach) // whole) * whole
            spans.append((first, last, (begin - first) / whole, (end - first) / whole))
        (x0, x1, left, right), (y0, y1, top, bottom) = spans
        ground = Image.fromarray(_mosaic(self._cache, self._tile_px, scale.zoom, (x0, y0, x1, y1)))
        return _smaller(ground, whole, step, (left, top, right, bottom)).convert("RGBA")


def _reach_px(side_px: int, size_px: int) -> Tuple[int, int]:
    """The whole factor that pictures are reduced by first, and how many pixels around a block its pixels come from."""
    whole = max(1, side_px // size_px)
    return whole, int(math.ceil(2 * max(1.0, side_px / size_px))) + 1


def _mosaic(cache: TileCache, tile_px: int, zoom: int, box: Box) -> Any:
    """The map's pixels in a box (x0, y0, x1, y1): height x width x 3, or x 4 with alpha 0 where there is no imagery."""
    left, top, right, bottom = box
    pieces = [(key, cache.get(key)) for key in _tiles_under(zoom, box, tile_px)]
    # most places lie wholly in imagery, and three channels without a mask are the cheaper to cut
    whole = all(pixels is not None and pixels.shape[2] == 3 for _key, pixels in pieces)
    canvas = np.zeros((bottom - top, right - left, 3 if whole else 4), dtype=np.uint8)
    for key, pixels in pieces:
        if pixels is None:
            continue
        x, y = key[1] * tile_px - left, key[2] * tile_px - top
        x0, y0, x1, y1 = max(0, x), max(0, y), min(right - left, x + tile_px), min(bottom - top, y + tile_px)
        part = pixels[y0 - y : y1 - y, x0 - x : x1 - x]
        canvas[y0:y1, x0:x1, : part.shape[2]] = part
        if part.shape[2] < canvas.shape[2]:
            canvas[y0:y1, x0:x1, 3] = 255
    return canvas


def _tiles_under(zoom: int, box: Box, tile_px: int) -> List[Tuple[int, int, int]]:
    x0, y0, x1, y1 = box
    return [
        (zoom, x, y)
        for y in range(y0 // tile_px, (y1 - 1) // tile_px + 1)
        for x in range(x0 // tile_px, (x1 - 1) // tile_px + 1)
    ]


def _smaller(
    image: Image.Image, whole: int, size_px: int, box: Optional[Tuple[float, float, float, float]] = None
) -> Image.Image:
    """Resample (a box of) a picture to a square, first by a whole factor, which is cheap.

    Pillow weighs pixels by their alpha: nothing dark bleeds in from where there is no imagery.
    """
    if whole > 1:
        image = image.reduce(whole)
    if box is None and image.size == (size_px, size_px):
        return image
    return image.resize((size_px, size_px), _BICUBIC, box=box)


def _filled(picture: Image.Image) -> Tuple[Any, float]:
    """RGBA -> (height x width x 3, share of imagery); what is missing gets the mean colour of the rest."""
    alpha = picture.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return np.asarray(picture.convert("RGB")), 1.0
    red, green, blue, share = picture.resize((1, 1), _BOX).tobytes()
    ground = Image.new("RGB", picture.size, (red, green, blue))
    ground.paste(picture.convert("RGB"), mask=alpha)
    return np.asarray(ground), share / 255.0


def cut_window(window: Window, cache: TileCache, tile_px: int, size_px: int) -> Tuple[Any, float]:
    """Cut a square of the mosaic, wherever it lies, and resample it.

    Returns:
        (uint8 size x size x 3, share of it that is imagery). Pixels without imagery hold the mean colour of the rest,
        which makes neither corners nor edges of its own.
    """
    side = window.scale.side_px
    box = (window.x_px, window.y_px, window.x_px + side, window.y_px + side)
    return resample(_mosaic(cache, tile_px, window.scale.zoom, box), size_px)


def resample(canvas: Any, size_px: int) -> Tuple[Any, float]:
    """Resample a square (RGB, or RGBA with alpha 0 for "no data") and fill what is empty; see `cut_window`."""
    image = Image.fromarray(canvas)
    return _filled(_smaller(image, image.width // size_px, size_px).convert("RGBA"))


def window_digest(window: Window, screened: Screened, size_px: int, prefix: bytes) -> bytes:
    """The window's key: known from hashes alone, without decoding a pixel.

    Args:
        window: the window.
        screened: the tiles.
        size_px: side of the picture that is made of it.
        prefix: digest of all that is common to the build (code, decoder, model, sizes, valid-share threshold).
    """
    digest = hashlib.sha256(prefix)
    scale = window.scale
    digest.update(b"%d/%d,%d,%d;" % (scale.zoom, window.x_px, window.y_px, scale.side_px))
    whole, reach = _reach_px(scale.side_px, size_px)
    # as far as its pixels come from, and half a pixel of the picture more, which its corner may be rounded by
    reach += whole + int(math.ceil(scale.side_px / size_px / 2))
    x0, y0 = window.x_px - reach, window.y_px - reach
    box = (x0, y0, window.x_px + scale.side_px + reach, window.y_px + scale.side_px + reach)
    for key in _tiles_under(scale.zoom, box, screened.tile_px):
        tile = screened.usable(key)
        digest.update(bytes.fromhex(tile.sha256) if tile is not None else b"-")
    return digest.digest()
