# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a companion without a run. Documentation: the module of this name."""

from __future__ import annotations

import shlex
import time
from typing import Any, Dict, List, Optional

from ansible.plugins.action import ActionBase

from ..module_utils._companion_look import (
    CompanionFinding,
    look_at_companion,
    program_findings,
    room_findings,
    system_findings,
)
from ..module_utils._errors import CacheBuildError, FailurePhase
from ..plugin_utils._companion_action import CompanionAction
from ..plugin_utils._phase_action import plain
from .companion_check import MAX_CLOCK_OFFSET_S

DOCTOR_S = 60
DOCTOR_BYTES = 65536
OPTIONS: Dict[str, Any] = {
    "root": {"type": "path", "default": "/var/lib/gps-denied"},
    "vehicle_id": {"type": "str"},
    "builder_command": {"type": "str", "default": "c10-builder build"},
}


class ActionModule(CompanionAction):
    """No step of a run: it opens none, and journals nothing."""

    phase = FailurePhase.COMPANION_BRINGUP

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        ActionBase.run(self, tmp, task_vars)
        arguments = plain(self.validate_argument_spec(argument_spec=OPTIONS)[1])
        self.host = str((task_vars or {})["inventory_hostname"])
        result: Dict[str, Any] = {"changed": False}
        try:
            result["companion"] = self._examine(arguments, task_vars or {})
        except CacheBuildError as exc:
            result.update(failed=True, msg=f"{exc.message.rstrip('.')}. {exc.remediation}", error=exc.to_dict())
        return result

    def _examine(self, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        self._hear_first_word()
        builder = shlex.split(arguments["builder_command"])[0]
        seen = look_at_companion(
            lambda command, data: self.shell(command, stdin=data),
            name=str(self.host),
            python=self.companion_python(task_vars),
            root=arguments["root"],
            programs=[builder, "rsync"],
        )
        over_ssh = self.ssh_command() is not None
        findings: List[CompanionFinding] = list(system_findings(seen))
        fit = all(finding.level != "fail" for finding in findings)
        findings += program_findings(seen, builder=builder, rsync=over_ssh)
        findings += room_findings(seen, archive_bytes=0)
        said: Dict[str, Any] = {"over_ssh": over_ssh, "cache": None, "builder": None}
        if fit:
            meant = {"root": arguments["root"], "vehicle_id": arguments["vehicle_id"] or self.host, "mode": "fast"}
            asked_s = time.time()
            said["cache"] = self.module("cache_info", meant, task_vars)["cache"]
            findings.append(self._clock(said["cache"]["clock_epoch_s"], asked_s=asked_s))
        if seen.program(builder).get("path"):
            words = ["timeout", "-k", "5", str(DOCTOR_S), "nice", "-n", "10", builder, "doctor"]
            answer = self.shell(f"{shlex.join(words)} </dev/null 2>/dev/null | head -c {DOCTOR_BYTES}")
            said["builder"] = answer.stdout
        return {**said, "findings": [finding.to_dict() for finding in findings]}

    def _clock(self, clock_s: float, *, asked_s: float) -> CompanionFinding:
        """It was read between the question and the answer."""
        ahead_s = clock_s - min(max(clock_s, asked_s), time.time())
        if abs(ahead_s) <= MAX_CLOCK_OFFSET_S:
            return CompanionFinding("clock", "ok", "agrees with this workstation's")
        side = "ahead of" if ahead_s > 0 else "behind"
        text = f"the clock is {abs(ahead_s):.0f} s {side} this workstation's; grants are bound to time"
        now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        hint = f"On the companion: sudo timedatectl set-ntp true, or: sudo date --utc --set '{now}'"
        return CompanionFinding("clock", "fail", text, hint)
