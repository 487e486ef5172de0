# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Scan and screen: which tiles there are, what their bytes hash to, and whether each is imagery at all.

A bad tile is a verdict, never a crash.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
from PIL import Image, ImageChops

from ._pmtiles import PmtilesReader

__all__ = ["NODATA_LEVEL", "Screened", "TileInfo", "decode_tile", "scan", "screen"]

#: Pixels with no channel above this are taken as "no data" (black, after JPEG's ringing). Deep shadows fall under it as
#: well, to good effect: they are another season's, and windows that kept them found 9 to 14 of 100 photos fewer.
NODATA_LEVEL = 10
_IS_LIT = [0] * (NODATA_LEVEL + 1) + [255] * (255 - NODATA_LEVEL)
_IS_OPAQUE = [0] * 128 + [255] * 128
_TILE_BYTES_MAX = 8 * 1024 * 1024
_SIDES = (128, 256, 512, 1024)
_MODES = ("L", "LA", "P", "RGB", "RGBA", "1")
_FORMATS = ("JPEG", "PNG", "WEBP")
#: A tile whose every channel spreads less than this is blank (clear sea, cloud, a colour fill).
_BLANK_STD = 2.0
_PLACEHOLDER_PLACES = 5

Key = Tuple[int, int, int]


@dataclass(frozen=True)
class TileInfo:
    """A tile in the archive: where its bytes lie and what they hash to."""

    offset: int
    length: int
    sha256: str


@dataclass
class Screened:
    """The tiles of the archive with their verdicts.

    Attributes:
        tiles: (z, x, y) -> TileInfo.
        verdicts: tile hash -> ok | blank | placeholder | corrupt:<reason>.
        tile_px: side of the archive's tiles in pixels.
    """

    tiles: Dict[Key, TileInfo] = field(default_factory=dict)
    verdicts: Dict[str, str] = field(default_factory=dict)
    tile_px: int = 256

    def usable(self, key: Key) -> Optional[TileInfo]:
        """The tile, unless it is missing, corrupt or a placeholder. Blank tiles are imagery: a calm lake is real."""
        tile = self.tiles.get(key)
        if tile is None:
            return None
        return tile if self.verdicts.get(tile.sha256) in ("ok", "blank") else None


def decode_tile(data: bytes) -> Tuple[Optional[Any], str]:
    """Decode a tile.

    Returns:
        (RGBA uint8 array of side x side x 4, "") or (None, reason).
    """
    if not data:
        return None, "empty"
    if len(data) > _TILE_BYTES_MAX:
        return None, "too-large"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.size[0] != image.size[1] or image.size[0] not in _SIDES:
                    return None, "wrong-size"
                if image.mode not in _MODES:
                    return None, "unsupported-mode-" + image.mode.replace(";", "")
                image.load()
                return np.asarray(image.convert("RGBA")), ""
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on damaged input; the verdict names the class
        return None, "undecodable-" + type(error).__name__


def scan(
    archive: PmtilesReader,
    *,
    hashes: Optional[Dict[Tuple[int, int], str]] = None,
    progress: Callable[[int, int], None],
) -> Dict[Key, TileInfo]:
    """List the archive's tiles and hash each distinct content once.

    Args:
        archive: the open archive.
        hashes: hashes by (offset, length) from an earlier scan of this very archive, extended in place.
        progress: called with (done, total).
    """
    hashes = {} if hashes is None else hashes
    tiles: Dict[Key, TileInfo] = {}
    entries = sorted(archive.entries(), key=lambda e: (e.z, e.x, e.y))
    for done, entry in enumerate(entries, 1):
        place = (entry.offset, entry.length)
        digest = hashes.get(place)
        if digest is None:
            digest = hashes[place] = hashlib.sha256(archive.read(*place)).hexdigest()
        tiles[(entry.z, entry.x, entry.y)] = TileInfo(offset=entry.offset, length=entry.length, sha256=digest)
        progress(done, len(entries))
    return tiles


