# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sixteen companions at once, one of which is off and one of which freezes: the others get their caches."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from companions import Companion

from operator_tool import BuildCacheRequest, FlightFromFile, build_cache

EXAMPLES = Path(__file__).parents[2] / "examples"
FLEET = 16
BOUND_S = 300.0


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_sixteen_companions_one_off_and_one_frozen(
    make_companion: Callable[..., Companion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fleet = [make_companion(f"vehicle-{number:02d}") for number in range(1, FLEET + 1)]
    *living, frozen, dead = fleet
    dead.stop()
    inventory = tmp_path / "fleet.json"
    hosts = {companion.name: companion.inventory_vars for companion in fleet}
    inventory.write_text(json.dumps({"companions": {"hosts": hosts}}))
    settings = {
        "cache_staging_root": str(tmp_path / "staging"),
        "tile_source": str(EXAMPLES / "imagery" / "bali.pmtiles"),
        "inventory": str(inventory),
        "companion_known_hosts_file": str(fleet[0].known_hosts_path),
        "companion_boot_timeout_s": 5,
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18",
        "camera_agl_m": 60,
    }
    froze: list[str] = []

    def freeze_when_ready(record: dict[str, Any]) -> None:
        if not froze and record.get("host") == frozen.name and str(record.get("text")).startswith("ready"):
            froze.append(frozen.name)
            frozen.pause()

    started = time.monotonic()
    flight = FlightFromFile(str(EXAMPLES / "flights" / "bali-survey.plan"))
    try:
        report = build_cache(BuildCacheRequest(flight=flight, settings=settings), on_progress=freeze_when_ready)
    finally:
        if froze:
            frozen.unpause()
    took_s = time.monotonic() - started

    assert froze, "nobody was frozen"
    assert (report.exit_code, report.failure_exception_type) == (40, "FleetPartialError"), report.failure_message
    rows = {row.host: row for row in report.companions}
    assert len(rows) == FLEET
    for companion in (frozen, dead):
        row = rows[companion.name]
        assert (row.exit_code, row.failure_exception_type) == (30, "CompanionUnreachableError"), row.failure_message
    caches = {row.cache.content_id for row in rows.values() if row.cache is not None and row.exit_code == 0}
    assert sum(row.exit_code == 0 for row in rows.values()) == len(living)
    assert len(caches) == 1
    for companion in living:
        assert companion.run(f"readlink {companion.cache_root}/current").stdout.startswith("generations/")
    # The dead one costs its boot timeout and the frozen one seconds: nobody waits for either.
    assert took_s < BOUND_S
