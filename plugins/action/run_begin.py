# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Begin a run: settings, folder, journal. Documentation: the module file of the same name."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase

from ..module_utils._config import PreflightConfig, load_config
from ..module_utils._errors import CacheBuildError, SettingsError
from ..module_utils._run import Run, begin_run, open_run
from ..plugin_utils._phase_action import plain
from ..plugin_utils._versions import versions


class ActionModule(ActionBase):  # type: ignore[misc]
    """No `PhaseAction`: before it there is no run to write to."""

    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        super().run(tmp, task_vars)
        spec = {
            "run_id": {"type": "str"},
            "resume": {"type": "bool", "default": False},
            "companions": {"type": "list", "elements": "str", "required": True},
            "config_file": {"type": "path"},
        }
        arguments = plain(self.validate_argument_spec(argument_spec=spec)[1])
        result: Dict[str, Any] = {"changed": False}
        try:
            result["run"] = self._begin(arguments, task_vars or {})
        except CacheBuildError as exc:
            result.update(failed=True, msg=f"{exc.message.rstrip('.')}. {exc.remediation}", error=exc.to_dict())
        return result

    def _begin(self, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        names = [item.name for item in fields(PreflightConfig)]
        given = {name: plain(self._templar.template(task_vars[name])) for name in names if name in task_vars}
        config = load_config(given, config_file=arguments["config_file"])
        companions = arguments["companions"]
        if arguments["resume"]:
            runs = os.path.join(os.path.abspath(config.cache_staging_root), "runs")
            return self._describe(open_run(os.path.join(runs, str(arguments["run_id"]))))
        facts = {"companions": companions, "versions": versions(), "check": bool(self._task.check_mode)}
        run = begin_run(config, run_id=arguments["run_id"], facts=facts)
        if not companions:
            error = SettingsError(
                "the inventory has no host in the group companions",
                remediation="Give an inventory with -i, or --companion-host.",
            )
            run.journal.record("fail", error=error.to_dict())
            raise error
        return self._describe(run)

    @staticmethod
    def _describe(run: Run) -> Dict[str, Any]:
        config = run.config
        return {
            "run_id": run.run_id,
            "run_dir": run.run_dir,
            "controller_pid": os.getppid(),
            "report_path": run.report_path,
            "cache_root": config.companion_cache_root,
            "builder_command": config.c10_builder_command,
            "known_hosts_file": os.path.abspath(config.companion_known_hosts_file),
            "ssh_connect_timeout_s": max(1, round(config.ssh_connect_timeout_s)),
        }
