# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the report, and fail where the run failed. Documentation: the module file of the same name."""

from __future__ import annotations

from typing import Any, Dict

from ..module_utils._errors import error_types
from ..module_utils._report import CacheBuildOutcome
from ..module_utils._run import Run, write_report
from ..plugin_utils._phase_action import PhaseAction


class ActionModule(PhaseAction):
    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        report = write_report(run)
        self.sink.emit("report", text=f"{report.outcome.value}: {run.report_path}", path=run.report_path)
        result: Dict[str, Any] = {
            "changed": report.outcome is CacheBuildOutcome.SUCCESS,
            "cache_build_report": report.to_dict(),
            "report_path": run.report_path,
        }
        if report.outcome is CacheBuildOutcome.FAILURE:
            known = report.failure_exception_type in error_types()
            kind = report.failure_exception_type if known else f"unexpected {report.failure_exception_type}"
            result.update(
                failed=True,
                msg=f"{kind} (exit code {report.exit_code}): {report.failure_message}. {report.remediation} "
                f"Report: {run.report_path}",
            )
        return result
