# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The remote job of a run, by the run's settings."""

from __future__ import annotations

import shlex

from ..module_utils._config import PreflightConfig
from ..module_utils._remote_job import JobSpec

__all__ = ["job_spec"]


def job_spec(config: PreflightConfig, run_id: str, *, memory_max_bytes: int = 0, network: bool = False) -> JobSpec:
    """Where the job lives on the companion, what it runs, and its bounds."""
    jobs = f"{config.companion_cache_root}/jobs/{run_id}"
    return JobSpec(
        run_id=run_id,
        folder=f"{jobs}/job",
        command=tuple(shlex.split(config.c10_builder_command)),
        request_path=f"{jobs}/request.json",
        timeout_s=config.build_timeout_s,
        lease_s=config.build_lease_s,
        memory_max_bytes=memory_max_bytes,
        network=network,
    )
