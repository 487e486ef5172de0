# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kill -9` at random moments of the whole job on this machine, again and again, until a run is let be.

The embedded companion makes a run short enough for hundreds; `pipeline_kills.py` does the same over SSH.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import ExitCode
from invariants import companion_faults, run_faults, store_faults

from operator_tool import BuildCacheRequest, FlightFromFile, _die_with_parent, build_cache

ROOT = Path(__file__).parents[2]
FLIGHT = ROOT / "examples" / "flights" / "bali-survey.plan"
INVENTORY = ROOT / "inventory" / "embedded" / "hosts.yml"
TYPED = {int(code) for code in ExitCode} - {ExitCode.UNEXPECTED, ExitCode.USAGE}
SETTLE_S = 15.0
RUN_S = 180.0


class LocalPipeline:
    """The main job with this machine as the companion, on folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.staging, self.companion, self.temporary = folder / "staging", folder / "companion", folder / "tmp"
        self._mark = f"TMPDIR={self.temporary}".encode()
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "GPS_DENIED_"))},
            "TMPDIR": str(self.temporary),
            "HOME": str(folder / "home"),
            "PYTHONPATH": os.pathsep.join([str(ROOT / name) for name in ("dev", "src", "builder/src")]),
        }
        self._environment.pop("XDG_RUNTIME_DIR", None)
        self.reset()

    def reset(self) -> None:
        for path in (self.staging, self.companion, self.temporary, self.folder / "home"):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)

    def begin(self) -> subprocess.Popen[bytes]:
        settings: dict[str, Any] = {
            "cache_staging_root": self.staging,
            "companion_cache_root": self.companion,
            "tile_source": ROOT / "examples" / "imagery" / "bali.pmtiles",
            "inventory": INVENTORY,
            "flight_bbox_buffer_m": 20,
            "takeoff_radius_m": 20,
            "zooms": "18",
            "camera_agl_m": 60,
        }
        command = [sys.executable, "-m", "operator_tool", "build-cache", "--format", "json"]
        command += ["--flight-file", str(FLIGHT)]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def end(self, driver: subprocess.Popen[bytes]) -> tuple[int, dict[str, Any] | None, str]:
        """Status, report and words of a run, at its end."""
        out, err = driver.communicate(timeout=RUN_S)
        report = None
        with suppress(ValueError):
            report = json.loads(out)
        return driver.returncode, report, err.decode(errors="replace")

    def processes(self) -> list[int]:
        """Everything that belongs to the run: by its temporary folder, or by a path on its companion."""
        there = [str(self.companion / name).encode() for name in ("jobs", "work")]
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                ours = self._mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                words = Path(f"/proc/{name}/cmdline").read_bytes()
                if ours or any(path in words for path in there):
                    found.append(int(name))
        return found

    def settled(self) -> list[int]:
        """What still runs after a while; comes back as soon as nothing does."""
        deadline = time.monotonic() + SETTLE_S
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[LocalPipeline]:
    made = LocalPipeline(tmp_path)
    yield made
    for pid in made.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def content_of(report: dict[str, Any] | None) -> str | None:
    rows = (report or {}).get("companions") or []
    return rows[0]["cache"]["content_id"] if rows and rows[0]["cache"] else None


def converge(pipeline: LocalPipeline, kills: int, *, seed: int) -> Counter[str]:
    """Kill so many times, one of the run's processes or all of them at once; what was hit and how the runs ended.

    After each kill the next run is killed as well, with chances of three in four; a run that is let be must end well,
    with the content of a run that was never disturbed and nothing left over.
    """
    chance = random.Random(seed)
    began = time.monotonic()
    status, report, said = pipeline.end(pipeline.begin())
    assert status == 0, said
    undisturbed, span_s = content_of(report), time.monotonic() - began
    seen: Counter[str] = Counter()
    pipeline.reset()
    while seen["kills"] < kills:
        driver = pipeline.begin()
        with suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=chance.uniform(0.0, span_s))
        victims = pipeline.processes()
        if victims:
            everybody = chance.random() < 0.3
            for pid in victims if everybody else [chance.choice(victims)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            seen["kills"] += 1
            seen["power" if everybody else "one process"] += 1
        status, report, said = pipeline.end(driver)
        where = f"after kill {seen['kills']} with seed {seed}: {status} {report and report['failure_message']} {said}"
        seen["ended " + ("killed" if status == -signal.SIGKILL else "well" if status == 0 else "typed")] += 1
        assert status in TYPED or status == -signal.SIGKILL, where
        faults = run_faults(pipeline.staging, status, report, said) if status != ExitCode.LOCK_HELD else []
        faults = [fault for fault in faults if not fault.startswith("I9: ")]
        assert faults + companion_faults(pipeline.companion) == [], where
        if seen["kills"] < kills and chance.random() < 3 / 4:
            continue
        pipeline.settled()  # a driver that is gone at once leaves its playbook some seconds to end and free the lock
        status, report, said = pipeline.end(pipeline.begin())
        where = f"the run after kill {seen['kills']} with seed {seed}: {status} {report} {said}"
        assert (status, content_of(report)) == (0, undisturbed), where
        assert pipeline.settled() == [], where
        faults = companion_faults(pipeline.companion, at_rest=True) + store_faults(pipeline.staging / "tiles")
        assert faults + run_faults(pipeline.staging, status, report, said) == [], where
        seen["converged"] += 1
        if chance.random() < 0.5:
            pipeline.reset()
    return seen


@pytest.mark.timeout(300)
def test_random_kills_of_the_whole_job_converge(pipeline: LocalPipeline) -> None:
    seen = converge(pipeline, 1, seed=4)
    assert (seen["kills"], seen["converged"]) == (1, 1)


@pytest.mark.parametrize("word", ["", "print('PLAY [Prepare]', flush=True); "])
def test_an_ansible_that_is_killed_before_the_run_begins_is_a_typed_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    program = tmp_path / "killed.py"
    program.write_text(f"import os, sys; {word}os.kill(os.getpid(), 9)\n", encoding="utf-8")
    monkeypatch.setattr(_die_with_parent, "__file__", str(program))
    settings = {"cache_staging_root": str(tmp_path / "staging"), "inventory": str(INVENTORY)}
    report = build_cache(BuildCacheRequest(flight=FlightFromFile(str(FLIGHT)), settings=settings))
    assert (report.exit_code, report.failure_exception_type) == (130, "BuildCancelledError")
    assert report.failure_message == "ansible-playbook was killed before the run began"
    assert json.loads((tmp_path / "staging" / "reports" / f"{report.run_id}.json").read_bytes()) == report.to_dict()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 11))
def test_random_kills_of_the_whole_job_converge_again_and_again(
    pipeline: LocalPipeline, seed: int, record_property: Callable[[str, object], None]
) -> None:
    seen = converge(pipeline, 20, seed=seed)
    for name, count in sorted(seen.items()):
        record_property(name, count)
    assert seen["kills"] == 20
    assert seen["converged"] > 0
