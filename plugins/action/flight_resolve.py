# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolve the flight. Documentation: the module file of the same name."""

from __future__ import annotations

from typing import Any, ClassVar, Dict

from ..module_utils._errors import FailurePhase
from ..module_utils._flight_source import resolve_flight
from ..module_utils._run import Run
from ..plugin_utils._phase_action import PhaseAction


class ActionModule(PhaseAction):
    phase = FailurePhase.FLIGHT_RESOLVE
    argument_spec: ClassVar[Dict[str, Any]] = {"flight_id": {"type": "str"}, "flight_file": {"type": "path"}}

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        flight = resolve_flight(run.config, flight_id=arguments["flight_id"], flight_file=arguments["flight_file"])
        run.save_flight(flight)
        given = {name: arguments[name] for name in ("flight_id", "flight_file")}
        run.journal.record("fact", phase=self.phase, given=given)
        for warning in flight.warnings:
            run.journal.record("warning", phase=self.phase, text=warning)
        summary = f"{flight.flight_id}: {flight.format}, {len(flight.waypoints)} waypoints"
        self.sink.emit("phase", phase=self.phase, text=summary)
        return {"flight": {"flight_id": flight.flight_id, "format": flight.format, "fingerprint": flight.fingerprint}}
