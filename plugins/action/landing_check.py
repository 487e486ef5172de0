# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is the vehicle down, and what did it bring? Documentation: the module file of the same name."""

from __future__ import annotations

from typing import Any, Dict

from ..module_utils._errors import FailurePhase
from ..module_utils._landing_report import LandingOutcome
from ..module_utils._landing_target import configured_target
from ..module_utils._run import Run
from ..plugin_utils._landing_action import LandingAction


class ActionModule(LandingAction):
    phase = FailurePhase.GROUND_CHECK

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        configured_target(run.config)  # what the upload will need is asked for before anything is fetched
        self.wait_until_reachable(run)
        landing = self.spool(run, arguments, task_vars)
        recordings, ground = landing["recordings"], landing["ground"]
        run.journal.record("fact", phase=self.phase, host=self.host, recordings=recordings, ground=ground)
        waiting = [row for row in recordings if row["state"] in ("ready", "accepted")]
        if self._task.check_mode or not waiting:
            outcome = LandingOutcome.CHECKED if self._task.check_mode else LandingOutcome.NOTHING_TO_DO
            run.journal.record("fact", phase=self.phase, host=self.host, outcome=outcome.value)
        tiles = sum(row["tiles"] for row in waiting)
        text = f"landed and disarmed; {len(waiting)} of {len(recordings)} recordings with {tiles} tiles to take"
        self.sink.emit("phase", phase=self.phase, text=text)
        return {"landing": {"recordings": recordings, "ground": ground}}