def _verdict(data: bytes, sides: Counter) -> str:  # type: ignore[type-arg]
    pixels, reason = decode_tile(data)
    if pixels is None:
        return "corrupt:" + reason
    sides[pixels.shape[0]] += 1
    seen = pixels[pixels[..., 3] > 0][:, :3]
    if not len(seen) or float(seen.astype(np.float32).std(axis=0).max()) < _BLANK_STD:
        return "blank:%d" % pixels.shape[0]
    return "ok:%d" % pixels.shape[0]


def screen(
    archive: PmtilesReader,
    tiles: Dict[Key, TileInfo],
    *,
    known: Optional[Dict[str, str]] = None,
    progress: Callable[[int, int], None],
) -> Screened:
    """Judge every distinct tile.

    Args:
        archive: the open archive.
        tiles: what `scan` found.
        known: raw verdicts by hash from an earlier run, extended in place.
        progress: called with (done, total).
    """
    known = {} if known is None else known
    places: Dict[str, List[Key]] = {}
    for key in sorted(tiles):
        places.setdefault(tiles[key].sha256, []).append(key)
    sides: Counter = Counter()  # type: ignore[type-arg]
    raw: Dict[str, str] = {}
    for done, digest in enumerate(sorted(places), 1):
        verdict = known.get(digest)
        if verdict is None:
            tile = tiles[places[digest][0]]
            verdict = known[digest] = _verdict(archive.read(tile.offset, tile.length), sides)
        elif ":" in verdict and not verdict.startswith("corrupt"):
            sides[int(verdict.split(":")[1])] += 1
        raw[digest] = verdict
        progress(done, len(places))
    # most common side; the larger of equals, so that the order of counting does not matter
    tile_px = max(sides.items(), key=lambda item: (item[1], item[0]))[0] if sides else 256
    verdicts: Dict[str, str] = {}
    for digest, verdict in raw.items():
        if verdict.startswith("corrupt"):
            verdicts[digest] = verdict
        elif int(verdict.split(":")[1]) != tile_px:
            verdicts[digest] = "corrupt:wrong-size"
        elif verdict.startswith("ok") and _apart(places[digest]):
            verdicts[digest] = "placeholder"
        else:
            verdicts[digest] = verdict.split(":")[0]
    return Screened(tiles=tiles, verdicts=verdicts, tile_px=tile_px)


def _apart(keys: List[Key]) -> bool:
    """Whether one picture stands at so many places of one zoom that it must be the provider's "no imagery here"."""
    by_zoom = Counter(key[0] for key in keys)
    return bool(by_zoom) and max(by_zoom.values()) >= _PLACEHOLDER_PLACES


def _mark_nodata(pixels: Any) -> Any:
    """RGBA as decoded -> RGB if all of it is imagery, else RGBA with alpha 0 where it is transparent or black."""
    red, green, blue, alpha = Image.fromarray(pixels).split()
    lightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    seen = ImageChops.darker(lightest.point(_IS_LIT), alpha.point(_IS_OPAQUE))
    if seen.getextrema()[0] == 255:
        return np.asarray(Image.merge("RGB", (red, green, blue)))
    return np.asarray(Image.merge("RGBA", (red, green, blue, seen)))


class TileCache:
    """Decoded tiles, the least recently used dropped first."""

    def __init__(self, archive: PmtilesReader, screened: Screened, *, capacity: int = 128) -> None:
        self._archive = archive
        self._screened = screened
        self._capacity = max(4, capacity * 256 * 256 // (screened.tile_px * screened.tile_px))
        self._held: OrderedDict[Key, Any] = OrderedDict()

    def get(self, key: Key) -> Optional[Any]:
        """Pixels of a usable tile, or None: RGB, or RGBA with alpha 0 where there is no imagery."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        tile = self._screened.usable(key)
        pixels = None
        if tile is not None:
            pixels, _reason = decode_tile(self._archive.read(tile.offset, tile.length))
            pixels = None if pixels is None else _mark_nodata(pixels)
        self._held[key] = pixels
        if len(self._held) > self._capacity:
            self._held.popitem(last=False)
        return pixels


__all__ += ["TileCache"]
