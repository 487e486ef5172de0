# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The jobs around a flight, as one call each: `upload_landing` after it, `give_hint` during it.

Both run their playbook through ansible-runner and return the report that it left, as plain JSON values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import load_config
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    BuildCancelledError,
    ExitCode,
    SettingsError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._journal import read_journal
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_report import LandingReport, fold_landing
from ansible_collections.gps_denied.preflight.plugins.module_utils._reloc_hint import check_place
from ansible_collections.gps_denied.preflight.plugins.module_utils._reloc_report import HintReport, fold_hint
from ansible_collections.gps_denied.preflight.plugins.module_utils._run import new_run_id, open_run, store_report

from ._build import ProgressHandler, UnexpectedRunError, setting_variables
from ._inventory import Companion, InventoryPart, inventory_for

__all__ = ["FieldRequest", "HintPlace", "give_hint", "upload_landing"]

VEHICLE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"


@dataclass(frozen=True)
class FieldRequest:
    """For whom, and with which settings; without `companion` the inventory decides."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    config_file: str | None = None
    companion: Companion | InventoryPart | None = None
    check: bool = False
    verbosity: int = 0


@dataclass(frozen=True)
class HintPlace:
    """About where the vehicle is; `for_all` says that all companions of the inventory are meant, if there are several.

    `vehicle_id` names the one that is meant where the inventory has others.
    """

    lat_deg: float
    lon_deg: float
    radius_m: float
    vehicle_id: str | None = None
    for_all: bool = False


def _run(
    playbook: str,
    request: FieldRequest,
    fold: Callable[[str, list[dict[str, Any]]], Any],
    *,
    variables: Mapping[str, Any],
    on_progress: ProgressHandler | None,
    on_text: Callable[[str], None] | None,
) -> Any:
    from ._progress_socket import progress_socket
    from ._runner import private_folder, run_playbook
    from ._staging import check_report_place

    run_id = new_run_id()
    config = load_config(request.settings, config_file=request.config_file)
    check_report_place(config)
    with private_folder() as folder, progress_socket(folder, on_progress) as socket_path:
        result = run_playbook(
            playbook,
            private_dir=folder,
            inventory=inventory_for(request.companion, config, folder),
            variables={
                **setting_variables(config, folder, secrets=request.secrets),
                **variables,
                "run_id": run_id,
                "progress_socket": str(socket_path),
            },
            check=request.check,
            verbosity=request.verbosity,
            on_text=on_text,
        )
    run_dir = os.path.join(os.path.abspath(config.cache_staging_root), "runs", run_id)
    if not os.path.isdir(run_dir):
        if result.cancelled:
            raise BuildCancelledError("cancelled before the run began")
        if result.killed:
            raise BuildCancelledError("ansible-playbook was killed before the run began")
        words = "; ".join(result.failures) or "\n".join(result.tail) or "no word from Ansible"
        raise UnexpectedRunError(f"the run did not begin: {words}")
    run = open_run(run_dir)
    if result.cancelled:
        run.journal.record("fail", error=BuildCancelledError("cancelled by the operator").to_dict())
    report = fold(run_id, read_journal(run_dir))
    if result.cancelled or not result.finished or not Path(run.report_path).is_file():
        store_report(run, report.to_dict())
    if report.exit_code == ExitCode.UNEXPECTED or (result.failures and not result.finished and not report.exit_code):
        raise UnexpectedRunError(f"{report.failure_exception_type}: {report.failure_message or result.failures}")
    return report


def upload_landing(
    request: FieldRequest,
    *,
    on_progress: ProgressHandler | None = None,
    on_text: Callable[[str], None] | None = None,
) -> LandingReport:
    """Fetch what the flights recorded from landed vehicles, upload it, free the companions' disks of what arrived.

    Returns:
        The report, for every recognised way to end once the run has begun, failures included.

    Raises:
        SettingsError, BuildCancelledError: before the run began.
        UnexpectedRunError: a defect.
    """
    found: LandingReport = _run(
        "upload_landing", request, fold_landing, variables={}, on_progress=on_progress, on_text=on_text
    )
    return found


def give_hint(
    request: FieldRequest,
    place: HintPlace,
    *,
    on_progress: ProgressHandler | None = None,
    on_text: Callable[[str], None] | None = None,
) -> HintReport:
    """Tell a vehicle about where it is. To call this is to confirm the position.

    Returns:
        The report, for every recognised way to end once the run has begun, failures included.

    Raises:
        PositionHintError: the position or the radius is impossible; nothing was sent.
        SettingsError, BuildCancelledError: before the run began.
        UnexpectedRunError: a defect.
    """
    check_place(lat_deg=place.lat_deg, lon_deg=place.lon_deg, radius_m=place.radius_m)
    variables: dict[str, Any] = {
        "lat_deg": place.lat_deg,
        "lon_deg": place.lon_deg,
        "radius_m": place.radius_m,
        "hint_confirmed": True,
        "hint_for_all": place.for_all,
    }
    if place.vehicle_id and request.companion is None:
        # A name alone: nothing of it may reach further into the inventory than a host of that name.
        if not re.fullmatch(VEHICLE_NAME, place.vehicle_id):
            raise SettingsError(f"{place.vehicle_id[:60]!a} is not the name of a vehicle")
        variables["hint_hosts"] = f"companions:&{place.vehicle_id}"
    found: HintReport = _run("reloc", request, fold_hint, variables=variables, on_progress=on_progress, on_text=on_text)
    return found
