# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evil builders under the whole main job: nothing is activated, no secret is anywhere, and memory has a bound."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._redact_encodings import secret_forms

from operator_tool import BuildCacheRequest, FlightFromFile, build_cache

ROOT = Path(__file__).parents[2]
EVIL = ROOT / "tests" / "evil_builders" / "evil.py"
SURVEY = str(ROOT / "examples" / "flights" / "bali-survey.plan")
CANARIES: tuple[str, ...] = ast.literal_eval(EVIL.read_text().split("CANARIES = ")[1].split("\n")[0])


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of the embedded default, with secrets that the evil builder knows too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "companion").mkdir()
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    names = ("satellite_provider_api_key_file", "flights_api_auth_token_file")
    for name, canary in zip(names, CANARIES, strict=True):
        (secrets / name).write_text(canary + "\n")
        (secrets / name).chmod(0o600)
    return {
        **{name: str(secrets / name) for name in names},
        "cache_staging_root": str(tmp_path / "staging"),
        "companion_cache_root": str(tmp_path / "companion"),
        "tile_source": str(ROOT / "examples" / "imagery" / "bali.pmtiles"),
        "inventory": str(ROOT / "inventory" / "embedded" / "hosts.yml"),
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18",
        "camera_agl_m": 60,
    }


def evil(settings: dict[str, Any], mode: str) -> dict[str, Any]:
    return {**settings, "c10_builder_command": shlex.join([sys.executable, "-I", "-S", str(EVIL), mode])}


def given_away(data: bytes) -> list[bytes]:
    return [form for form in (b"canary", *secret_forms(CANARIES)) if form in data]


def processes_that_know() -> set[str]:
    """Command lines and environments of this machine that give a secret away."""
    found = set()
    for entry in Path("/proc").iterdir():
        for name in ("cmdline", "environ"):
            try:
                data = (entry / name).read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if given_away(data):
                found.add(f"{entry.name} {name}")
    return found


def test_no_secret_is_anywhere_during_and_after_a_run_at_the_highest_verbosity(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    variables = {**evil(settings, "secrets"), "flight_file": SURVEY, "report": str(tmp_path / "report.json")}
    command = [
        *(str(Path(sys.executable).parent / "ansible-playbook"), str(ROOT / "playbooks" / "build_cache.yml")),
        *("-vvvv", "-i", settings["inventory"], "-e", json.dumps(variables)),
    ]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "dev"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    output = tmp_path / "output"
    with output.open("wb") as file:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)
        know: set[str] = set()
        while running.poll() is None:
            know |= processes_that_know()
            try:
                running.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
    assert running.returncode == 2, output.read_text()
    assert know == set()
    assert "<redacted>" in output.read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["exit_code"], report["failure_exception_type"]) == (21, "RemoteBuildError")
    assert report["failure_message"] == "the builder failed (x): refused <redacted>"
    searched = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "secrets"]
    assert any(path.name.startswith("builder-") for path in searched)
    assert {str(path): found for path in searched if (found := given_away(path.read_bytes()))} == {}


def test_what_a_builder_prints_forges_no_event_and_reaches_no_terminal(settings: dict[str, Any]) -> None:
    records: list[dict[str, Any]] = []
    request = BuildCacheRequest(flight=FlightFromFile(SURVEY), settings=evil(settings, "escapes"))
    report = build_cache(request, on_progress=records.append)
    assert (report.exit_code, report.failure_exception_type) == (21, "BuildReportParseError")
    assert report.failure_message == "the builder reports success, and has left no file"
    assert not (Path(settings["companion_cache_root"]) / "current").exists()
    assert any(record["t"] == "line" for record in records)
    assert "\\u001b" not in json.dumps(records).lower()


MAX_DRIVER_BYTES = 200_000_000
# A process begins with the size of the one that it was forked from: a small one between, or it would be that of pytest.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
with open(sys.argv[1], "w") as stream:
    stream.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
MAX_SUPERVISOR_BYTES = 64_000_000


class Flood:
    """A run whose builder talks without end: how it ended, and the most memory that anybody in it took."""

    def __init__(self, settings: dict[str, Any], mode: str) -> None:
        root = Path(settings["cache_staging_root"]).parent
        command = [str(Path(sys.executable).parent / "operator-tool"), "build-cache", "--flight-file", SURVEY]
        for name, value in evil(settings, mode).items():
            command += ["--set", f"{name}={value}"]
        command += ["--report", str(root / "report.json")]
        self.supervisor_bytes = 0
        self._companion_root = settings["companion_cache_root"].encode()
        ended = threading.Event()
        watch = threading.Thread(target=self._watch, args=(ended,))
        watch.start()
        with (root / "output").open("wb") as output:
            measured = [sys.executable, "-I", "-c", MEASURE, str(root / "rss"), *command]
            subprocess.run(measured, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        ended.set()
        watch.join()
        self.report = json.loads((root / "report.json").read_text())
        self.output_bytes = (root / "output").stat().st_size
        # Of the driver, of ansible-playbook and of its workers: whoever took the most.
        self.driver_bytes = int((root / "rss").read_text()) * 1024
        (self.log,) = root.glob("staging/runs/*/builder-*.ndjson")

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(0.05):
            for entry in Path("/proc").iterdir():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                    if b"supervise" not in words or self._companion_root not in b"".join(words):
                        continue
                    lines = (entry / "status").read_text().splitlines()
                except OSError:
                    continue
                sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
                self.supervisor_bytes = max(self.supervisor_bytes, *sizes, 0)

    def assert_bounded(self) -> None:
        print(f"driver {self.driver_bytes / 1e6:.0f} MB, supervisor {self.supervisor_bytes / 1e6:.0f} MB")  # noqa: T201
        assert 0 < self.supervisor_bytes < MAX_SUPERVISOR_BYTES
        assert self.driver_bytes < MAX_DRIVER_BYTES
        assert self.output_bytes < 1_000_000, "the terminal was flooded"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("thousands", [50, pytest.param(1000, marks=pytest.mark.soak)])
def test_a_builder_that_prints_line_upon_line_is_logged_whole_in_bounded_memory(
    settings: dict[str, Any], thousands: int
) -> None:
    flood = Flood(settings, f"many_lines:{thousands}")
    flood.assert_bounded()
    assert flood.report["failure_message"] == "the builder reports success, and has left no file"
    with flood.log.open("rb") as file:
        assert sum(b'"progress"' in line for line in file) == thousands * 1000


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("mebibytes", "says"),
    [
        (32, "the builder reports success, and has left no file"),
        pytest.param(
            1024,
            "the build was stopped: the command wrote more than its log may hold",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_a_line_without_an_end_is_cut_in_bounded_memory(settings: dict[str, Any], mebibytes: int, says: str) -> None:
    flood = Flood(settings, f"long_line:{mebibytes}")
    flood.assert_bounded()
    assert flood.report["exit_code"] == 21
    assert flood.report["failure_message"] == says
    with flood.log.open("rb") as file:
        (line,) = [json.loads(line) for line in file]
    assert line["cut"]
    assert len(line["text"]) == 64 * 1024
