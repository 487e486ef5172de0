# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`LandingReport`: what became of every tile that the flights recorded; a fold over the run's journal."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ._errors import CacheBuildError, FailurePhase, LandingSpoolError, TileUploadError, TileUploadRejectedError
from ._report import SCHEMA_VERSION, from_plain, to_plain
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

__all__ = [
    "LandingCompanionReport",
    "LandingFetchReport",
    "LandingOutcome",
    "LandingRecordingReport",
    "LandingReport",
    "RecordingState",
    "fold_landing",
]


class LandingOutcome(str, enum.Enum):
    """How the run, or one companion's part of it, ended."""

    SUCCESS = "success"
    NOTHING_TO_DO = "nothing_to_do"
    CHECKED = "checked"
    FAILURE = "failure"


class RecordingState(str, enum.Enum):
    """Where a recording stands at the end of the run."""

    UNFINISHED = "unfinished"
    REFUSED = "refused"
    READY = "ready"
    PARTIAL = "partial"
    UPLOADED = "uploaded"
    ACCEPTED = "accepted"
    COLLECTED = "collected"


@dataclass(frozen=True)
class LandingRecordingReport:
    """One recording; counts are tiles.

    `known` were in the ledger, `found` at the provider though not in the ledger, `sent` travelled in this run. Once
    it was worked through, tiles = known + found + sent + rejected + failed + damaged. `listed` names the first hundred
    tiles that did not arrive, with reasons.
    """

    id: str
    state: RecordingState
    reason: Optional[str] = None
    content_id: Optional[str] = None
    size_bytes: int = 0
    tiles: int = 0
    known: int = 0
    found: int = 0
    sent: int = 0
    rejected: int = 0
    failed: int = 0
    damaged: int = 0
    bytes_sent: int = 0
    listed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LandingFetchReport:
    """What travelled from one companion."""

    bytes_received: int
    bytes_total: int
    elapsed_s: float


@dataclass(frozen=True)
class LandingCompanionReport:
    """One companion's part of the run. `ground` says what proved that the vehicle is landed and disarmed."""

    host: str
    outcome: LandingOutcome
    failure_phase: Optional[str] = None
    failure_exception_type: Optional[str] = None
    failure_message: Optional[str] = None
    remediation: Optional[str] = None
    exit_code: int = 0
    ground: Optional[Mapping[str, Any]] = None
    fetch: Optional[LandingFetchReport] = None
    recordings: Tuple[LandingRecordingReport, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()


@dataclass(frozen=True)
class LandingReport:
    """The whole run."""

    schema_version: int
    run_id: str
    outcome: LandingOutcome
    failure_phase: Optional[str]
    failure_exception_type: Optional[str]
    failure_message: Optional[str]
    remediation: Optional[str]
    exit_code: int
    provider: Optional[str]
    companions: Tuple[LandingCompanionReport, ...]
    timings_s: Mapping[str, float]
    warnings: Tuple[str, ...]
    versions: Mapping[str, str]

    def to_dict(self) -> Dict[str, Any]:
        """Plain JSON values, `schema_version` first."""
        return dict(to_plain(self))


def _recording(row: Mapping[str, Any], facts: Mapping[str, Any]) -> LandingRecordingReport:
    uploaded = facts.get("uploads", {}).get(row["id"])
    state = RecordingState(row["state"])
    if row["id"] in facts.get("collected", ()):
        state = RecordingState.COLLECTED
    elif row["id"] in facts.get("marked", ()):
        state = RecordingState.ACCEPTED
    elif uploaded:
        arrived = uploaded["known"] + uploaded["found"] + uploaded["sent"]
        state = RecordingState.UPLOADED if arrived == uploaded["tiles"] else RecordingState.PARTIAL
    return from_plain(LandingRecordingReport, {**row, **(uploaded or {}), "state": state.value})


def _shortcoming(recordings: Tuple[LandingRecordingReport, ...]) -> Optional[CacheBuildError]:
    """What keeps a companion's part from being a success although every step of it ended well."""
    refused = [item for item in recordings if item.state is RecordingState.REFUSED or item.damaged]
    if refused:
        first = refused[0]
        why = first.reason or f"{first.damaged} of its {first.tiles} tiles are damaged"
        return LandingSpoolError(f"{len(refused)} recordings are not sound; the first is {first.id}: {why}")
    rejected = sum(item.rejected for item in recordings)
    if rejected:
        return TileUploadRejectedError(f"the provider rejected {rejected} tiles")
    left = [item for item in recordings if item.state in (RecordingState.READY, RecordingState.PARTIAL)]
    if left:
        return TileUploadError(f"{len(left)} recordings are not uploaded; the first is {left[0].id}")
    return None


def _companion(host: str, entries: Entries) -> LandingCompanionReport:
    facts, failure = facts_of(entries), failure_of(entries)
    recordings = tuple(_recording(row, facts) for row in facts.get("recordings", ()))
    outcome = facts.get("outcome")
    if failure is None and outcome is None:
        failure = {**UNFINISHED, "phase": last_phase_of(entries)}
    if failure is None and outcome != LandingOutcome.CHECKED.value:
        error = _shortcoming(recordings)
        failure = error.to_dict() if error else None
    warnings = [f"{item.id}: {item.reason}" for item in recordings if item.state is RecordingState.UNFINISHED]
    fetch = facts.get("fetch")
    return LandingCompanionReport(
        host=host,
        outcome=LandingOutcome.FAILURE if failure else LandingOutcome(outcome),
        **failure_fields(failure),
        ground=facts.get("ground"),
        fetch=from_plain(LandingFetchReport, fetch) if fetch else None,
        recordings=recordings,
        timings_s=timings_of(entries),
        warnings=(*warnings_of(entries), *warnings),
    )


def fold_landing(run_id: str, entries: Entries) -> LandingReport:
    """The report of a run, ended or not, from its journal's entries."""
    own: List[Dict[str, Any]] = [entry for entry in entries if entry["host"] is None]
    facts, own_failure = facts_of(own), failure_of(own)
    hosts = list(dict.fromkeys(entry["host"] for entry in entries if entry["host"] is not None))
    if own_failure is None or own_failure["phase"] == FailurePhase.UPLOAD.value:
        hosts += [host for host in facts.get("companions", ()) if host not in hosts]
    rows = tuple(_companion(host, [entry for entry in entries if entry["host"] == host]) for host in hosts)
    failure = verdict(own_failure, rows)
    outcomes = {row.outcome for row in rows}
    outcome = LandingOutcome.SUCCESS
    if failure is not None:
        outcome = LandingOutcome.FAILURE
    elif len(outcomes) == 1:
        outcome = outcomes.pop()
    return LandingReport(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        outcome=outcome,
        **failure_fields(failure),
        provider=facts.get("provider"),
        companions=rows,
        timings_s=timings_of(own),
        warnings=warnings_of(own),
        versions=facts.get("versions", {}),
    )
