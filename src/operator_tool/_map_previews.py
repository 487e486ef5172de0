# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""Small copies of an archive's tiles, from a few for the whole map down to the zoom that a page can carry."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.gps_denied.preflight.plugins.module_utils._pmtiles import PmtilesReader, tile_id_to_zxy
from PIL import Image

__all__ = ["MapPreviews", "preview_tiles"]

TILE_PX = 256
MAX_TILES = 480
"""Tiles of the finest zoom: with their parents about 640 of 12 kB, 10 MB in a page."""
JPEG_QUALITY = 62

Key = tuple[int, int, int]


@dataclass(frozen=True)
class MapPreviews:
    """JPEG copies by (zoom, column, row); `min_zoom` has at most four of them in a row."""

    tiles: dict[Key, bytes]
    min_zoom: int
    max_zoom: int
    unreadable: int


def preview_tiles(
    archive_path: str, *, on_tile: Callable[[Image.Image, Key], None] | None = None
) -> MapPreviews | None:
    """Copies of the archive's finest zoom, made smaller until `MAX_TILES` tiles hold it, and of its parents.

    Args:
        archive_path: A PMTiles archive of pictures.
        on_tile: Called with every tile of the copies' finest zoom, before it is made smaller for its parent.

    Returns:
        The copies; None where the archive holds no readable tile.

    Raises:
        OSError, ValueError: the archive cannot be read.
    """
    with PmtilesReader(archive_path) as reader:
        places: list[Key] = []
        for entry in reader.entries():
            for offset in range(entry.run_length):
                z, x, y = tile_id_to_zxy(entry.tile_id + offset)
                places.append((z, x, y))
        if not places:
            return None
        finest = max(z for z, _x, _y in places)
        sources = [(x, y) for z, x, y in places if z == finest]
        zoom = finest
        while zoom > 0 and len({(x >> (finest - zoom), y >> (finest - zoom)) for x, y in sources}) > MAX_TILES:
            zoom -= 1
        groups: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for x, y in sources:
            groups[x >> (finest - zoom), y >> (finest - zoom)].append((x, y))
        found: dict[Key, bytes] = {}
        shrunk: dict[tuple[int, int], Image.Image] = {}
        unreadable = 0
        for (column, row), members in sorted(groups.items()):
            picture, bad = _composed(reader, finest, zoom, (column, row), members)
            unreadable += bad
            if picture is None:
                continue
            if on_tile:
                on_tile(picture, (zoom, column, row))
            found[zoom, column, row] = _jpeg(picture)
            shrunk[column, row] = picture.resize((TILE_PX // 2, TILE_PX // 2), Image.Resampling.BOX)
    if not found:
        return None
    lowest = zoom
    while lowest > 0 and len(shrunk) > 1 and zoom - lowest < 8:
        lowest -= 1
        shrunk = _parents(shrunk, lowest, found)
    return MapPreviews(found, lowest, zoom, unreadable)


def _composed(
    reader: PmtilesReader, finest: int, zoom: int, place: tuple[int, int], members: list[tuple[int, int]]
) -> tuple[Image.Image | None, int]:
    """One tile of `zoom` out of the archive's tiles below it, and how many of them could not be read."""
    depth = finest - zoom
    side = max(1, TILE_PX >> depth)
    picture: Image.Image | None = None
    bad = 0
    for x, y in members:
        data = reader.get(finest, x, y)
        try:
            with Image.open(io.BytesIO(data or b""), formats=("JPEG", "PNG", "WEBP")) as opened:
                # the JPEG decoder makes it smaller on the way, at a fraction of the cost
                opened.draft("RGB", (side, side))
                part = opened.convert("RGB")
        except Exception:  # noqa: BLE001 - decoders raise nearly anything; the tile was checked when it came
            bad += 1
            continue
        if part.size != (side, side):
            part = part.resize((side, side), Image.Resampling.BOX)
        picture = picture or Image.new("RGB", (TILE_PX, TILE_PX), (233, 237, 241))
        picture.paste(part, ((x - (place[0] << depth)) * side, (y - (place[1] << depth)) * side))
    return picture, bad


def _parents(
    shrunk: dict[tuple[int, int], Image.Image], zoom: int, found: dict[Key, bytes]
) -> dict[tuple[int, int], Image.Image]:
    canvases: dict[tuple[int, int], Image.Image] = {}
    for (x, y), quarter in shrunk.items():
        canvas = canvases.get((x >> 1, y >> 1))
        if canvas is None:
            canvas = canvases[x >> 1, y >> 1] = Image.new("RGB", (TILE_PX, TILE_PX), (233, 237, 241))
        canvas.paste(quarter, ((x & 1) * TILE_PX // 2, (y & 1) * TILE_PX // 2))
    for (x, y), canvas in canvases.items():
        found[zoom, x, y] = _jpeg(canvas)
    return {
        place: canvas.resize((TILE_PX // 2, TILE_PX // 2), Image.Resampling.BOX) for place, canvas in canvases.items()
    }


def _jpeg(picture: Image.Image) -> bytes:
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return packed.getvalue()
