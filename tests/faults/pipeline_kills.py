# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kill -9` into the main job over SSH, and what becomes of it.

A `Pipeline` is one workstation and one companion. `kill_and_run_again` begins a run, kills one of its parties, or the
companion itself, at a moment, waits for the run's end, lets the next run make good, and tells what it saw; `faults_of`
says what of that breaks the promise: a typed end, nothing left within `SETTLE_S`, the old cache or the new one whole on
the companion's disk at every moment, and the same content id as a run that nobody disturbed.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import ExitCode
from ansible_collections.gps_denied.preflight.plugins.module_utils._journal import read_journal
from companion_failures import FAILURES, CompanionOnDisk
from companions import podman
from invariants import companion_faults, run_faults, store_faults

ROOT = Path(__file__).parents[2]
FLIGHT = ROOT / "examples" / "flights" / "bali-survey.plan"
SETTLE_S = 10.0
RUN_S = 110.0
LOOK_EVERY_S = 0.004

WORKSTATION_PHASES = ("flight_resolve", "area", "lock", "download")
COMPANION_PHASES = ("companion_bringup", "sync", "build", "activate")
PARTIES = {
    "driver": WORKSTATION_PHASES + COMPANION_PHASES,
    "ansible-playbook": WORKSTATION_PHASES + COMPANION_PHASES,
    "worker": WORKSTATION_PHASES + COMPANION_PHASES,
    "lock holder": ("download", *COMPANION_PHASES),
    "ssh": COMPANION_PHASES,
    "sshd": COMPANION_PHASES,
    "sync program": ("sync",),
    "supervisor": ("build",),
    "builder": ("build",),
    **dict.fromkeys(FAILURES, WORKSTATION_PHASES + COMPANION_PHASES),
}
"""Each party to a run with the phases in which it lives."""


@dataclass(frozen=True)
class Kill:
    """One kill: of whom, `after_s` seconds after a phase has begun (its name, or `start` for the run itself)."""

    party: str
    phase: str
    after_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.party} {self.after_s:.2f} s into {self.phase}"


@dataclass
class Ended:
    """How a run of the command line ended."""

    status: int
    report: dict[str, Any] | None
    errors: str = ""

    @property
    def content_id(self) -> str | None:
        for row in (self.report or {}).get("companions") or ():
            if row.get("cache"):
                return str(row["cache"]["content_id"])
        return None


@dataclass
class Outcome:
    """What one kill led to. `killed` are the pids it hit; none where the party was not there any more (or yet)."""

    kill: Kill
    killed: list[int]
    phases: list[str]
    ended: Ended
    left_soon: list[str]
    violations: list[str]
    again: Ended | None = None
    left_at_the_end: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items())
        last = self.phases[-1] if self.phases else "nothing"
        said = (self.ended.report or {}).get("failure_exception_type")
        return f"{self.kill}: hit {len(self.killed)} in {last}, ended {self.ended.status} ({said}); {seconds}"


