# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver and Ansible cost over the phases' own work, with one SSH companion in a container.

The wall time of a whole run less the time inside the phases, beside an empty play over the same connection.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "dev"), str(REPO / "src"), str(REPO / "tests" / "companion")]

import companions  # noqa: E402

from operator_tool import BuildCacheRequest, FlightFromFile, build_cache  # noqa: E402

ROUNDS = 3


def measure(companion: companions.Companion, folder: Path) -> None:
    """Print the figures."""
    inventory = folder / "companions.yml"
    inventory.write_text(json.dumps({"companions": {"hosts": {companion.name: companion.inventory_vars}}}))
    settings = {
        "cache_staging_root": str(folder / "staging"),
        "tile_source": str(REPO / "examples" / "imagery" / "bali.pmtiles"),
        "inventory": str(inventory),
        "companion_known_hosts_file": str(companion.known_hosts_path),
        "companion_cache_root": companion.cache_root,
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18-19",
        "camera_agl_m": 60,
    }
    request = BuildCacheRequest(
        flight=FlightFromFile(str(REPO / "examples/flights/bali-survey.plan")), settings=settings
    )
    rows: dict[str, list[float]] = {
        "build": [],
        "build, overhead": [],
        "no-op": [],
        "no-op, overhead": [],
        "empty play": [],
    }
    play = folder / "empty.yml"
    play.write_text(
        json.dumps([{"hosts": "companions", "gather_facts": False, "tasks": [{"ansible.builtin.raw": "true"}]}])
    )
    for _round in range(ROUNDS):
        companion.reset_cache()
        for name, expected in (("build", "success"), ("no-op", "idempotent_no_op")):
            started = time.monotonic()
            report = build_cache(request)
            wall_s = time.monotonic() - started
            if report.outcome.value != expected:
                sys.exit(f"{name} ended in {report.outcome.value}: {report.failure_message}")
            inside_s = sum(report.timings_s.values()) + sum(report.companions[0].timings_s.values())
            rows[name].append(wall_s)
            rows[f"{name}, overhead"].append(wall_s - inside_s)
        started = time.monotonic()
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), str(play)]
        subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, "ANSIBLE_HOST_KEY_CHECKING": "True"}
        )
        rows["empty play"].append(time.monotonic() - started)
    print(f"one SSH companion, {ROUNDS} rounds, seconds (median, least, most)")
    for name, values in rows.items():
        print(f"  {name:<20} {statistics.median(values):6.2f} {min(values):6.2f} {max(values):6.2f}")
    ratio = statistics.median(rows["no-op"]) / statistics.median(rows["empty play"])
    print(f"  a no-op run takes {ratio:.1f} times an empty play")


def main() -> None:
    """Start a companion and measure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        companion = companions.start_companion(
            "vehicle-01",
            container=f"gps-denied-bench-{os.getpid()}",
            image=companions.provisioned_image(),
            folder=folder / "companions",
            user=companions.CACHE_USER,
        )
        try:
            measure(companion, folder)
        finally:
            companion.remove()


if __name__ == "__main__":
    main()
