# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free the companion's lock and remove what the run left there. Documentation: the module file of the same name."""

from __future__ import annotations

from typing import Any, Dict

from ..module_utils._run import Run
from ..plugin_utils._companion_action import CompanionAction
from ..plugin_utils._companion_cleanup import clean_up_companion


class ActionModule(CompanionAction):
    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        if self._task.check_mode:
            return {"changed": self.facts_of(run).get("lock_token") is not None}
        return {"changed": clean_up_companion(self, run, task_vars)}
