# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""A window made of blocks is what the whole map, resampled at once, shows there; and its key names its tiles."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import numpy as np
import pytest
from c10_builder import _cut
from c10_builder._cut import WindowCutter, window_digest
from c10_builder._geo import Polygons
from c10_builder._pmtiles import PmtilesReader
from c10_builder._request import BuildRequest
from c10_builder._screen import Screened, TileCache, scan, screen
from c10_builder._windows import Scale, Window, make_plan
from PIL import Image
from support import X0, Y0, ZOOM, ground, request, write_archive

Key = Tuple[int, int, int]


def png(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def opened(folder: Path, tiles: Dict[Key, bytes]) -> Tuple[PmtilesReader, Screened]:
    write_archive(folder / "map.pmtiles", tiles)
    reader = PmtilesReader(folder / "map.pmtiles")
    return reader, screen(reader, scan(reader, progress=lambda *_: None), progress=lambda *_: None)


def window(side_px: int, x_px: int, y_px: int) -> Window:
    """A window whose corner is so many pixels from the map's."""
    return Window(Scale(0, side_px * 0.5, ZOOM, side_px, side_px // 2, 0.5), X0 * 256 + x_px, Y0 * 256 + y_px)


@pytest.fixture
def lossless(tmp_path: Path) -> Iterator[Tuple[Any, PmtilesReader, Screened]]:
    """A map whose tiles hold their pixels exactly, without anything black."""
    image = np.maximum(ground(), 20)
    reader, screened = opened(tmp_path, {key: png(tile) for key, tile in _cells(image).items()})
    with reader:
        yield image, reader, screened


def _cells(image: Any) -> Dict[Key, Any]:
    return {
        (ZOOM, X0 + x, Y0 + y): image[y * 256 : y * 256 + 256, x * 256 : x * 256 + 256]
        for x in range(image.shape[1] // 256)
        for y in range(image.shape[0] // 256)
    }


def worst(lossless: Tuple[Any, PmtilesReader, Screened], side_px: int) -> int:
    """Largest difference of any value to the picture of the whole neighbourhood, over some windows of a grid."""
    image, reader, screened = lossless
    cutter, found = WindowCutter(TileCache(reader, screened), 256, 224), 0
    stride = side_px // 2
    first = -(-X0 * 256 // stride) * stride - X0 * 256, -(-Y0 * 256 // stride) * stride - Y0 * 256
    for step in range(3):
        x, y = first[0] + step * stride + stride, first[1] + stride
        picture, share = cutter.cut(window(side_px, x, y))
        assert share == 1.0
        whole = max(1, side_px // 224)
        wide = 4 * whole * 8  # pixels around, a multiple of the factor on the map's own grid
        left, top = (X0 * 256 + x - wide) // whole * whole - X0 * 256, (Y0 * 256 + y - wide) // whole * whole - Y0 * 256
        around = Image.fromarray(image[top : y + side_px + wide, left : x + side_px + wide])
        reduced = around.reduce(whole) if whole > 1 else around
        box = ((x - left) / whole, (y - top) / whole, (x - left + side_px) / whole, (y - top + side_px) / whole)
        wanted = np.asarray(reduced.resize((224, 224), 3, box=box))
        found = max(found, int(np.abs(picture.astype(int) - wanted).max()))
    return found


@pytest.mark.parametrize("side_px", [180, 224, 300, 448, 500])
def test_blocks_make_what_the_whole_map_resampled_at_once_shows(lossless: Any, side_px: int) -> None:
    assert worst(lossless, side_px) <= 1


def test_blocks_that_see_only_themselves_would_show(lossless: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cut, "_reach_px", lambda side, size: (max(1, side // size), 0))
    assert worst(lossless, 300) > 8


@pytest.mark.parametrize(
    ("side_px", "x_px", "y_px"), [(256, 256, 256), (256, 260, 251), (300, 512, 508), (600, 257, 3)]
)
def test_the_key_of_a_window_names_every_tile_that_its_pixels_come_from(
    tmp_path: Path, side_px: int, x_px: int, y_px: int
) -> None:
    cells = _cells(np.maximum(ground(), 20))
    there = window(side_px, x_px, y_px)

    def look(changed: "Key | None") -> Tuple[bytes, bytes]:
        tiles = {key: png(255 - cell if key == changed else cell) for key, cell in cells.items()}
        reader, screened = opened(tmp_path, tiles)
        with reader:
            picture, _share = WindowCutter(TileCache(reader, screened), 256, 224).cut(there)
        return window_digest(there, screened, 224, b""), picture.tobytes()

    key, pixels = look(None)
    changed = {place: look(place) for place in cells}
    shown = {place for place, (_key, other) in changed.items() if other != pixels}
    named = {place for place, (other, _pixels) in changed.items() if other != key}
    assert shown <= named, "a changed tile would leave an old descriptor in use"
    assert len(named) < len(cells), "and a key that names the whole map would describe everything again"


def test_missing_imagery_is_filled_and_darkens_nothing(tmp_path: Path) -> None:
    chequered = 180 + (np.indices((1024, 1280)).sum(axis=0) % 2).astype(np.uint8)
    cells = _cells(np.repeat(chequered[..., None], 3, axis=2))
    del cells[(ZOOM, X0 + 2, Y0 + 1)]
    reader, screened = opened(tmp_path, {key: png(cell) for key, cell in cells.items()})
    with reader:
        cutter = WindowCutter(TileCache(reader, screened), 256, 224)
        picture, share = cutter.cut(window(300, 400, 200))
        empty, nothing = cutter.cut(window(100, 600, 350))
    # 512 to 700 of 400 to 700, and 256 to 500 of 200 to 500, have no tile
    assert share == pytest.approx(1 - (188 / 300) * (244 / 300), abs=0.005)
    assert picture.min() >= 177, "no dark edge"
    assert (nothing, int(empty.max())) == (0.0, 0)


@pytest.mark.parametrize(("ratio", "times"), [(0.5, 2), (0.25, 4), (1.0, 1), (0.3, None)])
def test_windows_begin_at_whole_pixels_of_the_picture_where_they_can(
    tmp_path: Path, the_map: Tuple[Any, Path, str], ratio: float, times: "int | None"
) -> None:

    parsed = BuildRequest.parse(request(tmp_path, the_map[1], the_map[2], settings={"stride_ratio": ratio}))
    with PmtilesReader(the_map[1]) as reader:
        screened = screen(reader, scan(reader, progress=lambda *_: None), progress=lambda *_: None)
    plan, _notes = make_plan(
        Polygons.of_lonlat(parsed.polygons), screened, parsed.camera, parsed.settings, window_px=224
    )
    for scale in plan.scales:
        if times is None:
            assert scale.stride_px == round(scale.side_px * ratio)
        else:
            assert scale.side_px == times * scale.stride_px
