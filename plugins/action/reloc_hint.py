# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give a companion a position hint. Documentation: the module file of the same name.

Two short commands over the open connection, and no module: in flight the link may carry a kilobyte a second.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import Any, ClassVar, Dict

from ..module_utils._audit import append_audit
from ..module_utils._errors import (
    CacheBuildError,
    CompanionNotReadyError,
    FailurePhase,
    HintNotAcknowledgedError,
    PositionHintError,
    SettingsError,
)
from ..module_utils._grant import format_time
from ..module_utils._reloc_hint import HINT_NAMESPACE, Envelope, PositionHint, check_place
from ..module_utils._reloc_report import HintOutcome
from ..module_utils._run import Run
from ..module_utils._ssh_signature import sign_text
from ..plugin_utils._companion_action import CompanionAction

NOT_THERE = (126, 127)


class ActionModule(CompanionAction):
    phase = FailurePhase.HINT
    argument_spec: ClassVar[Dict[str, Any]] = {
        "lat_deg": {"type": "float", "required": True},
        "lon_deg": {"type": "float", "required": True},
        "radius_m": {"type": "float", "required": True},
        "confirmed": {"type": "bool", "required": True},
        "for_all": {"type": "bool", "default": False},
        "vehicle_id": {"type": "str"},
    }

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        place = {name: float(arguments[name]) for name in ("lat_deg", "lon_deg", "radius_m")}
        check_place(**place)
        run.journal.record("fact", phase=self.phase, host=self.host, hint=place)
        others = len(run.facts().get("companions", ())) - 1
        if others > 0 and not arguments["for_all"]:
            raise SettingsError(
                f"{self.host} and {others} other companions would get the same position",
                remediation="Name the vehicle (--vehicle-id, or --limit), or say that all are meant (--all).",
            )
        if not arguments["confirmed"] and not self._task.check_mode:
            raise SettingsError(
                "nobody has confirmed the position hint", remediation="Confirm it: --yes, or hint_confirmed=true."
            )
        status = self._ask(run, "status")
        envelope = self._envelope(run, status, place, vehicle_id=str(arguments["vehicle_id"] or self.host))
        hint = envelope.hint
        facts = {"sequence": hint.sequence, "signed": envelope.signature is not None, "content_id": hint.content_id}
        run.journal.record("fact", phase=self.phase, host=self.host, **facts)
        if self._task.check_mode:
            self._ask(run, "put", "--check", stdin=envelope.to_bytes())
            run.journal.record("fact", phase=self.phase, host=self.host, outcome=HintOutcome.CHECKED.value)
            return {"changed": True, "hint": {**place, **facts, "written": False}}
        self._audit(run, hint, "given")
        self.sink.emit("phase", phase=self.phase, text=f"hint {hint.sequence} on its way")
        try:
            answer = self._ask(run, "put", "--wait", f"{run.config.hint_ack_timeout_s:g}", stdin=envelope.to_bytes())
        except CacheBuildError as exc:
            self._audit(run, hint, "refused" if isinstance(exc, PositionHintError) else "unanswered")
            raise
        run.journal.record("fact", phase=self.phase, host=self.host, written=True)
        ack = answer.get("ack")
        status_word = str(ack.get("status"))[:40] if isinstance(ack, dict) else "not acknowledged"
        self._audit(run, hint, status_word)
        if not isinstance(ack, dict):
            raise HintNotAcknowledgedError(
                f"hint {hint.sequence} lies on {self.host}, and was not acknowledged within "
                f"{run.config.hint_ack_timeout_s:g} s"
            )
        if status_word != "accepted":
            raise PositionHintError(
                f"the flight software of {self.host} refused hint {hint.sequence}: {str(ack.get('reason'))[:100]}",
                details={"reason": str(ack.get("reason"))[:100]},
            )
        windows = ack.get("windows") if isinstance(ack.get("windows"), int) else None
        outcome = HintOutcome.ACKNOWLEDGED.value
        run.journal.record("fact", phase=self.phase, host=self.host, windows=windows, outcome=outcome)
        within = "" if windows is None else f"; {windows} windows of its index lie within"
        self.sink.emit("phase", phase=self.phase, text=f"hint {hint.sequence} acknowledged{within}")
        return {"changed": True, "hint": {**place, **facts, "written": True, "windows": windows}}

    def _envelope(self, run: Run, status: Dict[str, Any], place: Dict[str, float], *, vehicle_id: str) -> Envelope:
        """The hint that fits what the companion said of itself, signed where a key is configured."""
        try:
            hint = PositionHint(
                vehicle_id=str(status["vehicle_id"] or vehicle_id),
                content_id=str(status["content_id"]),
                sequence=int(status["sequence"]) + 1,
                boot_id=str(status["boot_id"]),
                valid_until_s=round(float(status["boottime_s"]) + run.config.hint_valid_s, 3),
                issued_at=format_time(time.time()),
                run_id=run.run_id,
                lat_deg=place["lat_deg"],
                lon_deg=place["lon_deg"],
                radius_m=place["radius_m"],
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            raise self._nonsense("status") from None
        if status["vehicle_id"] not in (None, vehicle_id):
            raise PositionHintError(
                f"{self.host} says that it is vehicle {str(status['vehicle_id'])[:60]!a}, and {vehicle_id} is meant",
                details={"reason": "other-vehicle"},
            )
        key_path = run.config.grant_signing_key_file
        text = hint.to_text()
        if not key_path:
            if status.get("enrolled"):
                raise PositionHintError(
                    f"{self.host} is enrolled and takes signed hints only",
                    remediation="Set grant_signing_key_file (--signing-key-file).",
                    details={"reason": "hint-unsigned"},
                )
            return Envelope(text, None)
        signature = sign_text(text.encode(), key_path=os.path.expanduser(key_path), namespace=HINT_NAMESPACE)
        return Envelope(text, signature.decode("ascii"))

    def _ask(self, run: Run, *words: str, stdin: bytes = b"") -> Dict[str, Any]:
        """One command of `gps-denied-hint`, and its one line of JSON."""
        root = run.config.companion_cache_root
        done = self.command(f"{root}/bin/gps-denied-hint", "--root", root, *words, stdin=stdin)
        if done.rc in NOT_THERE:
            raise CompanionNotReadyError(
                f"{self.host} has no {root}/bin/gps-denied-hint",
                phase=self.phase,
                remediation="It comes with a cache: activate one there with this release of the tool.",
            )
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._nonsense(words[0])
        if done.rc != 0:
            reason = str(answer.get("reason"))[:100]
            message = str(answer.get("message"))[:500]
            raise PositionHintError(f"{self.host} refused the hint: {message}", details={"reason": reason})
        return answer

    def _nonsense(self, verb: str) -> CompanionNotReadyError:
        return CompanionNotReadyError(
            f"{self.host} gave no proper answer to gps-denied-hint {verb}",
            phase=self.phase,
            remediation="Run `gps-denied-hint status` on the companion to see what it says.",
        )

    def _audit(self, run: Run, hint: PositionHint, event: str) -> None:
        """The workstation's own trail: one for all hints that were ever given from here."""
        entry = {
            "event": event,
            "at": format_time(time.time()),
            "host": self.host,
            "run_id": run.run_id,
            "sequence": hint.sequence,
            "lat_deg": hint.lat_deg,
            "lon_deg": hint.lon_deg,
            "radius_m": hint.radius_m,
        }
        path = os.path.join(os.path.abspath(run.config.cache_staging_root), "hints.ndjson")
        with open(path + ".lock", "ab") as lock:  # the companions of a fleet answer at the same time
            fcntl.flock(lock, fcntl.LOCK_EX)
            append_audit(path, entry)
