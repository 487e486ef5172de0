# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take the companion's own lock, so that no second workstation interleaves. Documentation: the module of this name."""

from __future__ import annotations

import getpass
import re
import socket
from typing import Any, Dict

from ..module_utils._errors import FailurePhase
from ..module_utils._remote_job import JobSpec, RemoteJob
from ..module_utils._run import RUN_ID_PATTERN, Run
from ..plugin_utils._companion_action import CompanionAction


class ActionModule(CompanionAction):
    phase = FailurePhase.COMPANION_BRINGUP

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        if self._task.check_mode:
            return {"changed": True}
        holder = f"run {run.run_id} of {getpass.getuser()} on {socket.gethostname()}"
        lock = {
            "root": run.config.companion_cache_root,
            "run_id": run.run_id,
            "holder": holder,
            "owner": run.workstation_id,
            "state": "acquired",
        }
        token = self.module("cache_lock", lock, task_vars)["cache"]["token"]
        run.journal.record("fact", phase=self.phase, host=self.host, lock_token=token)
        self._clear_remains(run, task_vars)
        return {"changed": True}

    def _clear_remains(self, run: Run, task_vars: Dict[str, Any]) -> None:
        """End the jobs and remove the folders of runs that lost the lock without a chance to do so themselves."""
        root = run.config.companion_cache_root
        listed = self.command("ls", "-1", f"{root}/jobs", f"{root}/work").stdout.split()
        for run_id in sorted({name for name in listed if re.fullmatch(RUN_ID_PATTERN, name)} - {run.run_id}):
            jobs = f"{root}/jobs/{run_id}"
            # The command is not run: a job is found by its folder.
            spec = JobSpec(run_id=run_id, folder=f"{jobs}/job", command=("true",), request_path=f"{jobs}/request.json")
            RemoteJob(self.job_transport, spec, python=self.companion_python(task_vars)).cancel()
            self.command("rm", "-rf", "--", jobs, f"{root}/work/{run_id}")
