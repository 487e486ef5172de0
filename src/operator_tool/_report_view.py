# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""All that a page or a picture of a run shows: its report, and of its folder the route, the area and the map."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError, SettingsError
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import Flight
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import (
    CacheBuildOutcome,
    CacheBuildReport,
    report_from_dict,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._run import RUN_ID_PATTERN, Run, open_run
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_plan import plan_tiles

__all__ = ["MapView", "ReportView", "Verdict", "verdict_of", "view_of_report", "view_of_run"]

MAX_REPORT_BYTES = 64 * 1024 * 1024
ZONE_LEVELS = ("poor", "fair", "good")
ACTIVE = (CacheBuildOutcome.SUCCESS, CacheBuildOutcome.IDEMPOTENT_NO_OP)


@dataclass(frozen=True)
class Verdict:
    """What the report means for the flight: `go`, `look` (a person must decide) or `no-go`, and why."""

    level: str
    headline: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class MapView:
    """What a map shows."""

    flight: Flight | None = None
    area: dict[str, Any] | None = None
    zones: dict[str, Any] | None = None
    attribution: str = ""
    holes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReportView(MapView):
    """A run to look at. Without its folder (`folder_gone`) there is the report alone."""

    report: CacheBuildReport
    archive_path: str | None = None
    folder_gone: bool = False


def verdict_of(report: CacheBuildReport) -> Verdict:
    """GO only where every companion has the cache and the map has no hole on the route."""
    if report.outcome is CacheBuildOutcome.CHECKED:
        return Verdict("no-go", "NO-GO: this was a dry run", ("Nothing was built: run it without --check.",))
    if report.outcome not in ACTIVE:
        reason = f"{report.failure_message or report.outcome.value} {report.remediation or ''}".strip()
        rows = [f"{row.host}: {row.failure_message}" for row in report.companions if row.outcome not in ACTIVE]
        return Verdict("no-go", "NO-GO: the cache is not ready", (reason, *rows))
    reasons: list[str] = []
    download = report.download
    if download and download.route_holes:
        reasons.append("the map has holes on the route")
    elif download and download.present < download.requested:
        reasons.append(f"{download.requested - download.present} tiles beside the route are missing")
    for row in report.companions:
        coverage = (row.build.coverage if row.build else None) or {}
        if coverage.get("takeoff_covered") is False:
            reasons.append(f"{row.host}: the take-off point has no imagery")
    reasons += report.warnings
    reasons += [f"{row.host}: {text}" for row in report.companions for text in row.warnings]
    if reasons:
        return Verdict("look", "LOOK: the cache is active; read the remarks before flying", tuple(reasons))
    return Verdict("go", "GO: the cache is verified and active on every companion", ())


def view_of_report(path: str, config: PreflightConfig) -> ReportView:
    """A run by its report file; its folder is looked for under the staging root.

    Raises:
        SettingsError: the file cannot be read or is no report.
        CacheBuildError: it is a report of another schema.
    """
    try:
        if os.path.getsize(path) > MAX_REPORT_BYTES:
            raise SettingsError(f"{path} is too large for a report")
        report = report_from_dict(json.loads(Path(path).read_bytes()))
    except OSError as exc:
        raise SettingsError(f"cannot read the report {path}: {exc.strerror}") from None
    except (ValueError, RecursionError) as exc:
        raise SettingsError(
            f"{path} is no report: {str(exc)[:200]}", remediation="Give the report of a build, or the id of a run."
        ) from None
    run_dir = os.path.join(os.path.abspath(config.cache_staging_root), "runs", report.run_id)
    if not re.fullmatch(RUN_ID_PATTERN, report.run_id) or not os.path.isdir(run_dir):
        return ReportView(report=report, folder_gone=True)
    return _view(open_run(run_dir), report)


def view_of_run(run_id: str, config: PreflightConfig) -> ReportView:
    """A run that this workstation began, by its id; `last` is the newest.

    Raises:
        SettingsError: there is no such run here.
    """
    runs = os.path.join(os.path.abspath(config.cache_staging_root), "runs")
    try:
        known = sorted(name for name in os.listdir(runs) if re.fullmatch(RUN_ID_PATTERN, name))
    except OSError:
        known = []
    if run_id == "last" and known:
        run_id = known[-1]
    if run_id not in known:
        raise SettingsError(
            f"there is no run {run_id!r} in {runs}",
            remediation=f"The newest are: {', '.join(known[-5:]) or 'none'}; `last` is the newest of all.",
        )
    run = open_run(os.path.join(runs, run_id))
    return _view(run, run.fold())


def _view(run: Run, report: CacheBuildReport) -> ReportView:
    flight: Flight | None = None
    area: dict[str, Any] | None = None
    try:
        flight = run.load_flight()
        area = plan_tiles(flight, run.config)[0].to_geojson()
    except (OSError, ValueError, CacheBuildError):
        pass  # the run ended before it had a flight, or its flight gives no area: the report says so
    archive = run.archive_path if os.path.exists(run.archive_path) else None
    return ReportView(
        report=report,
        flight=flight,
        area=area,
        zones=_zones(run, report),
        attribution=_attribution(archive),
        holes=report.download.failed_tiles if report.download else (),
        archive_path=archive,
    )


def _zones(run: Run, report: CacheBuildReport) -> dict[str, Any] | None:
    """The zones of the first companion that has some; a companion wrote them, so only what is known gets through."""
    for row in report.companions:
        try:
            features = json.loads(Path(run.path(f"zones-{row.host}.geojson")).read_bytes())["features"]
            kept = [_zone(feature) for feature in features]
        except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
            continue
        if kept:
            return {"type": "FeatureCollection", "features": kept}
    return None


def _zone(feature: Any) -> dict[str, Any]:
    ring = [[float(lon), float(lat)] for lon, lat in feature["geometry"]["coordinates"][0]]
    level = feature["properties"]["level"]
    if level not in ZONE_LEVELS or not all(abs(lon) <= 180 and abs(lat) <= 90 for lon, lat in ring):
        raise ValueError("no zone")
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "properties": {"level": level}, "geometry": geometry}


def _attribution(archive: str | None) -> str:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._pmtiles import PmtilesReader

    if archive is None:
        return ""
    try:
        with PmtilesReader(archive) as reader:
            return str(reader.metadata().get("attribution") or "")
    except (OSError, ValueError, CacheBuildError):
        return ""
