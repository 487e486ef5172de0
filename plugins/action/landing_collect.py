# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mark what the provider has, then remove it from the companion. Documentation: the module file of the same name."""

from __future__ import annotations

import os
import shutil
from typing import Any, Dict, List

from ..module_utils._errors import FailurePhase, LandingSpoolError
from ..module_utils._landing_report import LandingOutcome
from ..module_utils._run import Run
from ..plugin_utils._landing_action import LandingAction, landing_folder


class ActionModule(LandingAction):
    phase = FailurePhase.COLLECT

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        facts = self.facts_of(run)
        if "recordings" not in facts or self._task.check_mode:
            return {}
        done = self._accepted(facts)
        if done:
            receipt = {"run_id": run.run_id, "provider": run.facts().get("provider")}
            landing = self.spool(run, arguments, task_vars, state="collected", accepted=done, receipt=receipt)
            marked, collected = landing["marked"], landing["collected"]
            run.journal.record("fact", phase=self.phase, host=self.host, marked=marked, collected=collected)
            for name in collected:
                shutil.rmtree(os.path.join(landing_folder(run, str(self.host)), name), ignore_errors=True)
            self.sink.emit("phase", phase=self.phase, text=f"{len(collected)} recordings collected")
            if landing["left"]:
                name, why = sorted(landing["left"].items())[0]
                raise LandingSpoolError(f"{name} was uploaded and stays on {self.host}: {why}", phase=self.phase)
            run.journal.record("fact", phase=self.phase, host=self.host, outcome=LandingOutcome.SUCCESS.value)
        elif facts.get("outcome") is None:
            run.journal.record("fact", phase=self.phase, host=self.host, outcome=LandingOutcome.SUCCESS.value)
        return {"changed": bool(done)}

    @staticmethod
    def _accepted(facts: Dict[str, Any]) -> List[Dict[str, str]]:
        """Recordings whose every tile the provider has: by this run's upload, or by an earlier mark."""
        uploads = facts.get("uploads", {})
        found = []
        for row in facts["recordings"]:
            result = uploads.get(row["id"])
            whole = result and result["known"] + result["found"] + result["sent"] == result["tiles"]
            if whole or row["state"] == "accepted":
                found.append({"id": row["id"], "content_id": row["content_id"]})
        return found
