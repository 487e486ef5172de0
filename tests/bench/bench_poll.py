# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What following a build costs over SSH, with one companion in a container.

The round trip of one poll and its processor time on the companion; the share of a core that following takes, of a
builder that is silent and of one that talks; how old a builder's line is when the terminal shows it; and what starting
and finishing a job add to the builder's own time.
"""

from __future__ import annotations

import binascii
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "dev"), str(REPO / "src"), str(REPO / "tests" / "companion")]

import companions  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._line_stream import stream_lines  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job import (  # noqa: E402
    CommandResult,
    JobLimits,
    JobSpec,
    RemoteJob,
    follow_job,
)

EVIL = REPO / "tests" / "evil_builders" / "evil.py"
POLLS = 60
FOLLOWED_S = 30
LINES = 15
MAX_POLL_MS, MAX_SHARE_PERCENT, MAX_AGE_MS, MAX_OVERHEAD_S = 60.0, 1.0, 200.0, 3.0


class Bench:
    """One companion, and the persisting connection to it that Ansible would have."""

    def __init__(self, companion: companions.Companion, folder: Path) -> None:
        self.companion = companion
        self.folder = folder
        persist = ["-o", "ControlMaster=auto", "-o", f"ControlPath={folder}/%C", "-o", "ControlPersist=30s"]
        self._ssh = ["ssh", *companion.ssh_options, *persist, f"{companion.user}@{companion.address}"]
        companion.exec_root(f"cat > /usr/local/bin/evil.py <<'END-OF-EVIL'\n{EVIL.read_text()}\nEND-OF-EVIL")

    def run(self, command: str, data: bytes | None) -> CommandResult:
        with tempfile.TemporaryFile() as errors:
            done = subprocess.run(
                [*self._ssh, command], input=data or b"", stdout=subprocess.PIPE, stderr=errors, check=False
            )
            errors.seek(0)
            return CommandResult(done.returncode, done.stdout.decode(), errors.read().decode())

    def lines(self, command: str) -> Generator[str, None, CommandResult]:
        """As the actions of a playbook do."""
        words = [self._ssh[0], "-o", "ControlMaster=no", *self._ssh[1:], command]
        return stream_lines(words, silence_s=30.0)

    def job(self, mode: str, **request: Any) -> RemoteJob:
        """A job with a builder of this kind, ready to be started."""
        run_id = "bench-" + secrets.token_hex(4)
        folder = f"{self.companion.cache_root}/jobs/{run_id}"
        request = json.dumps({"run_id": run_id, "nonce": "0" * 32, "work_dir": folder, **request})
        self.run(f"mkdir -p {folder} && cat > {folder}/request.json", request.encode())
        command = ("/usr/bin/python3", "/usr/local/bin/evil.py", mode)
        spec = JobSpec(
            run_id=run_id,
            folder=f"{folder}/job",
            command=command,
            request_path=f"{folder}/request.json",
            mode="session",
        )
        return RemoteJob(self.run, spec, lines=self.lines)

    def busy_s(self) -> float:
        """Processor seconds of everything on the companion so far."""
        init = companions.podman("inspect", "--format", "{{.State.Pid}}", self.companion.container).stdout.strip()
        for line in Path(f"/proc/{init}/cgroup").read_text().splitlines():
            _number, controllers, path = line.split(":", 2)
            path = path.removesuffix("/init.scope")
            if not controllers:
                for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
                    stat = Path(f"{root}{path}/cpu.stat")
                    if stat.exists() and "usage_usec" in stat.read_text():
                        return int(stat.read_text().split()[1]) / 1e6
            elif "cpuacct" in controllers.split(","):
                return int(Path(f"/sys/fs/cgroup/{controllers}{path}/cpuacct.usage").read_text()) / 1e9
        raise SystemExit("no control group tells what the companion's processor did")


def said(name: str, values: Sequence[float], unit: str, most: float) -> None:
    """One row: median, 95th percentile, most, and whether the median keeps its bound."""
    ordered = sorted(values)
    middle, high = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    word = "ok" if middle <= most else "OVER"
    print(f"  {name:<44} {middle:8.2f} {high:8.2f} {ordered[-1]:8.2f} {unit:<3} (at most {most:g}: {word})")


def poll_costs(bench: Bench) -> None:
    """Round trip and processor time of one answer that has nothing to wait for, a command of its own each."""
    job = bench.job("hang")
    job.start()
    limits = JobLimits(poll_wait_s=0.0, gather_s=0.0, follow_s=0.0)
    took_ms = []
    quiet_s = rate(bench, lambda: time.sleep(5.0))
    before_s, began = bench.busy_s(), time.monotonic()
    for _round in range(POLLS):
        started = time.monotonic()
        list(job.follow(out=0, err=0, limits=limits))
        took_ms.append((time.monotonic() - started) * 1e3)
    spent_s = bench.busy_s() - before_s - quiet_s * (time.monotonic() - began)
    job.cancel()
    said("one poll, round trip", took_ms, "ms", MAX_POLL_MS)
    print(f"  {'one poll, processor time on the companion':<44} {spent_s / POLLS * 1e3:8.2f} ms")


def rate(bench: Bench, act: Callable[[], Any]) -> float:
    """Processor seconds a second on the companion while `act` lasts."""
    before_s, began = bench.busy_s(), time.monotonic()
    act()
    return (bench.busy_s() - before_s) / (time.monotonic() - began)


def shares(bench: Bench) -> None:
    """Share of a core that following takes, beyond the same builder unfollowed."""
    for pause_s, name in (
        (3600.0, "following a silent builder"),
        (0.73, "following one that talks every 0.7 s"),
        (0.05, "following one that talks 20 times a second"),
    ):
        request = {"size": 2 + int(FOLLOWED_S * 2 / pause_s), "pause_s": pause_s}
        unfollowed = bench.job("stamped", **request)
        unfollowed.start()
        alone = rate(bench, lambda: time.sleep(FOLLOWED_S))
        unfollowed.cancel()
        followed = bench.job("stamped", **request)
        followed.start()
        ages_ms: list[float] = []

        def follow(job: RemoteJob = followed, ages_ms: list[float] = ages_ms) -> None:
            """As long as asked, whatever is heard; a line's age is that in the driver's hands."""
            limits = JobLimits(follow_s=FOLLOWED_S)
            for answer in job.follow(out=0, err=0, limits=limits):
                for line in binascii.a2b_base64(answer["out"]["data"]).splitlines():
                    text = json.loads(line).get("text", "")
                    if text[:1].isdigit():
                        ages_ms.append((time.time() - float(text)) * 1e3)

        said(name, [(rate(bench, follow) - alone) * 100.0], "%", MAX_SHARE_PERCENT)
        followed.cancel()
        if len(ages_ms) > 1:
            said("  age of its lines at the driver", ages_ms, "ms", MAX_AGE_MS)


def ages(bench: Bench) -> None:
    """How old a builder's line is when the driver's terminal has it."""
    companion, folder = bench.companion, bench.folder
    inventory = folder / "companions.yml"
    inventory.write_text(json.dumps({"companions": {"hosts": {companion.name: companion.inventory_vars}}}))
    settings = {
        "cache_staging_root": folder / "staging",
        "tile_source": REPO / "examples" / "imagery" / "bali.pmtiles",
        "inventory": inventory,
        "companion_known_hosts_file": companion.known_hosts_path,
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18",
        "camera_agl_m": 60,
        "c10_builder_command": f"/usr/bin/python3 /usr/local/bin/evil.py stamped:{LINES}",
    }
    command = [str(Path(sys.executable).parent / "operator-tool"), "build-cache", "--format", "json"]
    command += ["--flight-file", str(REPO / "examples" / "flights" / "bali-survey.plan")]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    ages_ms = []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as driver:
        for line in driver.stderr or ():
            record = json.loads(line)
            if record["t"] == "progress" and record["phase"] == "build" and record["text"]:
                ages_ms.append((time.time() - float(record["text"])) * 1e3)
    said("age of a line on the terminal", ages_ms or [float("inf")], "ms", MAX_AGE_MS)


def overhead(bench: Bench) -> None:
    """A builder that reports at once: all of the rest is starting and finishing."""
    took_s = []
    for _round in range(5):
        job = bench.job("good")
        started = time.monotonic()
        end = follow_job(job, on_out=lambda _data: None, on_err=lambda _data: None)
        took_s.append(time.monotonic() - started - end.duration_s)
        job.clean()
    said("start and finish beyond the builder's time", took_s, "s", MAX_OVERHEAD_S)


def main() -> None:
    """Start a companion and measure."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        companion = companions.start_companion(
            "vehicle-01",
            container=f"gps-denied-bench-poll-{os.getpid()}",
            image=companions.provisioned_image(),
            folder=folder / "companions",
            user=companions.CACHE_USER,
        )
        try:
            bench = Bench(companion, folder)
            print(f"following a build over SSH; load {os.getloadavg()[0]:.1f} (median, 95th percentile, most)")
            for measure in (poll_costs, overhead, ages, shares):
                measure(bench)
        finally:
            companion.remove()


if __name__ == "__main__":
    main()
