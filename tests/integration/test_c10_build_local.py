# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evil builders under the whole main job: nothing is activated, and no secret is anywhere."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
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
