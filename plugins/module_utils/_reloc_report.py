# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`HintReport`: what became of a position hint on each companion; a fold over the run's journal."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ._report import SCHEMA_VERSION, to_plain
from ._report_fold import (
    UNFINISHED,
    Entries,
    facts_of,
    failure_fields,
    failure_of,
    last_phase_of,
    timings_of,
    verdict,
    warnings_of,
)

__all__ = ["HintCompanionReport", "HintOutcome", "HintReport", "fold_hint"]


class HintOutcome(str, enum.Enum):
    """How the hint ended, on all companions or on one."""

    ACKNOWLEDGED = "acknowledged"
    CHECKED = "checked"
    FAILURE = "failure"


@dataclass(frozen=True)
class HintCompanionReport:
    """One companion's answer.

    `written` says whether the hint lies on the companion, `windows` how many windows of its index lie within the hint,
    None where the flight software did not say. `signed` says whether the hint carried a signature.
    """

    host: str
    outcome: HintOutcome
    failure_phase: Optional[str] = None
    failure_exception_type: Optional[str] = None
    failure_message: Optional[str] = None
    remediation: Optional[str] = None
    exit_code: int = 0
    sequence: Optional[int] = None
    signed: Optional[bool] = None
    written: bool = False
    windows: Optional[int] = None
    content_id: Optional[str] = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()


@dataclass(frozen=True)
class HintReport:
    """The whole run. `hint` is {lat_deg, lon_deg, radius_m}, None where it was not even a position."""

    schema_version: int
    run_id: str
    outcome: HintOutcome
    failure_phase: Optional[str]
    failure_exception_type: Optional[str]
    failure_message: Optional[str]
    remediation: Optional[str]
    exit_code: int
    hint: Optional[Mapping[str, float]]
    companions: Tuple[HintCompanionReport, ...]
    timings_s: Mapping[str, float]
    warnings: Tuple[str, ...]
    versions: Mapping[str, str]

    def to_dict(self) -> Dict[str, Any]:
        """Plain JSON values, `schema_version` first."""
        return dict(to_plain(self))


def _companion(host: str, entries: Entries) -> HintCompanionReport:
    facts, failure = facts_of(entries), failure_of(entries)
    if failure is None and facts.get("outcome") is None:
        failure = {**UNFINISHED, "phase": last_phase_of(entries)}
    return HintCompanionReport(
        host=host,
        outcome=HintOutcome.FAILURE if failure else HintOutcome(facts["outcome"]),
        **failure_fields(failure),
        sequence=facts.get("sequence"),
        signed=facts.get("signed"),
        written=bool(facts.get("written")),
        windows=facts.get("windows"),
        content_id=facts.get("content_id"),
        timings_s=timings_of(entries),
        warnings=warnings_of(entries),
    )


def fold_hint(run_id: str, entries: Entries) -> HintReport:
    """The report of a run, ended or not, from its journal's entries."""
    own: List[Dict[str, Any]] = [entry for entry in entries if entry["host"] is None]
    facts, own_failure = facts_of(own), failure_of(own)
    hosts = list(dict.fromkeys(entry["host"] for entry in entries if entry["host"] is not None))
    if own_failure is None:
        hosts += [host for host in facts.get("companions", ()) if host not in hosts]
    rows = tuple(_companion(host, [entry for entry in entries if entry["host"] == host]) for host in hosts)
    failure = verdict(own_failure, rows)
    checked = bool(rows) and all(row.outcome is HintOutcome.CHECKED for row in rows)
    outcome = HintOutcome.CHECKED if checked else HintOutcome.ACKNOWLEDGED
    hints = [entry["data"]["hint"] for entry in entries if entry["kind"] == "fact" and "hint" in entry["data"]]
    return HintReport(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        outcome=HintOutcome.FAILURE if failure else outcome,
        **failure_fields(failure),
        hint=hints[0] if hints else None,
        companions=rows,
        timings_s=timings_of(own),
        warnings=warnings_of(own),
        versions=facts.get("versions", {}),
    )
