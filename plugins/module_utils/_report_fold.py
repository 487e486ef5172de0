# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as a fold over the run's journal."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple

from ._errors import ExitCode, FleetPartialError
from ._report import (
    SCHEMA_VERSION,
    CacheBuildOutcome,
    CacheBuildReport,
    CacheReport,
    CompanionReport,
    DownloadBatchReport,
    FlightResolveReport,
    RemoteBuildReport,
    SyncReport,
    from_plain,
)

__all__ = [
    "UNFINISHED",
    "Entries",
    "facts_of",
    "failure_fields",
    "failure_of",
    "fold_journal",
    "last_phase_of",
    "timings_of",
    "verdict",
    "warnings_of",
]

UNFINISHED: Mapping[str, Any] = {
    "type": "BuildCancelledError",
    "code": int(ExitCode.CANCELLED),
    "phase": None,
    "message": "the run ended before its work was done",
    "remediation": "Run again: the work continues where it was.",
}

Entries = List[Dict[str, Any]]


def facts_of(entries: Entries) -> Dict[str, Any]:
    """Everything that was recorded as a fact; the last word counts."""
    found: Dict[str, Any] = {}
    for entry in entries:
        if entry["kind"] == "fact":
            found.update(entry["data"])
    return found


def timings_of(entries: Entries) -> Dict[str, float]:
    """Seconds by phase."""
    total: Dict[str, float] = {}
    for entry in entries:
        if entry["phase"] and "elapsed_s" in entry["data"]:
            total[entry["phase"]] = round(total.get(entry["phase"], 0.0) + float(entry["data"]["elapsed_s"]), 3)
    return total


def warnings_of(entries: Entries) -> Tuple[str, ...]:
    """Each warning once."""
    texts = [str(entry["data"]["text"]) for entry in entries if entry["kind"] == "warning"]
    return tuple(dict.fromkeys(texts))


def failure_of(entries: Entries) -> Optional[Mapping[str, Any]]:
    """The first failure as error data; a bug counts as one, with exit code 1."""
    for entry in entries:
        if entry["kind"] == "fail":
            return {**entry["data"]["error"], "phase": entry["phase"]}
        if entry["kind"] == "bug":
            return {
                "type": entry["data"]["type"],
                "code": int(ExitCode.UNEXPECTED),
                "phase": entry["phase"],
                "message": entry["data"]["message"],
                "remediation": "This is a defect of the tool: report it with the run's folder.",
            }
    return None


def failure_fields(failure: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """A failure as the fields that every report and every row has."""
    return {
        "failure_phase": failure["phase"] if failure else None,
        "failure_exception_type": failure["type"] if failure else None,
        "failure_message": failure["message"] if failure else None,
        "remediation": failure["remediation"] if failure else None,
        "exit_code": int(failure["code"]) if failure else 0,
    }


def last_phase_of(entries: Entries) -> Optional[str]:
    """The phase that was reached."""
    phases = [entry["phase"] for entry in entries if entry["phase"]]
    return phases[-1] if phases else None


def _as(cls: Any, data: Any) -> Any:
    return None if data is None else from_plain(cls, data)


def _companion(host: str, entries: Entries) -> CompanionReport:
    facts, failure = facts_of(entries), failure_of(entries)
    outcome = facts.get("outcome")
    if failure is None and outcome is None:
        failure = {**UNFINISHED, "phase": last_phase_of(entries)}
    return CompanionReport(
        host=host,
        outcome=CacheBuildOutcome.FAILURE if failure else CacheBuildOutcome(outcome),
        **failure_fields(failure),
        sync=_as(SyncReport, facts.get("sync")),
        build=_as(RemoteBuildReport, facts.get("build")),
        cache=_as(CacheReport, facts.get("cache")),
        timings_s=timings_of(entries),
        warnings=warnings_of(entries),
    )


class Row(Protocol):
    """What every report says of a companion."""

    @property
    def host(self) -> str: ...
    @property
    def exit_code(self) -> int: ...
    @property
    def failure_phase(self) -> Optional[str]: ...
    @property
    def failure_exception_type(self) -> Optional[str]: ...
    @property
    def failure_message(self) -> Optional[str]: ...
    @property
    def remediation(self) -> Optional[str]: ...


def verdict(own: Optional[Mapping[str, Any]], rows: Sequence[Row]) -> Optional[Mapping[str, Any]]:
    """The failure of the whole run: the workstation's own, else the companions' (exit code 40 where some succeeded)."""
    failed = [row for row in rows if row.exit_code]
    if own is not None:
        return own
    if not failed:
        return None
    first = failed[0]
    if len(failed) < len(rows):
        names = ", ".join(row.host for row in failed)
        error = FleetPartialError(f"{len(failed)} of {len(rows)} companions failed: {names}: {first.failure_message}")
        return {**error.to_dict(), "phase": first.failure_phase}
    return {
        "type": first.failure_exception_type,
        "code": first.exit_code,
        "phase": first.failure_phase,
        "message": first.failure_message,
        "remediation": first.remediation,
    }


def fold_journal(run_id: str, entries: Entries) -> CacheBuildReport:
    """The report of a run, ended or not, from its journal's entries."""
    own = [entry for entry in entries if entry["host"] is None]
    facts = facts_of(own)
    hosts = list(dict.fromkeys(entry["host"] for entry in entries if entry["host"] is not None))
    own_failure = failure_of(own)
    if own_failure is None:
        hosts += [host for host in facts.get("companions", ()) if host not in hosts and facts.get("ready")]
        if not facts.get("ready"):
            own_failure = {**UNFINISHED, "phase": last_phase_of(own)}
    rows = tuple(_companion(host, [entry for entry in entries if entry["host"] == host]) for host in hosts)
    failure = verdict(own_failure, rows)
    outcome = CacheBuildOutcome.SUCCESS
    if failure is not None:
        outcome = CacheBuildOutcome.FAILURE
    elif any(row.outcome is CacheBuildOutcome.CHECKED for row in rows):
        outcome = CacheBuildOutcome.CHECKED
    elif rows and all(row.outcome is CacheBuildOutcome.IDEMPOTENT_NO_OP for row in rows):
        outcome = CacheBuildOutcome.IDEMPOTENT_NO_OP
    return CacheBuildReport(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        outcome=outcome,
        **failure_fields(failure),
        flight=_as(FlightResolveReport, facts.get("flight")),
        download=_as(DownloadBatchReport, facts.get("download")),
        companions=rows,
        timings_s=timings_of(own),
        warnings=warnings_of(own),
        versions=facts.get("versions", {}),
    )
