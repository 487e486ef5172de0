# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the report, and fail where the run failed. Documentation: the module file of the same name."""

from __future__ import annotations

from typing import Any, Dict

from ..module_utils._report import CacheBuildOutcome
from ..module_utils._run import Run, write_report
from ..plugin_utils._phase_action import PhaseAction, failed_report


class ActionModule(PhaseAction):
    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        report = write_report(run)
        self.sink.emit("report", text=f"{report.outcome.value}: {run.report_path}", path=run.report_path)
        return {
            "changed": report.outcome in (CacheBuildOutcome.SUCCESS, CacheBuildOutcome.CHECKED),
            "cache_build_report": report.to_dict(),
            "report_path": run.report_path,
            **failed_report(run, report),
        }
