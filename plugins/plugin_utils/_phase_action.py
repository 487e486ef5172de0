# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one shape of every action plugin here: arguments in, one call, result out, one `except`.

Actions run on the workstation, in process: no payload travels, and no secret passes through arguments or variables.
"""

from __future__ import annotations

import json
from typing import Any, Callable, ClassVar, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._errors import CacheBuildError, FailurePhase, SettingsError, error_types
from ..module_utils._journal import redact_all
from ..module_utils._progress import ProgressSink
from ..module_utils._run import Run, open_run

__all__ = ["PhaseAction", "failed_report", "plain"]

RUN_ARGUMENT = {"run_dir": {"type": "path", "required": True}}


def plain(value: Any) -> Any:
    """Plain Python values out of Ansible's tagged types."""
    return json.loads(json.dumps(value))


def failed_report(run: Run, report: Any) -> Dict[str, Any]:
    """What makes a task fail whose report, of whatever kind, is that of a failure; nothing where it is not."""
    if not report.exit_code:
        return {}
    known = report.failure_exception_type in error_types()
    kind = report.failure_exception_type if known else f"unexpected {report.failure_exception_type}"
    said = f"{kind} (exit code {report.exit_code}): {report.failure_message}. {report.remediation}"
    return {"failed": True, "msg": f"{said} Report: {run.report_path}"}


class PhaseAction(ActionBase):  # type: ignore[misc]
    """One step of a run; subclasses say their phase and arguments, and do their work in `perform`."""

    TRANSFERS_FILES = False
    phase: ClassVar[Optional[FailurePhase]] = None
    argument_spec: ClassVar[Dict[str, Any]] = {}
    on_companion: ClassVar[bool] = False

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        """The step itself; returns the task's result."""
        raise TypeError(f"{type(self).__name__} does not say what it performs")

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        spec = {**RUN_ARGUMENT, **self.argument_spec}
        arguments = plain(self.validate_argument_spec(argument_spec=spec)[1])
        self.host: Optional[str] = str(task_vars["inventory_hostname"]) if self.on_companion else None
        result: Dict[str, Any] = {"changed": False}
        redact: Callable[[str], str] = str
        try:
            run = open_run(arguments.pop("run_dir"))
            redact = run.redact
            self.sink: ProgressSink = run.sink(display=Display().display, host=self.host)
            with run.journal.phase(self.phase, host=self.host):
                try:
                    result.update(self.perform(run, arguments, task_vars))
                except ImportError as exc:
                    raise SettingsError(
                        f"the Python package {exc.name} is missing from the Python that runs ansible-playbook",
                        remediation="Install gps-denied-preflight there with its dependencies.",
                    ) from exc
        except CacheBuildError as exc:
            result.update(failed=True, msg=f"{exc.message.rstrip('.')}. {exc.remediation}", error=exc.to_dict())
        return {key: redact_all(value, redact) for key, value in result.items()}
