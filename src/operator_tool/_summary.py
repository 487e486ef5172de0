# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The end of a run in a few lines for people."""

from __future__ import annotations

from ansible_collections.gps_denied.preflight.plugins.module_utils._report import (
    CacheBuildOutcome,
    CacheBuildReport,
    CompanionReport,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download_holes import describe_stretches

HEADLINES = {
    CacheBuildOutcome.SUCCESS: "success: the cache is built, verified and active",
    CacheBuildOutcome.IDEMPOTENT_NO_OP: "idempotent_no_op: the active cache is the one wanted; nothing was done",
    CacheBuildOutcome.CHECKED: "checked: a dry run; nothing was changed",
}


def human_summary(report: CacheBuildReport, report_path: str | None, page_path: str | None = None) -> str:
    """Outcome, flight, tiles, coverage, generation, and where the report is."""
    lines = [HEADLINES.get(report.outcome) or _failure(report)]
    flight, download = report.flight, report.download
    if flight:
        area = f", {flight.area.kind} of {flight.area.area_km2:.3f} km²" if flight.area else ""
        lines.append(f"  flight      {flight.flight_id} ({flight.format}, {flight.waypoint_count} waypoints{area})")
    if download:
        zooms = ", ".join(f"z{zoom}" for zoom in download.zooms)
        lines.append(
            f"  tiles       {download.present} of {download.requested} ({zooms}); {download.downloaded} downloaded,"
            f" {download.reused} from the store"
        )
        along = describe_stretches(download.route_holes)
        lines += [f"  holes       {along}"] if along else []
        lines.append(f"  coverage    {download.coverage_ratio:.1%} of the tiles{_built_coverage(report)}")
    lines += [_companion(row) for row in report.companions]
    lines += [f"  warning     {text}" for text in report.warnings]
    if report_path:
        lines.append(f"  report      {report_path}")
    if page_path:
        lines.append(f"  page        {page_path}")
    return "\n".join(lines)


def _failure(report: CacheBuildReport) -> str:
    where = f" in phase {report.failure_phase}" if report.failure_phase else ""
    message = str(report.failure_message).rstrip(".")
    kind = f"exit code {report.exit_code}, {report.failure_exception_type}"
    return f"failure{where} ({kind}): {message}. {report.remediation}"


def _built_coverage(report: CacheBuildReport) -> str:
    for row in report.companions:
        if row.build and row.build.coverage and row.build.coverage.get("covered_ratio") is not None:
            return f", {row.build.coverage['covered_ratio']:.1%} of the area"
    return ""


def _companion(row: CompanionReport) -> str:
    if row.outcome is CacheBuildOutcome.FAILURE:
        message = str(row.failure_message).rstrip(".")
        return f"  {row.host:<11} failure in {row.failure_phase}: {message}. {row.remediation}"
    if row.outcome is CacheBuildOutcome.CHECKED:
        return f"  {row.host:<11} ready; a cache would be built and activated"
    generation = f"generation {row.cache.generation}" if row.cache else "no generation"
    return f"  {row.host:<11} {row.outcome.value}, {generation}"
