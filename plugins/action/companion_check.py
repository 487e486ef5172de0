# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is the companion there, trusted and ready, and does it need a build? Documentation: the module of this name."""

from __future__ import annotations

import re
import secrets
import shlex
import time
from typing import Any, Dict, Optional

from ..module_utils._build_request import inputs_id, stable_request
from ..module_utils._errors import CompanionNotReadyError, FailurePhase
from ..module_utils._run import Run
from ..module_utils._tile_plan import plan_tiles
from ..plugin_utils._companion_action import CompanionAction
from ..plugin_utils._zones import keep_zones

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,99}", re.ASCII)
DISK_FACTOR = 3.0
DISK_RESERVE_BYTES = 64 * 1024 * 1024
MIN_INODES = 1000
MAX_CLOCK_OFFSET_S = 240.0
"""Less than the 300 s by which a grant is backdated: what is activated now is valid now, by the companion's clock."""


class ActionModule(CompanionAction):
    phase = FailurePhase.COMPANION_BRINGUP

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        config = run.config
        self.wait_until_reachable(run)
        over_ssh = self.ssh_command() is not None
        self._check_programs(run, over_ssh=over_ssh)
        if not self._task.check_mode:
            # Where the user may make it (the embedded default); else provisioning has, or the check below says so.
            self.command("mkdir", "-p", "--", config.companion_cache_root)
        meant = {"root": config.companion_cache_root, "vehicle_id": str(task_vars.get("vehicle_id") or self.host)}
        facts = self.module("cache_info", meant, task_vars)["cache"]
        self._check_clock(facts["clock_epoch_s"] - time.time())
        archive = run.facts()["archive"]
        flight = run.load_flight()
        stable = stable_request(
            flight=flight,
            area=plan_tiles(flight, config)[0],
            config=config,
            archive_sha256=archive["sha256"],
            builder_version=self._builder_version(config.c10_builder_command),
        )
        wanted = inputs_id(stable)
        current = facts["current"] or {}
        reason = self._reason_to_build(current, wanted)
        if reason is None:
            cache = {"content_id": current["content_id"], "generation": current["generation"], "activated": True}
            run.journal.record("fact", phase=self.phase, host=self.host, cache=cache, outcome="idempotent_no_op")
            self.sink.emit("phase", phase=self.phase, text=f"holds this cache already: {current['generation']}")
            keep_zones(self, run, str(current["generation"]))
            return {
                "companion": {"build_needed": False, "reason": "the active cache is the one wanted, and is healthy"}
            }
        self._check_room(config.companion_cache_root, facts, int(archive["size_bytes"]))
        run.journal.record("fact", phase=self.phase, host=self.host, request=stable, nonce=secrets.token_hex(16))
        self.sink.emit("phase", phase=self.phase, text=f"ready; building because {reason}")
        return {"companion": {"build_needed": True, "reason": reason}}

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

    def _check_programs(self, run: Run, *, over_ssh: bool) -> None:
        builder = shlex.split(run.config.c10_builder_command)[0]
        needed = [builder, "rsync"] if over_ssh else [builder]
        for program in needed:
            if self.command("command", "-v", program).rc != 0:
                raise CompanionNotReadyError(f"{self.host} has no {program} on its PATH")

    def _check_clock(self, ahead_s: float) -> None:
        if abs(ahead_s) > MAX_CLOCK_OFFSET_S:
            side = "ahead of" if ahead_s > 0 else "behind"
            raise CompanionNotReadyError(
                f"the clock of {self.host} is {abs(ahead_s):.0f} s {side} this workstation's; grants are bound to time",
                remediation="Set the companion's clock (timedatectl set-time, or NTP), then run again.",
            )

    def _builder_version(self, command: str) -> Optional[str]:
        program = shlex.split(command)[0]
        answer = self.shell(f"{shlex.quote(program)} --version </dev/null 2>/dev/null | head -n 1 | head -c 200")
        said = answer.stdout.strip()
        return said if VERSION.fullmatch(said) else None

    def _check_room(self, root: str, facts: Dict[str, Any], archive_bytes: int) -> None:
        if not facts["writable"]:
            if self._task.check_mode:
                return
            raise CompanionNotReadyError(f"{root} on {self.host} is missing or not writable for this user")
        needed = int(archive_bytes * DISK_FACTOR) + DISK_RESERVE_BYTES
        if facts["free_bytes"] < needed:
            raise CompanionNotReadyError(
                f"{root} on {self.host} has {facts['free_bytes'] // 10**6} MB free; {needed // 10**6} MB are needed",
                remediation="Free disk space on the companion, then run again.",
            )
        if 0 <= facts["free_inodes"] < MIN_INODES:
            raise CompanionNotReadyError(
                f"{root} on {self.host} has {facts['free_inodes']} inodes free, and {MIN_INODES} are needed",
                remediation="Remove small files on the companion, then run again.",
            )
