# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take the companion's own lock, so that no second workstation interleaves. Documentation: the module of this name."""

from __future__ import annotations

import getpass
import json
import re
import socket
from typing import Any, Dict

from ..module_utils._build_request import inputs_id, stable_core
from ..module_utils._errors import FailurePhase
from ..module_utils._remote_job import JobSpec, RemoteJob
from ..module_utils._run import RUN_ID_PATTERN, Run
from ..plugin_utils._companion_action import CompanionAction
from ..plugin_utils._job_spec import job_spec


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
        adopted = self._take_over(run, task_vars)
        if adopted:
            run.journal.record("fact", phase=self.phase, host=self.host, **adopted)
            text = f"run {adopted['job_run_id']} has this build under way here; going on with it"
            self.sink.emit("phase", phase=self.phase, text=text)
        return {"changed": True}

    def _take_over(self, run: Run, task_vars: Dict[str, Any]) -> Dict[str, Any]:
        """What runs that lost their workstation have left: a build of the same inputs is adopted, all else is ended."""
        root, wanted = run.config.companion_cache_root, inputs_id(self.facts_of(run)["request"])
        listed = self.command("ls", "-1", f"{root}/jobs", f"{root}/work").stdout.split()
        adopted: Dict[str, Any] = {}
        for run_id in sorted({name for name in listed if re.fullmatch(RUN_ID_PATTERN, name)} - {run.run_id}):
            spec = job_spec(run.config, run_id)
            job = RemoteJob(self.job_transport, spec, python=self.companion_python(task_vars))
            request = self._request_of(spec)
            if not adopted and request and inputs_id(stable_core(request)) == wanted and self._is_worth_it(job):
                adopted = {name: request[name] for name in ("nonce", "archive_path")}
                adopted["job_run_id"] = run_id
                continue
            job.cancel()
            self.command("rm", "-rf", "--", f"{root}/jobs/{run_id}", f"{root}/work/{run_id}")
        return adopted

    def _request_of(self, spec: JobSpec) -> Dict[str, Any]:
        """The request of a job that was started, else nothing."""
        if self.command("test", "-e", f"{spec.folder}/spec.json").rc != 0:
            return {}
        try:
            request = json.loads(self.command("cat", "--", spec.request_path).stdout)
        except ValueError:
            return {}
        return request if isinstance(request, dict) else {}

    def _is_worth_it(self, job: RemoteJob) -> bool:
        """Whether the job still runs, or ended well: a build that failed is begun anew."""
        if job.start()["state"] == "running":
            return True
        try:
            result = json.loads(self.command("cat", "--", f"{job.spec.folder}/result.json").stdout)
        except ValueError:
            return False
        return isinstance(result, dict) and result.get("exit_code") == 0
