# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of companions in containers, one switched off and one that freezes in mid-run: how long, and how much memory.

What the machine's processors did meanwhile, spread over all of them, is the least that such a run can take here, where
workstation and companions share the machine. Needs a machine that does nothing else.

    bench_fleet.py [number of companions, default 16]
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / name) for name in ("dev", "src", "tests/companion")]

import companions  # noqa: E402

FLEET = 16
POLL_S = 0.25
MEMORY_GOAL_BYTES = 300e6
WALL_GOAL_RATIO = 2.0
START_TOGETHER = 4


def busy_s() -> float:
    """Seconds that all processors together have worked since boot."""
    user, nice, system, _idle, _wait, irq, softirq = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """The process and all that it has started."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def memory_bytes(pid: int) -> int:
    """Proportional set size of a process and its descendants: shared pages count once."""
    total = 0
    for one in descendants(pid):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += int(next(line for line in lines if line.startswith("Pss:")).split()[1]) * 1024
    return total


class Run:
    """One run of the driver, watched."""

    def __init__(self, command: list[str], frozen: companions.Companion) -> None:
        self.peak_bytes = 0
        self.froze_at_s = 0.0
        self._frozen = frozen
        self._started = time.monotonic()
        busy = busy_s()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            targets = (self._watch, self._read)
            readers = [threading.Thread(target=target, args=(process,)) for target in targets]
            for reader in readers:
                reader.start()
            self.said = process.stdout.read() if process.stdout else ""
            self.exit_code = process.wait()
            self.wall_s = time.monotonic() - self._started
            self.busy_s = busy_s() - busy
            for reader in readers:
                reader.join()

    def _watch(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            self.peak_bytes = max(self.peak_bytes, memory_bytes(process.pid))
            time.sleep(POLL_S)

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Freeze the one as soon as it is ready; in mid-build a link may be gone for minutes, which are waited for."""
        for line in process.stderr or ():
            if not self.froze_at_s and f'"phase":"companion_bringup","host":"{self._frozen.name}"' in line:
                self._frozen.pause()
                self.froze_at_s = time.monotonic() - self._started


def start_fleet(folder: Path, count: int) -> list[companions.Companion]:
    """Companions with one key, some at a time."""
    image = companions.provisioned_image()
    key = companions.make_key(folder / "id_ed25519")

    def start(number: int) -> companions.Companion:
        name = f"vehicle-{number:02d}"
        return companions.start_companion(
            name,
            container=f"gps-denied-bench-{os.getpid()}-{number}",
            image=image,
            folder=folder / name,
            user=companions.CACHE_USER,
            private_key_path=key,
        )

    with ThreadPoolExecutor(START_TOGETHER) as pool:
        return list(pool.map(start, range(1, count + 1)))


def measure(fleet: list[companions.Companion], folder: Path) -> bool:
    """Print the figures; whether they are good enough."""
    *_living, frozen, dead = fleet
    dead.stop()
    inventory, known_hosts = folder / "companions.yml", folder / "known_hosts"
    inventory.write_text(json.dumps({"companions": {"hosts": {one.name: one.inventory_vars for one in fleet}}}))
    known_hosts.write_text("".join(one.known_hosts_path.read_text() for one in fleet))
    settings = {
        "cache_staging_root": folder / "staging",
        "tile_source": REPO / "examples" / "imagery" / "bali.pmtiles",
        "inventory": inventory,
        "companion_known_hosts_file": known_hosts,
        "companion_cache_root": companions.CACHE_ROOT,
        "companion_boot_timeout_s": 5,
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18-19",
        "camera_agl_m": 60,
        "stall_timeout_s": 20,
    }
    command = [sys.executable, "-m", "operator_tool", "build-cache", "--format", "json"]
    command += ["--flight-file", str(REPO / "examples/flights/bali-survey.plan")]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    run = Run(command, frozen)
    report = json.loads(run.said)
    rows = {row["host"]: row for row in report["companions"]}
    good = [row for row in rows.values() if row["outcome"] == "success"]
    ideal_s = run.busy_s / (os.cpu_count() or 1)
    print(f"{len(fleet)} companions, one off, one frozen {run.froze_at_s:.0f} s after the start")
    for row in rows.values():
        took = f"{sum(row['timings_s'].values()):6.1f} s"
        print(f"  {row['host']}  {row['outcome']:<8} exit {row['exit_code']:<3} {took}  {row['failure_message'] or ''}")
    print(f"  exit code {run.exit_code}, {len(good)} ready, wall {run.wall_s:.1f} s, processors {run.busy_s:.1f} s")
    goals = [
        ("wall / CPU-bound ideal", run.wall_s / ideal_s, WALL_GOAL_RATIO),
        ("memory on the workstation, MB", run.peak_bytes / 1e6, MEMORY_GOAL_BYTES / 1e6),
    ]
    for name, value, limit in goals:
        print(f"  {name:<32}{value:8.2f} (at most {limit:g}){'' if value <= limit else '  MISSED'}")
    right = run.exit_code == 40 and len(good) == len(fleet) - 2 and run.froze_at_s > 0
    return right and all(value <= limit for _name, value, limit in goals)


def main() -> int:
    """Start the fleet and measure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else FLEET
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            return int(not measure(start_fleet(folder, count), folder))
        finally:
            for number in range(1, count + 1):
                companions.podman(
                    "rm", "--force", "--ignore", "--time", "0", f"gps-denied-bench-{os.getpid()}-{number}", check=False
                )


if __name__ == "__main__":
    sys.exit(main())
