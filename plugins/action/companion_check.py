# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is the companion there, trusted and ready, and does it need a build? Documentation: the module of this name."""

from __future__ import annotations

import secrets
import shlex
import time
from typing import Any, Dict, Iterable, List, Optional

from ..module_utils._build_request import for_builder, inputs_id
from ..module_utils._companion_look import (
    CompanionFinding,
    CompanionLook,
    look_at_companion,
    program_findings,
    room_findings,
    system_findings,
)
from ..module_utils._errors import CompanionNotReadyError, FailurePhase
from ..module_utils._run import Run
from ..plugin_utils._companion_action import CompanionAction
from ..plugin_utils._zones import keep_zones

MAX_CLOCK_OFFSET_S = 240.0
"""Less than the 300 s by which a grant is backdated: what is activated now is valid now, by the companion's clock."""


class ActionModule(CompanionAction):
    phase = FailurePhase.COMPANION_BRINGUP

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        config = run.config
        self.wait_until_reachable(run)
        seen = self._look(run, task_vars)
        findings = self._held(system_findings(seen))
        meant = {"root": config.companion_cache_root, "vehicle_id": str(task_vars.get("vehicle_id") or self.host)}
        facts = self.module("cache_info", meant, task_vars)["cache"]
        builder = shlex.split(config.c10_builder_command)[0]
        findings += self._held(program_findings(seen, builder=builder, rsync=self.ssh_command() is not None))
        self._check_clock(facts["clock_epoch_s"] - time.time())
        prepared = run.facts()
        if "request_core" not in prepared:
            return self._foretold(run, "tiles are to be fetched first", findings)
        stable = for_builder(prepared["request_core"], version=seen.builder_version(builder))
        wanted = inputs_id(stable)
        current = facts["current"] or {}
        reason = self._reason_to_build(current, wanted)
        if reason is None:
            cache = {"content_id": current["content_id"], "generation": current["generation"], "activated": True}
            run.journal.record("fact", phase=self.phase, host=self.host, cache=cache, outcome="idempotent_no_op")
            self.sink.emit("phase", phase=self.phase, text=f"holds this cache already: {current['generation']}")
            keep_zones(self, run, str(current["generation"]))
            whole = "the active cache is the one wanted, and is healthy"
            return {"companion": {"build_needed": False, "reason": whole, "findings": _as_data(findings)}}
        findings += self._held(room_findings(seen, archive_bytes=int(prepared["archive"]["size_bytes"])))
        if self._task.check_mode:
            return self._foretold(run, reason, findings)
        # Where the user may make it (the embedded default); else provisioning has.
        self.command("mkdir", "-p", "--", config.companion_cache_root)
        run.journal.record("fact", phase=self.phase, host=self.host, request=stable, nonce=secrets.token_hex(16))
        self.sink.emit("phase", phase=self.phase, text=f"ready; building because {reason}")
        return {"companion": {"build_needed": True, "reason": reason, "findings": _as_data(findings)}}

    def _foretold(self, run: Run, reason: str, findings: List[CompanionFinding]) -> Dict[str, Any]:
        """A dry run's word of what would follow; before the tiles are here, nobody can tell what the cache lacks."""
        run.journal.record("fact", phase=self.phase, host=self.host, outcome="checked")
        self.sink.emit("phase", phase=self.phase, text=f"ready; would build because {reason}")
        return {"companion": {"build_needed": True, "reason": reason, "findings": _as_data(findings)}}

    def _look(self, run: Run, task_vars: Dict[str, Any]) -> CompanionLook:
        return look_at_companion(
            lambda command, data: self.shell(command, stdin=data),
            name=str(self.host),
            python=self.companion_python(task_vars),
            root=run.config.companion_cache_root,
            programs=[shlex.split(run.config.c10_builder_command)[0], "rsync"],
        )

    def _held(self, findings: Iterable[CompanionFinding]) -> List[CompanionFinding]:
        """All of them, where none is a reason to stop; the first that is one is the error."""
        found = list(findings)
        wrong = [finding for finding in found if finding.level == "fail"]
        if wrong:
            also = f" (and {len(wrong) - 1} more: {', '.join(one.check for one in wrong[1:])})" if wrong[1:] else ""
            raise CompanionNotReadyError(
                wrong[0].text + also, remediation=wrong[0].hint, details={"findings": _as_data(found)}
            )
        return found

    @staticmethod
    def _reason_to_build(current: Dict[str, Any], wanted: str) -> Optional[str]:
        """The reason to act, or None."""
        if not current:
            return "no cache is active"
        if not current["healthy"]:
            return f"the active cache is broken: {current['reason']}"
        if current["inputs_id"] != wanted:
            return "the active cache was built from other inputs"
        return None

    def _check_clock(self, ahead_s: float) -> None:
        if abs(ahead_s) > MAX_CLOCK_OFFSET_S:
            side = "ahead of" if ahead_s > 0 else "behind"
            raise CompanionNotReadyError(
                f"the clock of {self.host} is {abs(ahead_s):.0f} s {side} this workstation's; grants are bound to time",
                remediation="Set the companion's clock (timedatectl set-time, or NTP), then run again.",
            )


def _as_data(findings: Iterable[CompanionFinding]) -> List[Dict[str, str]]:
    return [finding.to_dict() for finding in findings]