class Pipeline:
    """The main job as an operator gives it: one command line, one companion, a staging root of its own.

    Args:
        companion: A provisioned companion on a disk of its own, used by nobody else.
        folder: For the staging root, the temporary files and the settings; used by nobody else.
        settings: More settings of `operator-tool`.
    """

    def __init__(self, companion: CompanionOnDisk, folder: Path, *, settings: Mapping[str, Any] | None = None) -> None:
        self.companion = companion
        self.folder = folder
        self.staging = folder / "staging"
        self.temporary = folder / "tmp"
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "GPS_DENIED_"))},
            # In no other process's environment: by it the parties on the workstation are told from anybody else's.
            "TMPDIR": str(self.temporary),
            "HOME": str(folder / "home"),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "dev"), str(ROOT / "src")]),
        }
        self._environment.pop("XDG_RUNTIME_DIR", None)
        inventory = folder / "companions.yml"
        inventory.write_text(json.dumps({"companions": {"hosts": {companion.name: companion.inventory_vars}}}))
        self._settings = {
            "cache_staging_root": str(self.staging),
            "tile_source": str(ROOT / "examples" / "imagery" / "bali.pmtiles"),
            "inventory": str(inventory),
            "companion_known_hosts_file": str(companion.known_hosts_path),
            "flight_bbox_buffer_m": 20,
            "takeoff_radius_m": 20,
            "zooms": "18-19",
            "camera_agl_m": 60,
            **(settings or {}),
        }
        self._init = self._find_init()
        self._there_before = set(self._files_there())
        self._runs_before: set[Path] = set()

    def _find_init(self) -> int:
        return int(podman("inspect", "--format", "{{.State.Pid}}", self.companion.container).stdout)

    @property
    def command(self) -> list[str]:
        words = [sys.executable, "-m", "operator_tool", "build-cache", "--flight-file", str(FLIGHT), "--format", "json"]
        for name, value in self._settings.items():
            words += ["--set", f"{name}={value}"]
        return words

    def reset(self) -> None:
        """As before the first run: nothing staged, and on the companion the cache of a flight before."""
        for path in (self.staging, self.temporary, self.folder / "home"):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        self.companion.reset_cache()

    def begin(self) -> subprocess.Popen[bytes]:
        self._runs_before = set(self.staging.glob("runs/*"))
        with (self.folder / "errors").open("wb") as errors:
            return subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    def end(self, driver: subprocess.Popen[bytes]) -> Ended:
        """Wait for its end; a run that does not come to one is killed, and has no status that would be typed."""
        try:
            out, _errors = driver.communicate(timeout=RUN_S)
        except subprocess.TimeoutExpired:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            out, _errors = driver.communicate()
            return Ended(-1, None, f"still ran after {RUN_S:.0f} s; " + self._errors())
        try:
            report = json.loads(out)
        except ValueError:
            report = None
        return Ended(driver.returncode, report, self._errors())

    def run(self) -> Ended:
        """A run that nobody disturbs."""
        return self.end(self.begin())

    def _errors(self) -> str:
        return (self.folder / "errors").read_text(errors="replace")[-2000:]

    def phases(self) -> list[str]:
        """The phases that the newest run has begun."""
        runs = sorted(set(self.staging.glob("runs/*")) - self._runs_before)
        entries = read_journal(str(runs[-1])) if runs else []
        return [str(entry["phase"]) for entry in entries if entry["kind"] == "start" and entry["phase"]]

    # --- the parties ------------------------------------------------------------------------------------------------

    def processes(self) -> dict[int, list[str]]:
        """The run's processes on the workstation, with their arguments."""
        mark = f"TMPDIR={self.temporary}".encode()
        found = {}
        for pid in _pids():
            with suppress(OSError):
                words = _arguments(pid)
                # A persisting ssh writes its title over its environment.
                is_master = words[:1] and words[0].startswith("ssh: ") and str(self.folder) in words[0]
                if is_master or mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found[pid] = words
        return found

    def on_companion(self) -> dict[int, list[str]]:
        """The processes of job, builder and transfer on the companion, with their arguments, by this machine's pids."""
        parents = {pid: _parent(pid) for pid in _pids()}
        found = {}
        for pid in parents:
            above = pid
            while above not in (0, self._init):
                above = parents.get(above, 0)
            words = _arguments(pid) if above else []
            said = " ".join(words)
            at_work = any(mark in said for mark in ("c10-builder", "/jobs/", "gps_denied_sync"))
            if at_work or (words and words[0].endswith(("rsync", "sha256sum"))):
                found[pid] = words
        return found

    def find(self, party: str, driver: int) -> list[int]:
        """The pids of a party, as they are now."""
        if party == "driver":
            return [driver]
        if party in ("supervisor", "builder"):
            there = self.on_companion()
            supervisors = [pid for pid, words in there.items() if "supervise" in words]
            below = [pid for pid in there if _parent(pid) in supervisors]
            return supervisors if party == "supervisor" else below
        if party == "sync program":
            there = self.on_companion()
            return [pid for pid, words in there.items() if "-I" in words and "gps_denied_sync" in " ".join(words)]
        if party == "sshd":
            user = self.companion.user
            return [pid for pid in _pids() if _arguments(pid)[:1] == [f"sshd: {user}@notty"] and self._is_below(pid)]
        here = self.processes()
        playbooks = [pid for pid, words in here.items() if any(word.endswith("ansible-playbook") for word in words)]
        if party == "ansible-playbook":
            return [pid for pid in playbooks if _parent(pid) == driver]
        if party == "worker":
            return [pid for pid in playbooks if _parent(pid) in playbooks]
        if party == "lock holder":
            return [pid for pid, words in here.items() if any(word.endswith("/_lock.py") for word in words)]
        return [pid for pid, words in here.items() if words and os.path.basename(words[0].split(": ")[0]) == party]

    def _is_below(self, pid: int) -> bool:
        while pid > 1 and pid != self._init:
            pid = _parent(pid)
        return pid == self._init

    def kill(self, driver: subprocess.Popen[bytes], kill: Kill) -> list[int]:
        """Wait for the moment and for the party, and kill it; none where the run ended first."""
        began = time.monotonic()
        while driver.poll() is None and kill.phase != "start" and kill.phase not in self.phases():
            time.sleep(LOOK_EVERY_S)
        if kill.phase != "start":
            began = time.monotonic()
        while driver.poll() is None and time.monotonic() < began + kill.after_s:
            time.sleep(LOOK_EVERY_S)
        pids: list[int] = []
        if kill.party in FAILURES:
            return self.companion.fail(kill.party) if driver.poll() is None else []
        while driver.poll() is None and not pids:
            for pid in self.find(kill.party, driver.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    pids.append(pid)
        return pids

    def boot_again(self) -> None:
        """Switch the companion on after its failure."""
        self.companion.start()
        self._init = self._find_init()

    # --- what is left -----------------------------------------------------------------------------------------------

    def left_running(self) -> list[str]:
        """Processes of the run, on both sides, and locks that are held."""
        found = [f"here: {' '.join(words)[:200]}" for words in self.processes().values()]
        found += [f"on the companion: {' '.join(words)[:200]}" for words in self.on_companion().values()]
        if (self.staging / ".c12.lock").exists() and not _is_free(self.staging / ".c12.lock"):
            found.append("here: the lock is held")
        return found

    def left_on_disk(self) -> list[str]:
        """Temporary files on both sides, and the companion's working folders."""
        found = [f"here: {path}" for path in self.temporary.rglob("*") if not path.is_dir()]
        found += [f"here: {path}" for path in self.staging.rglob("*") if _is_temporary(path.name)]
        for line in sorted(set(self._files_there()) - self._there_before):
            busy = line.split("/")[1] in ("work", "jobs", "incoming") and line.count("/") > 1
            if busy or line.startswith("/") or _is_temporary(os.path.basename(line)):
                found.append(f"on the companion: {line}")
        return found

    def left_of_the_build(self) -> list[str]:
        """What a cancelled build may not leave on the companion: its folders, and the lock."""
        root = self.companion.cache_root
        held = f"grep -l '\"held\": *true' {root}/lock.json"
        script = f"find {root}/jobs {root}/work -mindepth 1 -maxdepth 1; {held}; true"
        return [f"on the companion: {line}" for line in self.companion.exec_root(script).stdout.splitlines()]

    def _files_there(self) -> list[str]:
        """What lies in the cache root (from `.` on) and in the places for temporary files, a line each."""
        # The builder's libraries and systemd keep files of their own.
        others = r"\( -name .cache -o -path /tmp/.ses -o -name 'systemd-private-*' \) -prune"
        script = f"cd {self.companion.cache_root} && find . /tmp /var/tmp /home /dev/shm -mindepth 1 {others} -o -print"
        return self.companion.exec_root(script).stdout.splitlines()

    def settled(self, what: Callable[[], list[str]], within_s: float = SETTLE_S) -> list[str]:
        """What is still there after `within_s`; comes back as soon as nothing is."""
        deadline = time.monotonic() + within_s
        while True:
            left = what()
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)


