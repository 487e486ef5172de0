# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    CacheBuildError,
    CompanionUnreachableError,
    DownloadError,
    FailurePhase,
    FlightNotFoundError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._journal import Journal, read_journal
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import (
    CacheBuildOutcome,
    CacheBuildReport,
    report_from_dict,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._report_fold import fold_journal

CACHE = {"content_id": "c" * 64, "generation": "000001-cccccccccccc", "activated": True}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path))


def fold(tmp_path: Path) -> CacheBuildReport:
    report = fold_journal("20260101T000000Z-abcdef", read_journal(str(tmp_path)))
    assert report_from_dict(json.loads(json.dumps(report.to_dict()))) == report
    return report


def succeed(journal: Journal, *hosts: str, outcome: str = "success") -> None:
    journal.record("fact", companions=list(hosts), ready=True, versions={"preflight": "1"})
    for host in hosts:
        journal.record("fact", host=host, outcome=outcome, cache=CACHE)


def fail(journal: Journal, error: CacheBuildError, *, host: str | None = None) -> None:
    with pytest.raises(CacheBuildError), journal.phase(error.phase, host=host):
        raise error


def test_success(tmp_path: Path, journal: Journal) -> None:
    succeed(journal, "a", "b")
    report = fold(tmp_path)
    assert (report.outcome, report.exit_code, report.failure_phase) == (CacheBuildOutcome.SUCCESS, 0, None)
    assert [row.host for row in report.companions] == ["a", "b"]


def test_a_dry_run_is_told_from_a_build_and_from_nothing_to_do(tmp_path: Path, journal: Journal) -> None:
    succeed(journal, "a", outcome="idempotent_no_op")
    succeed(journal, "b", outcome="checked")
    assert (fold(tmp_path).outcome, fold(tmp_path).exit_code) == (CacheBuildOutcome.CHECKED, 0)
    fail(journal, CompanionUnreachableError("off"), host="b")
    assert fold(tmp_path).outcome is CacheBuildOutcome.FAILURE


def test_no_op_only_where_every_companion_needed_nothing(tmp_path: Path, journal: Journal) -> None:
    succeed(journal, "a", "b", outcome="idempotent_no_op")
    assert fold(tmp_path).outcome is CacheBuildOutcome.IDEMPOTENT_NO_OP
    journal.record("fact", host="b", outcome="success")
    assert fold(tmp_path).outcome is CacheBuildOutcome.SUCCESS


def test_a_failure_of_the_workstation_is_the_runs_failure(tmp_path: Path, journal: Journal) -> None:
    journal.record("fact", companions=["a"])
    fail(journal, FlightNotFoundError("no flight x"))
    report = fold(tmp_path)
    assert report.exit_code == 90
    assert report.failure_phase == "flight_resolve"
    assert report.failure_exception_type == "FlightNotFoundError"
    assert report.failure_message == "no flight x"
    assert report.companions == ()


def test_one_of_two_companions_failed(tmp_path: Path, journal: Journal) -> None:
    succeed(journal, "a", "b")
    fail(journal, CompanionUnreachableError("cannot reach b"), host="b")
    report = fold(tmp_path)
    assert (report.exit_code, report.failure_exception_type) == (40, "FleetPartialError")
    assert [row.outcome.value for row in report.companions] == ["success", "failure"]
    assert report.companions[1].exit_code == 30


def test_all_companions_failed_alike(tmp_path: Path, journal: Journal) -> None:
    succeed(journal, "b")
    fail(journal, CompanionUnreachableError("cannot reach b"), host="b")
    assert (fold(tmp_path).exit_code, fold(tmp_path).failure_phase) == (30, "companion_bringup")


def test_a_companion_without_a_last_word_is_no_success(tmp_path: Path, journal: Journal) -> None:
    succeed(journal, "a")
    journal.record("fact", companions=["a", "silent"])
    report = fold(tmp_path)
    assert report.exit_code == 40
    assert report.companions[1].failure_exception_type == "BuildCancelledError"


def test_a_run_that_was_killed_while_downloading(tmp_path: Path, journal: Journal) -> None:
    journal.record("start", phase=FailurePhase.DOWNLOAD)
    report = fold(tmp_path)
    assert (report.exit_code, report.failure_phase) == (130, "download")


def test_a_bug_has_exit_code_1_and_its_class(tmp_path: Path, journal: Journal) -> None:
    with pytest.raises(KeyError), journal.phase(FailurePhase.AREA):
        raise KeyError("zoom")
    report = fold(tmp_path)
    assert (report.exit_code, report.failure_exception_type) == (1, "KeyError")


def test_timings_add_up_and_warnings_are_said_once(tmp_path: Path, journal: Journal) -> None:
    for _round in range(2):
        journal.record("end", phase=FailurePhase.AREA, elapsed_s=1.5)
        journal.record("warning", text="old imagery")
    succeed(journal, "a")
    assert fold(tmp_path).timings_s == {"area": 3.0}
    assert fold(tmp_path).warnings == ("old imagery",)


def test_every_cut_of_the_journal_folds_to_a_report_and_never_to_a_false_success(
    tmp_path: Path, journal: Journal
) -> None:
    journal.record("fact", companions=["a", "b"], versions={})
    journal.record("fact", ready=True)
    journal.record("fact", host="a", outcome="success", cache=CACHE)
    fail(journal, DownloadError("gone"), host="b")
    path = tmp_path / "journal.ndjson"
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        assert fold(tmp_path).outcome is CacheBuildOutcome.FAILURE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"exit_code": "0"}, "exit_code is not of type int"),
        ({"companions": {}}, "companions is not a list"),
        ({"outcome": "fine"}, "'fine' is not a valid"),
        ({"flight": 3}, "flight is not an object"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, journal: Journal, change: dict[str, Any], words: str) -> None:
    succeed(journal, "a")
    data = {**fold(tmp_path).to_dict(), **change}
    with pytest.raises(CacheBuildError, match=words):
        report_from_dict(data)


def test_every_key_is_always_present() -> None:
    keys = list(fold_journal("r", []).to_dict())
    assert keys[0] == "schema_version"
    assert set(keys) == {
        "schema_version",
        "run_id",
        "outcome",
        "failure_phase",
        "failure_exception_type",
        "failure_message",
        "remediation",
        "exit_code",
        "flight",
        "download",
        "companions",
        "timings_s",
        "warnings",
        "versions",
    }
