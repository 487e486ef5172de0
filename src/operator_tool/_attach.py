# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""Following an earlier run's build: what that run was given, out of its folder."""

from __future__ import annotations

import os
import re
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import SECRET_NAMES, PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError
from ansible_collections.gps_denied.preflight.plugins.module_utils._run import RUN_ID_PATTERN, open_run

from ._build import FlightById, FlightFromFile, FlightSource

# Of that run alone, or lost with its driver's private folder.
NOT_KEPT = ("report", "progress_socket", "inventory", "attach_run", *(f"{name}_file" for name in SECRET_NAMES))
SHOWN_RUNS = 5


def earlier_run(config: PreflightConfig, run_id: str) -> tuple[FlightSource, dict[str, Any]]:
    """The flight and the settings of a run that this workstation began, with the setting to attach to its build.

    Args:
        config: The settings now in force; its staging root holds the runs.

    Raises:
        SettingsError: the run is not known here, or ended before it knew its flight.
    """
    runs = os.path.join(os.path.abspath(config.cache_staging_root), "runs")
    known = [name for name in _names(runs) if re.fullmatch(RUN_ID_PATTERN, name)]
    if run_id not in known:
        newest = ", ".join(sorted(known)[-SHOWN_RUNS:]) or "none"
        raise SettingsError(
            f"there is no run {run_id!r} in {runs}",
            remediation=f"Give the id of a run that this workstation began; the newest are: {newest}.",
        )
    run = open_run(os.path.join(runs, run_id))
    given = run.facts().get("given") or {}
    settings = {
        name: value for name, value in run.config.to_dict().items() if value is not None and name not in NOT_KEPT
    }
    settings["attach_run"] = run_id
    if given.get("flight_id"):
        return FlightById(given["flight_id"]), settings
    if given.get("flight_file"):
        return FlightFromFile(given["flight_file"]), settings
    raise SettingsError(
        f"run {run_id} ended before its flight was resolved: it has no build to attach to",
        remediation="Run build-cache with the flight.",
    )


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
