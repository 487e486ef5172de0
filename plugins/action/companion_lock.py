# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take the companion's own lock, so that no second workstation interleaves. Documentation: the module of this name."""

from __future__ import annotations

import getpass
import json
import re
import socket
from typing import Any, Dict, Optional

from ..module_utils._build_request import inputs_id, stable_core
from ..module_utils._errors import FailurePhase, RemoteBuildError, SettingsError
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
        run.journal.record("fact", phase=self.phase, host=self.host, lock_asked=True, lock_released=False)
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
        left = sorted({name for name in listed if re.fullmatch(RUN_ID_PATTERN, name)} - {run.run_id})
        asked_for = run.config.attach_run
        if asked_for is not None:
            if not re.fullmatch(RUN_ID_PATTERN, asked_for):
                raise SettingsError(f"attach_run is {asked_for!r}, which is not a run id")
            # It comes first: where it cannot be had, nothing else has been touched.
            left = [asked_for, *(run_id for run_id in left if run_id != asked_for)]
        adopted: Dict[str, Any] = {}
        for run_id in left:
            job = RemoteJob(self.job_transport, job_spec(run.config, run_id), python=self.companion_python(task_vars))
            request = self._request_of(job.spec)
            reason = "another build is gone on with" if adopted else self._reason_to_drop(job, request, wanted)
            if reason is None:
                adopted = {**{name: request[name] for name in ("nonce", "archive_path")}, "job_run_id": run_id}
                continue
            if run_id == asked_for:
                raise RemoteBuildError(
                    f"run {run_id} has no build on {self.host} to attach to: {reason}",
                    remediation="Run build-cache without --attach: it builds, and what has arrived there is kept.",
                    details={"run_id": run_id, "host": self.host},
                )
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

    def _reason_to_drop(self, job: RemoteJob, request: Dict[str, Any], wanted: str) -> Optional[str]:
        """Why this job is not the build that is wanted, or None: a build that failed is begun anew."""
        if not request:
            return "none was started there, or it was taken or cleared away since"
        if inputs_id(stable_core(request)) != wanted:
            return "it builds from other inputs"
        try:
            state = job.start()["state"]
        except RemoteBuildError as exc:
            return exc.message
        if state == "running":
            return None
        try:
            result = json.loads(self.command("cat", "--", f"{job.spec.folder}/result.json").stdout)
        except ValueError:
            result = None
        if not isinstance(result, dict):
            return "it was lost with its supervisor"
        return None if result.get("exit_code") == 0 else f"it has ended without success ({result.get('reason')})"
