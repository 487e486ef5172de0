# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`build_cache`: the main job as one call."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._atomic_file import write_atomically
from ansible_collections.gps_denied.preflight.plugins.module_utils._config import (
    SECRET_NAMES,
    PreflightConfig,
    load_config,
    read_secret,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    BuildCancelledError,
    BuildLockHeldError,
    CacheBuildError,
    ExitCode,
    SettingsError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import CacheBuildReport, report_from_dict
from ansible_collections.gps_denied.preflight.plugins.module_utils._report_fold import fold_journal
from ansible_collections.gps_denied.preflight.plugins.module_utils._run import Run, new_run_id, open_run, write_report

from ._inventory import Companion, InventoryPart, inventory_for

if TYPE_CHECKING:
    from ._runner import PlaybookResult


@dataclass(frozen=True)
class FlightById:
    """A flight of the flights API, or of the folder of flights."""

    flight_id: str


@dataclass(frozen=True)
class FlightFromFile:
    """A mission file."""

    path: str


FlightSource = FlightById | FlightFromFile


@dataclass(frozen=True)
class BuildCacheRequest:
    """What to build, for whom, and with which settings.

    `settings` overrides single fields of `PreflightConfig`; `secrets` holds literal secrets by their name in
    `SECRET_NAMES`, for callers that have them in memory. Without `companion` it is for all companions of the inventory.
    """

    flight: FlightSource
    settings: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    config_file: str | None = None
    companion: Companion | InventoryPart | None = None
    check: bool = False
    verbosity: int = 0


class UnexpectedRunError(RuntimeError):
    """Something outside the error tree ended the run: a defect of the tool. `report` holds what is known, or None."""

    def __init__(self, message: str, report: CacheBuildReport | None = None) -> None:
        super().__init__(message)
        self.report = report


CANCELLING = {
    "v": 1,
    "t": "warning",
    "text": "cancelling: ending the work on the companions and freeing the locks; what has arrived is kept",
}

ProgressHandler = Callable[[dict[str, Any]], None]


def build_cache(
    request: BuildCacheRequest,
    *,
    on_progress: ProgressHandler | None = None,
    on_text: Callable[[str], None] | None = None,
) -> CacheBuildReport:
    """Resolve, download, ship, build, verify, activate.

    Args:
        on_progress: called with each progress record, from another thread.
        on_text: called with Ansible's own output.

    Returns:
        The report, for every recognised way to end, failures included.

    Raises:
        BuildLockHeldError: another run holds the lock; no phase ran.
        UnexpectedRunError: a defect; the lock is free.
    """
    from ._after_kill import END_S, end_playbooks, leave_word, release_companions
    from ._progress_socket import progress_socket
    from ._runner import private_folder, run_playbook
    from ._staging import check_report_place, staging_root

    run_id = new_run_id()
    try:
        config = load_config(request.settings, config_file=request.config_file)
        staging_root(config)
        check_report_place(config)
        with private_folder() as folder, progress_socket(folder, on_progress) as socket_path:
            variables = _variables(request, config, folder)
            variables.update(run_id=run_id, progress_socket=str(socket_path))
            inventory = inventory_for(request.companion, config, folder)
            run_dir = os.path.join(os.path.abspath(config.cache_staging_root), "runs", run_id)
            if not request.check:
                leave_word(folder, run_dir=run_dir, inventory=inventory, variables=variables)
            result = run_playbook(
                "build_cache",
                private_dir=folder,
                inventory=inventory,
                variables=variables,
                check=request.check,
                verbosity=request.verbosity,
                on_text=on_text,
                on_cancel=lambda: on_progress(dict(CANCELLING, run=run_id)) if on_progress else None,
            )
            if not result.finished and os.path.isdir(run_dir):
                # The playbook was stopped in mid-work: its companions still hold the run's lock and folders. A worker
                # that outlives it by a moment may just be activating: what it did counts when it is tidied up.
                end_playbooks(folder, within_s=END_S)
                release_companions(folder, inventory=inventory, variables=variables)
    except SettingsError as exc:
        return _report_of(exc, run_id, request)
    if not os.path.isdir(run_dir):
        words = "; ".join(result.failures) or "\n".join(result.tail) or "no word from Ansible"
        if result.cancelled:
            return _report_of(BuildCancelledError("cancelled before the run began"), run_id, request)
        if result.killed:
            return _report_of(BuildCancelledError("ansible-playbook was killed before the run began"), run_id, request)
        raise UnexpectedRunError(f"the run did not begin: {words}")
    return _conclude(open_run(run_dir), result)


def report_path(request: BuildCacheRequest, report: CacheBuildReport) -> str | None:
    """Where the report of a run with this request is; None where the settings are too broken to tell."""
    places = {name: value for name, value in request.settings.items() if name in ("report", "cache_staging_root")}
    try:
        config = load_config(places, config_file=request.config_file)
    except SettingsError:
        return None
    return config.report or os.path.join(config.cache_staging_root, "reports", f"{report.run_id}.json")


def _conclude(run: Run, result: PlaybookResult) -> CacheBuildReport:
    if result.cancelled:
        run.journal.record("fail", error=BuildCancelledError("cancelled by the operator").to_dict())
    if result.broken:
        run.journal.record("warning", text=result.broken)
    try:
        report = (
            report_from_dict(json.loads(Path(run.report_path).read_bytes()))
            if result.finished and not result.cancelled
            else None
        )
    except (OSError, ValueError):
        report = None
    if report is None or report.run_id != run.run_id:
        report = write_report(run)
    # A companion's own lock is that companion's failure, and has its row; only this workstation's lock raises.
    if report.failure_exception_type == BuildLockHeldError.__name__ and not report.companions:
        raise BuildLockHeldError(str(report.failure_message))
    if report.exit_code == ExitCode.UNEXPECTED:
        raise UnexpectedRunError(f"{report.failure_exception_type}: {report.failure_message}", report)
    if result.failures and report.exit_code == 0 and not result.finished:
        raise UnexpectedRunError("; ".join(result.failures), report)
    return report


def _report_of(error: CacheBuildError, run_id: str, request: BuildCacheRequest) -> CacheBuildReport:
    """The report of a run that ended before it had a folder."""
    entry = {"kind": "fail", "phase": None, "host": None, "data": {"error": error.to_dict()}}
    report = fold_journal(run_id, [entry])
    path = report_path(request, report)
    if path:
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
            write_atomically(path, (json.dumps(report.to_dict(), indent=2) + "\n").encode())
    return report


def _variables(request: BuildCacheRequest, config: PreflightConfig, folder: Path) -> dict[str, Any]:
    """Extra variables: the settings in force, and the flight."""
    variables = setting_variables(config, folder, secrets=request.secrets)
    if isinstance(request.flight, FlightById):
        variables["flight_id"] = request.flight.flight_id
    else:
        variables["flight_file"] = os.path.abspath(request.flight.path)
    return variables


def setting_variables(
    config: PreflightConfig, folder: Path, *, secrets: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The settings in force. Secrets that are not in files yet go into files of the private folder."""
    variables = {name: value for name, value in config.to_dict().items() if value is not None}
    variables.pop("inventory", None)
    for name in SECRET_NAMES:
        secret = (secrets or {}).get(name) or read_secret(config, name)
        if secret:
            path = folder / name
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secret)
            variables[f"{name}_file"] = str(path)
    variables["cache_staging_root"] = os.path.abspath(config.cache_staging_root)
    if config.report:
        variables["report"] = os.path.abspath(config.report)
    return variables
