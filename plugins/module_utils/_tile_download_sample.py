# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a download will cost, from a few real tiles of each zoom: bytes, seconds, requests, price."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, List, Optional, Tuple

from ._tile_download import DownloadLimits, download_tiles
from ._tile_placement import check_placement, examine_placement, spread_tiles
from ._tile_source import HttpTileSource, TileSource
from ._tile_store import TileStore
from ._tiles import Tile, TileSet

__all__ = ["DownloadEstimate", "ZoomEstimate", "estimate_download", "sample_tiles"]

SAMPLE_TILES = 12
FALLBACK_TILE_BYTES = 20_000
"""Size assumed where no tile of a zoom could be had: a JPEG tile of aerial imagery at quality 85."""
MIN_SECONDS = 0.1


@dataclass(frozen=True)
class ZoomEstimate:
    """One zoom: its tiles, how many of them are in the store, and the sampled bytes of one."""

    zoom: int
    tiles: int
    present: int
    sampled: int
    missing_in_sample: int
    tile_bytes: float

    @property
    def size_bytes(self) -> int:
        """Bytes of the zoom in the archive."""
        return round(self.tiles * self.tile_bytes)

    @property
    def download_bytes(self) -> int:
        """Bytes still to be fetched."""
        return round((self.tiles - self.present) * self.tile_bytes)


@dataclass(frozen=True)
class DownloadEstimate:
    """The whole download; `price` in `price_currency` where the profile names one. Sampled tiles stay in the store."""

    zooms: Tuple[ZoomEstimate, ...]
    tiles: int
    present: int
    size_bytes: int
    download_bytes: int
    seconds: float
    price: Optional[float]
    price_currency: Optional[str]
    terms_url: Optional[str]
    attribution: str
    terms_note: str = ""


def sample_tiles(tiles: TileSet, zoom: int, count: int = SAMPLE_TILES) -> TileSet:
    """Tiles of a zoom, spread over the area, half of them with the tile south of it, so that their rows can be checked.

    Deterministic; fewer than `count` where the zoom has fewer.
    """
    spread = spread_tiles(tiles, zoom, count)
    chosen: List[Tile] = []
    for tile in [*spread[::2], *spread[1::2]]:
        south = Tile(tile.z, tile.x, tile.y + 1)
        pair = [tile, south] if len(chosen) < count - 1 and south in tiles else [tile]
        chosen += [one for one in pair if one not in chosen]
    return TileSet.from_tiles(chosen[:count])


def estimate_download(
    *,
    tiles: TileSet,
    source: TileSource,
    store: TileStore,
    limits: Optional[DownloadLimits] = None,
    cancelled: Optional[Callable[[], bool]] = None,
    sample: int = SAMPLE_TILES,
) -> DownloadEstimate:
    """Fetch a few tiles of each zoom (they stay in the store), and reckon the rest from them.

    Raises:
        DownloadError: as `download_tiles` does.
        TilePlacementError: the sample does not lie where the source says.
    """
    source.check_zooms(tiles.zooms)
    known = store.source_number(source.source_key, attribution=source.spec.attribution)
    number = -1 if known is None else known
    found: List[ZoomEstimate] = []
    fetched, elapsed_s = 0, 0.0
    for zoom, count in tiles.counts_by_zoom.items():
        probe = sample_tiles(tiles, zoom, sample)
        started_s = time.monotonic()
        report = download_tiles(tiles=probe, source=source, store=store, limits=limits, cancelled=cancelled)
        if report.downloaded:
            fetched += report.downloaded
            elapsed_s += time.monotonic() - started_s
        present, size_bytes = _survey(probe, store, number)
        have = _survey(TileSet.from_runs(run for run in tiles.runs if run.z == zoom), store, number)[0]
        mean = size_bytes / present if present else float(FALLBACK_TILE_BYTES)
        found.append(ZoomEstimate(zoom, count, have, len(probe), report.missing + report.placeholder, mean))
    if source.spec.check_placement:
        sampled = TileSet.from_tiles(tile for zoom in tiles.zooms for tile in sample_tiles(tiles, zoom, sample))
        check_placement(examine_placement(tiles=sampled, source=source, store=store), source=source)
    absent = sum(zoom.tiles - zoom.present for zoom in found)
    spec = source.spec
    return DownloadEstimate(
        zooms=tuple(found),
        tiles=len(tiles),
        present=sum(zoom.present for zoom in found),
        size_bytes=sum(zoom.size_bytes for zoom in found),
        download_bytes=sum(zoom.download_bytes for zoom in found),
        seconds=_seconds(source, absent, fetched=fetched, elapsed_s=elapsed_s, sample=sample),
        price=None if spec.price_per_1000 is None else round(absent / 1000 * spec.price_per_1000, 2),
        price_currency=spec.price_currency,
        terms_url=spec.terms_url,
        attribution=spec.attribution,
        terms_note=spec.terms_note,
    )


def _survey(tiles: TileSet, store: TileStore, number: int) -> Tuple[int, int]:
    surveys = [store.survey(number, run) for run in tiles.runs]
    return sum(one.present for one in surveys), sum(one.present_bytes for one in surveys)


def _seconds(source: TileSource, absent: int, *, fetched: int, elapsed_s: float, sample: int) -> float:
    """The sampled pace, scaled to all connections, and never faster than the profile allows."""
    spec = source.spec
    if not absent:
        return 0.0
    rate_per_s = fetched / max(MIN_SECONDS, elapsed_s) if fetched else float(spec.connections)
    if isinstance(source, HttpTileSource):
        rate_per_s *= max(1.0, spec.connections / max(1, sample))
        if spec.requests_per_s is not None:
            rate_per_s = min(rate_per_s, spec.requests_per_s)
    return round(absent / rate_per_s, 1)