def kill_and_run_again(pipeline: Pipeline, kill: Kill) -> Outcome:
    """One run with a kill in it, from nothing, and the next run."""
    pipeline.reset()
    outcome = disturb(pipeline, kill)
    make_good(pipeline, outcome)
    return outcome


def disturb(pipeline: Pipeline, kill: Kill) -> Outcome:
    """One run with a kill in it, on what runs before it left; a companion that failed boots while the run goes on."""
    began = time.monotonic()
    driver = pipeline.begin()
    killed = pipeline.kill(driver, kill)
    phases = pipeline.phases()
    killed_at = time.monotonic()
    violations = []
    if killed and kill.party in FAILURES:
        violations = companion_faults(pipeline.companion.cache)
        pipeline.boot_again()
    ended = pipeline.end(driver)
    ended_at = time.monotonic()
    cancelled = bool(killed) and kill.party in ("driver", "ansible-playbook") and phases[-1:] == ["build"]
    left_soon = pipeline.settled(
        lambda: pipeline.left_running() + _private(pipeline) + (pipeline.left_of_the_build() if cancelled else [])
    )
    settled_at = time.monotonic()
    violations += companion_faults(pipeline.companion.cache, acknowledged=_acknowledged(pipeline, ended))
    if ended.report is not None:  # The staging root's own temporary files are the next run's to remove.
        found = run_faults(pipeline.staging, ended.status, ended.report, ended.errors)
        violations += [fault for fault in found if not fault.startswith("I9: ")]
    seconds = {
        "until the kill": killed_at - began,
        "until the end": ended_at - killed_at,
        "until nothing was left": settled_at - ended_at,
    }
    return Outcome(kill, killed, phases, ended, left_soon, violations, seconds=seconds)


