# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reports of landings and hints: folds over a journal, whatever it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    CompanionUnreachableError,
    FailurePhase,
    TileUploadError,
    VehicleNotLandedError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._journal import Journal, read_journal
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_report import (
    LandingReport,
    RecordingState,
    fold_landing,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._reloc_report import HintReport, fold_hint
from pydantic import TypeAdapter

READY = {"id": "flight-1", "state": "ready", "reason": None, "content_id": "f" * 64, "tiles": 3, "size_bytes": 9}
UPLOADED = {
    "tiles": 3,
    "damaged": 0,
    "known": 1,
    "found": 1,
    "sent": 1,
    "rejected": 0,
    "failed": 0,
    "bytes_sent": 5,
    "listed": {},
}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(str(tmp_path))
    made.record("fact", companions=["a"], versions={})
    return made


def landing(tmp_path: Path) -> LandingReport:
    report = fold_landing("run-1", read_journal(str(tmp_path)))
    again = TypeAdapter(LandingReport).validate_json(json.dumps(report.to_dict()))
    assert again.exit_code == report.exit_code
    return report


def state(report: LandingReport) -> RecordingState:
    return report.companions[0].recordings[0].state


def test_a_run_that_ended_at_once_was_cancelled(journal: Journal, tmp_path: Path) -> None:
    report = landing(tmp_path)
    assert (report.exit_code, report.failure_exception_type) == (130, "BuildCancelledError")


@pytest.mark.parametrize(
    ("facts", "expected", "code"),
    [
        ({"uploads": {"flight-1": UPLOADED}, "marked": ["flight-1"], "collected": ["flight-1"]}, "collected", 0),
        ({"uploads": {"flight-1": UPLOADED}, "marked": ["flight-1"]}, "accepted", 0),
        ({"uploads": {"flight-1": UPLOADED}}, "uploaded", 0),
        ({"uploads": {"flight-1": {**UPLOADED, "sent": 0, "rejected": 1}}}, "partial", 62),
        ({"uploads": {"flight-1": {**UPLOADED, "sent": 0, "failed": 1}}}, "partial", 62),
        ({"uploads": {"flight-1": {**UPLOADED, "sent": 0, "damaged": 1}}}, "partial", 61),
        ({}, "ready", 62),
    ],
)
def test_where_a_recording_stands(
    journal: Journal, tmp_path: Path, facts: dict[str, Any], expected: str, code: int
) -> None:
    journal.record("fact", host="a", recordings=[READY], outcome="success", **facts)
    report = landing(tmp_path)
    assert (state(report).value, report.exit_code) == (expected, code)


def test_one_that_is_unfinished_is_a_warning_and_one_refused_a_failure(journal: Journal, tmp_path: Path) -> None:
    rows = [{**READY, "state": "unfinished", "reason": "it has no MANIFEST yet"}]
    journal.record("fact", host="a", recordings=rows, outcome="nothing_to_do")
    report = landing(tmp_path)
    assert (report.outcome.value, report.companions[0].warnings) == (
        "nothing_to_do",
        ("flight-1: it has no MANIFEST yet",),
    )
    journal.record("fact", host="a", recordings=[{**READY, "state": "refused", "reason": "file-symlink: a link"}])
    report = landing(tmp_path)
    assert (report.exit_code, report.failure_exception_type) == (61, "LandingSpoolError")
    assert "file-symlink" in str(report.failure_message)


def test_the_workstations_failure_is_the_runs_and_the_rows_keep_their_own(journal: Journal, tmp_path: Path) -> None:
    journal.record("fact", host="a", recordings=[READY], outcome="success", uploads={"flight-1": UPLOADED})
    down = TileUploadError("it does not answer").to_dict()
    journal.record("fail", phase=FailurePhase.UPLOAD, error=down)
    report = landing(tmp_path)
    assert (report.exit_code, report.failure_phase, report.companions[0].exit_code) == (62, "upload", 0)


def test_a_vehicle_that_is_not_landed(journal: Journal, tmp_path: Path) -> None:
    journal.record("fail", phase=FailurePhase.GROUND_CHECK, host="a", error=VehicleNotLandedError("armed").to_dict())
    assert landing(tmp_path).exit_code == 60


def test_hints_of_a_fleet(journal: Journal, tmp_path: Path) -> None:
    journal.record("fact", host="a", hint={"lat_deg": 1.0, "lon_deg": 2.0, "radius_m": 3.0})
    journal.record("fact", host="a", sequence=4, signed=True, written=True, windows=7, outcome="acknowledged")
    report = fold_hint("run-1", read_journal(str(tmp_path)))
    assert (report.exit_code, report.outcome.value, report.companions[0].windows) == (0, "acknowledged", 7)
    journal.record("fail", phase=FailurePhase.HINT, host="b", error=CompanionUnreachableError("gone").to_dict())
    report = fold_hint("run-1", read_journal(str(tmp_path)))
    assert (report.exit_code, report.hint) == (40, {"lat_deg": 1.0, "lon_deg": 2.0, "radius_m": 3.0})
    TypeAdapter(HintReport).validate_json(json.dumps(report.to_dict()))
