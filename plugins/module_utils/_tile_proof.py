# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After the download: everything that is known of the tiles goes into the report, and then it is judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ._flight import Flight
from ._report import DownloadBatchReport, from_plain, to_plain
from ._tile_coverage import check_coverage, with_route_holes
from ._tile_dates import date_warnings, examine_dates
from ._tile_placement import PlacementReport, check_placement, examine_placement
from ._tile_source import TileSource
from ._tile_store import TileStore
from ._tiles import TileSet

__all__ = ["check_download", "examine_download"]


def examine_download(
    report: DownloadBatchReport, *, tiles: TileSet, source: TileSource, store: TileStore, flight: Optional[Flight]
) -> DownloadBatchReport:
    """The report with holes along the route, placement, dates of the imagery, and what to warn of.

    Args:
        report: of `download_tiles`.
        tiles: what was asked for.
        source: whence.
        store: where they are.
        flight: None where only single tiles were fetched again.
    """
    if flight is not None:
        report = with_route_holes(report, flight)
    placement = examine_placement(tiles=tiles, source=source, store=store) if source.spec.check_placement else None
    dates = examine_dates(tiles=tiles, source=source, store=store)
    return replace(report, placement=to_plain(placement), imagery=to_plain(dates), warnings=date_warnings(dates))


def check_download(report: DownloadBatchReport, *, source: TileSource, tolerance_ratio: float) -> None:
    """Judge an examined download.

    Raises:
        TilePlacementError: the tiles lie elsewhere than they are said to.
        CoverageIncompleteError: more of them are absent than the operator tolerates.
    """
    if report.placement is not None:
        check_placement(from_plain(PlacementReport, report.placement), source=source)
    check_coverage(report, tolerance_ratio=tolerance_ratio)