def make_good(pipeline: Pipeline, outcome: Outcome) -> None:
    """Let the next run converge, and note in the outcome what became of it."""
    began = time.monotonic()
    again = pipeline.run()
    outcome.seconds["run again"] = time.monotonic() - began
    outcome.again = again
    outcome.left_at_the_end = pipeline.settled(lambda: pipeline.left_running() + pipeline.left_on_disk())
    found = companion_faults(
        pipeline.companion.cache, acknowledged=_acknowledged(pipeline, again), at_rest=again.status == ExitCode.SUCCESS
    )
    found += store_faults(pipeline.staging / "tiles")
    outcome.violations += found + run_faults(pipeline.staging, again.status, again.report, again.errors)


def _acknowledged(pipeline: Pipeline, ended: Ended) -> str | None:
    """The generation whose activation a run has told as done: the current one, if it is the run's, or one not there."""
    if ended.status != ExitCode.SUCCESS or ended.content_id is None:
        return None
    current = pipeline.companion.current
    return current if current and current.endswith(ended.content_id[:12]) else f"99999999-{ended.content_id[:12]}"


def faults_of(outcome: Outcome, content_id: str) -> list[str]:
    """What of an outcome is not as promised; `content_id` is that of a run that nobody disturbed."""
    found = []
    ended, again = outcome.ended, outcome.again
    if ended.status != -signal.SIGKILL:
        typed = ended.status in set(ExitCode) - {ExitCode.UNEXPECTED, ExitCode.USAGE}
        if not typed or (ended.report is None and ended.status != ExitCode.LOCK_HELD):
            found.append(f"the killed run ended untyped, with {ended.status}: {ended.errors}")
        elif ended.report and (ended.status == ExitCode.SUCCESS) != (ended.report["outcome"] != "failure"):
            found.append(f"status {ended.status} and outcome {ended.report['outcome']} contradict each other")
    if ended.status == ExitCode.SUCCESS and ended.content_id != content_id:
        found.append(f"the killed run made another cache, {ended.content_id}")
    found += [f"left {SETTLE_S:.0f} s after the end: {item}" for item in outcome.left_soon]
    found += outcome.violations
    if again is not None and (again.status != ExitCode.SUCCESS or again.content_id != content_id):
        found.append(f"the next run ended with {again.status} and {again.content_id}: {again.errors}")
    found += [f"left at the end: {item}" for item in outcome.left_at_the_end]
    return found


def matrix(offsets_s: tuple[float, ...] = (0.0, 0.3)) -> list[Kill]:
    """Every party in every phase in which it lives, at each of these moments."""
    return [
        Kill(party, phase, after_s) for party, phases in PARTIES.items() for phase in phases for after_s in offsets_s
    ]


def random_kills(seed: int, *, run_s: float) -> Iterator[Kill]:
    """Endless kills, each of any party at any moment of a run of `run_s` seconds; the same for the same seed."""
    chance = random.Random(seed)
    parties = sorted(PARTIES)
    while True:
        yield Kill(chance.choice(parties), "start", chance.uniform(0.0, run_s))


def _private(pipeline: Pipeline) -> list[str]:
    """The driver's private folder may hold secrets: it goes with the driver, not with the next run."""
    return [f"here: {path}" for path in pipeline.temporary.glob("gps-denied-*")]


def _is_temporary(name: str) -> bool:
    return ".tmp" in name or name.startswith(".~")


def _is_free(path: Path) -> bool:
    import fcntl

    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").rstrip("\0").split("\0")
    except OSError:
        return []
