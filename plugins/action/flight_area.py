# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work out the area and its tiles. Documentation: the module file of the same name."""

from __future__ import annotations

from typing import Any, Dict

from ..module_utils._errors import FailurePhase
from ..module_utils._report import AreaReport, FlightResolveReport, to_plain
from ..module_utils._run import Run
from ..module_utils._tile_plan import plan_tiles
from ..plugin_utils._phase_action import PhaseAction


class ActionModule(PhaseAction):
    phase = FailurePhase.AREA

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        flight = run.load_flight()
        area, tiles = plan_tiles(flight, run.config)
        report = FlightResolveReport(
            source=flight.source.value,
            flight_id=flight.flight_id,
            name=flight.name,
            format=flight.format,
            waypoint_count=len(flight.waypoints),
            takeoff_origin=to_plain(flight.takeoff_origin),
            bbox=(area.bbox.west, area.bbox.south, area.bbox.east, area.bbox.north),
            area=AreaReport(kind=str(area.kind), area_km2=area.area_km2, buffer_m=area.buffer_m),
            fingerprint=flight.fingerprint,
            warnings=flight.warnings,
        )
        run.journal.record("fact", phase=self.phase, flight=to_plain(report))
        counts = ", ".join(f"z{zoom}: {count}" for zoom, count in sorted(tiles.counts_by_zoom.items()))
        self.sink.emit("phase", phase=self.phase, text=f"{area.area_km2:.3f} km², {len(tiles)} tiles ({counts})")
        return {"area": {"kind": str(area.kind), "area_km2": area.area_km2, "tiles": len(tiles)}}
