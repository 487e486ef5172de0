# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take or free the workstation's lock. Documentation: the module file of the same name."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Dict

from ..module_utils._errors import FailurePhase
from ..module_utils._lock import acquire_lock, release_lock
from ..module_utils._run import Run
from ..plugin_utils._phase_action import PhaseAction

LANDING_LOCK = ".landing.lock"


class ActionModule(PhaseAction):
    """Never `changed`: a lock is no state that a run leaves behind."""

    phase = FailurePhase.LOCK
    argument_spec: ClassVar[Dict[str, Any]] = {
        "state": {"type": "str", "choices": ["acquired", "released"], "default": "acquired"},
        "name": {"type": "str", "choices": ["build", "landing"], "default": "build"},
    }

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        if arguments["state"] == "released":
            holder = run.facts().get("lock_holder_pid")
            if holder is not None:
                release_lock(holder)
            return {}
        if self._task.check_mode:
            return {}
        root = os.path.abspath(run.config.cache_staging_root)
        holder = acquire_lock(
            os.path.join(root, LANDING_LOCK if arguments["name"] == "landing" else run.config.lock_filename),
            run_id=run.run_id,
            serves_pid=os.getppid(),
            timeout_s=run.config.lock_timeout_s,
        )
        run.journal.record("fact", phase=self.phase, lock_holder_pid=holder)
        return {}
