# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is every tile of the flight there: the verdict over a download, and its holes as tiles and along the route."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Iterable, Mapping

from ._errors import CoverageIncompleteError, SettingsError
from ._flight import Flight
from ._report import DownloadBatchReport, to_plain
from ._tile_download_holes import describe_stretches, route_stretches
from ._tiles import Tile, TileSet

__all__ = ["check_coverage", "failed_tiles", "read_failed_tiles", "with_route_holes"]

MAX_REPORT_BYTES = 64 * 1024 * 1024


def with_route_holes(report: DownloadBatchReport, flight: Flight) -> DownloadBatchReport:
    """The report with its holes as stretches of the flown lines, in kilometres."""
    return replace(report, route_holes=tuple(to_plain(route_stretches(flight, report.failed_tiles))))


def check_coverage(report: DownloadBatchReport, *, tolerance_ratio: float) -> None:
    """Raise CoverageIncompleteError where more of the requested tiles are absent than the operator tolerates.

    Args:
        report: of the download.
        tolerance_ratio: 0 tolerates nothing, 1 everything.
    """
    absent = report.requested - report.present
    if absent <= report.requested * tolerance_ratio:
        return
    counts = [(report.missing, "missing"), (report.placeholder, "placeholder"), (report.failed, "failed")]
    kinds = ", ".join(f"{count} {name}" for count, name in counts if count)
    shown = ", ".join(f"{hole['z']}/{hole['x']}/{hole['y']}" for hole in report.failed_tiles[:5])
    more = ", …" if absent > 5 else ""
    unlisted = absent > len(report.failed_tiles)
    along = describe_stretches(report.route_holes)
    route = f"; the flight passes over {'at least ' if unlisted else ''}{along}" if along else ""
    raise CoverageIncompleteError(
        f"{absent} of {report.requested} tiles are not there ({kinds}): {shown}{more}{route}",
        details={
            "holes": [dict(hole) for hole in report.failed_tiles],
            "route_holes": [dict(hole) for hole in report.route_holes],
            "absent": absent,
            "requested": report.requested,
        },
    )


def failed_tiles(holes: Iterable[Mapping[str, Any]]) -> TileSet:
    """The tiles that a report lists as not there (`failed_tiles`), for another attempt at just these.

    Raises:
        SettingsError: that is no such list, or it is empty.
    """
    try:
        tiles = TileSet.from_tiles([Tile.of(int(hole["z"]), int(hole["x"]), int(hole["y"])) for hole in holes])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SettingsError("this is no list of failed tiles", remediation="Give the report of a build.") from None
    if not len(tiles):
        raise SettingsError("the report lists no failed tiles", remediation="There is nothing to retry.")
    return tiles


def read_failed_tiles(path: str) -> TileSet:
    """The failed tiles of a report's file, of the whole build or of a download alone.

    Raises:
        SettingsError: unreadable, no report, or it lists none.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_REPORT_BYTES + 1)
        if len(content) > MAX_REPORT_BYTES:
            raise ValueError("it is too large")
        report = json.loads(content)
        holes = (report.get("download") or report)["failed_tiles"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise SettingsError(f"{path} is no report with failed tiles: {exc}") from None
    return failed_tiles(holes)
