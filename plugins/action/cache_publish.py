# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seal, verify, sign and activate what the builder made. Documentation: the module file of the same name."""

from __future__ import annotations

import json
import time
from typing import Any, Dict, Optional

from ..module_utils._build_request import canonical_json
from ..module_utils._errors import FailurePhase
from ..module_utils._flight_source import check_flight_unchanged
from ..module_utils._grant import Grant
from ..module_utils._run import Run
from ..module_utils._ssh_signature import sign_text
from ..plugin_utils._companion_action import CompanionAction
from ..plugin_utils._zones import keep_zones


class ActionModule(CompanionAction):
    phase = FailurePhase.ACTIVATE

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        if self._task.check_mode:
            return {"changed": True}
        root, facts = run.config.companion_cache_root, self.facts_of(run)
        vehicle_id = str(task_vars.get("vehicle_id") or self.host)
        who = {"root": root, "run_id": run.run_id, "token": facts["lock_token"]}
        sealed = self.module(
            "cache_seal",
            {
                **who,
                "source": f"{root}/work/{facts.get('job_run_id') or run.run_id}",
                "archive": facts["archive_path"],
                "request": canonical_json(facts["request"]).decode(),
                "report": json.dumps(facts["build"], indent=1),
            },
            task_vars,
        )["cache"]
        grant = Grant.issue(
            vehicle_id=vehicle_id,
            flight_id=str(facts["request"]["flight_id"]),
            content_id=sealed["content_id"],
            counter=sealed["next_counter"],
            run_id=run.run_id,
            now_epoch_s=time.time(),
            valid_for_s=run.config.grant_valid_h * 3600,
        ).to_text()
        warning = check_flight_unchanged(run.load_flight(), run.config)
        if warning:
            run.journal.record("warning", phase=self.phase, host=self.host, text=warning)
        activated = self.module(
            "cache_activate",
            {
                **who,
                "sealed_path": sealed["sealed_path"],
                "grant": grant,
                "signature": self._signature(run, grant),
                "vehicle_id": vehicle_id,
            },
            task_vars,
        )["cache"]
        cache = {name: activated[name] for name in ("content_id", "generation", "activated")}
        run.journal.record("fact", phase=self.phase, host=self.host, cache=cache, outcome="success")
        self.sink.emit("phase", phase=self.phase, text=f"active: {cache['generation']}")
        keep_zones(self, run, str(cache["generation"]))
        return {"changed": True, "cache": cache}

    @staticmethod
    def _signature(run: Run, grant: str) -> Optional[str]:
        if run.config.grant_signing_key_file is None:
            return None
        return sign_text(grant.encode(), key_path=run.config.grant_signing_key_file).decode()
