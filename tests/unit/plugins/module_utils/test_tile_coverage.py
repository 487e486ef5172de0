# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    CoverageIncompleteError,
    ExitCode,
    SettingsError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import (
    Flight,
    FlightResolveSource,
    RouteKind,
    RoutePart,
    TakeoffOrigin,
    TakeoffRule,
    Waypoint,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._geo import LonLat
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import DownloadBatchReport
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_coverage import (
    check_coverage,
    failed_tiles,
    read_failed_tiles,
    with_route_holes,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, tile_at

ROUTE = (Waypoint(LonLat(lon=10.0, lat=50.0)), Waypoint(LonLat(lon=10.2, lat=50.0)))
FLIGHT = Flight(
    flight_id="f",
    name=None,
    source=FlightResolveSource.FILE,
    format="made",
    waypoints=ROUTE,
    parts=(RoutePart(RouteKind.LINE, ROUTE),),
    takeoff_origin=TakeoffOrigin(50.0, 10.0, None, TakeoffRule.FIRST_WAYPOINT),
)


def report(*holes: Tile, unlisted: int = 0) -> DownloadBatchReport:
    return DownloadBatchReport(
        source_id="s",
        zooms=(16,),
        requested=20,
        downloaded=20 - len(holes) - unlisted,
        reused=0,
        revalidated=0,
        missing=len(holes) + unlisted,
        failed=0,
        placeholder=0,
        bytes=1,
        elapsed_s=1.0,
        failed_tiles=tuple({"z": hole.z, "x": hole.x, "y": hole.y, "reason": "missing"} for hole in holes),
    )


UNDER = tile_at(LonLat(lon=10.1, lat=50.0), 16)
BESIDE = tile_at(LonLat(lon=10.1, lat=50.3), 16)


def test_holes_under_the_route_are_told_in_kilometres() -> None:
    found = with_route_holes(report(UNDER, BESIDE), FLIGHT)
    (stretch,) = found.route_holes
    assert stretch["why"] == "route" and stretch["zooms"] == [16] and 6 < stretch["from_km"] < stretch["to_km"] < 8
    with pytest.raises(
        CoverageIncompleteError, match=r"missing.*; the flight passes over km 6\.9\d to 7\.\d\d"
    ) as caught:
        check_coverage(found, tolerance_ratio=0.05)
    assert caught.value.code is ExitCode.COVERAGE_INCOMPLETE
    assert caught.value.details["route_holes"] == [dict(stretch)]
    check_coverage(found, tolerance_ratio=0.1)


def test_holes_beside_the_route_are_tiles_alone() -> None:
    found = with_route_holes(report(BESIDE), FLIGHT)
    assert found.route_holes == ()
    with pytest.raises(CoverageIncompleteError, match=r"16/\d+/\d+$"):
        check_coverage(found, tolerance_ratio=0.0)


def test_holes_that_are_not_listed_are_not_passed_over_in_silence() -> None:
    found = with_route_holes(report(UNDER, unlisted=5), FLIGHT)
    with pytest.raises(CoverageIncompleteError, match="6 of 20 .*passes over at least km"):
        check_coverage(found, tolerance_ratio=0.0)


@pytest.mark.parametrize("whole", [True, False])
def test_the_failed_tiles_of_a_report_file(tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "report.json"
    listed = {"failed_tiles": [dict(hole) for hole in report(UNDER, BESIDE).failed_tiles]}
    path.write_text(json.dumps({"download": listed} if whole else listed))
    assert set(read_failed_tiles(str(path))) == {UNDER, BESIDE}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no report with failed tiles"),
        ("[]", "is no report with failed tiles"),
        ('{"download": 5}', "is no report with failed tiles"),
        ("[" * 100_000, "is no report with failed tiles"),
        ('{"failed_tiles": 5}', "this is no list of failed tiles"),
        ('{"failed_tiles": [{"z": 5, "x": 99, "y": 0}]}', "this is no list of failed tiles"),
        ('{"failed_tiles": [5]}', "this is no list of failed tiles"),
        ('{"failed_tiles": []}', "lists no failed tiles"),
    ],
)
def test_what_is_no_report_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=words):
        read_failed_tiles(str(path))


def test_a_report_that_lists_nothing_has_nothing_to_retry() -> None:
    holes: list[Any] = list(replace(report(), failed_tiles=()).failed_tiles)
    with pytest.raises(SettingsError, match="lists no failed tiles"):
        failed_tiles(holes)
