# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job through the driver, with this machine as the companion and the examples' imagery."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invariants import companion_faults, run_faults, store_faults
from tree_hash import tree

import operator_tool
from operator_tool import (
    BuildCacheRequest,
    BuildLockHeldError,
    CacheBuildOutcome,
    CacheBuildReport,
    FlightById,
    FlightFromFile,
    InventoryPart,
    build_cache,
)

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SURVEY = str(EXAMPLES / "flights" / "bali-survey.plan")
BIN = Path(sys.executable).parent


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of the embedded default, on folders of the test's own."""
    monkeypatch.chdir(tmp_path)
    companion = tmp_path / "companion"
    companion.mkdir()
    return {
        "cache_staging_root": str(tmp_path / "staging"),
        "companion_cache_root": str(companion),
        "tile_source": str(EXAMPLES / "imagery" / "bali.pmtiles"),
        "flights_dir": str(EXAMPLES / "flights"),
        "inventory": str(ROOT / "inventory" / "embedded" / "hosts.yml"),
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18-19",
        "camera_agl_m": 60,
    }


def build(settings: dict[str, Any], flight: Any = None, **kwargs: Any) -> CacheBuildReport:
    return build_cache(BuildCacheRequest(flight=flight or FlightFromFile(SURVEY), settings=settings, **kwargs))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and change time of everything below a folder: equal means that nothing was written or renamed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            found[str(path.relative_to(folder))] = (status.st_ino, status.st_mtime_ns)
    return found


def lock_is_free(settings: dict[str, Any]) -> bool:
    import filelock

    lock = filelock.FileLock(Path(settings["cache_staging_root"]) / ".c12.lock", timeout=0)
    try:
        with lock:
            return True
    except filelock.Timeout:
        return False


def active(settings: dict[str, Any]) -> Path:
    return (Path(settings["companion_cache_root"]) / "current").resolve(strict=True)


def test_a_part_of_the_fleet(settings: dict[str, Any], tmp_path: Path) -> None:
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    nobody = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    inventory = tmp_path / "fleet.json"
    inventory.write_text(json.dumps({"companions": {"hosts": {"drone-1": here, "drone-2": nobody}}}))
    settings["inventory"] = str(inventory)
    report = build(settings, companion=InventoryPart("drone-1"), check=True)
    checked = (report.outcome, [row.host for row in report.companions])
    assert checked == (CacheBuildOutcome.CHECKED, ["drone-1"]), report.failure_message
    report = build(settings, companion=InventoryPart("drone-3"), check=True)
    assert (report.exit_code, report.companions) == (2, ())
    assert report.failure_message == "no companion of the inventory is one that --limit names"
    words = ("verify", "--inventory", str(inventory), "--limit", "drone-3")
    told = subprocess.run([BIN / "operator-tool", *words], capture_output=True, text=True, check=False)
    assert (told.returncode, "--limit" in told.stderr) == (2, True), told.stderr


def test_the_main_job_and_then_nothing_to_do(settings: dict[str, Any]) -> None:
    records: list[dict[str, Any]] = []
    request = BuildCacheRequest(flight=FlightFromFile(SURVEY), settings=settings)
    report = build_cache(request, on_progress=records.append)
    assert report.outcome is CacheBuildOutcome.SUCCESS, report.failure_message
    assert report.download is not None
    assert report.download.requested == report.download.downloaded > 10
    (row,) = report.companions
    assert row.cache is not None
    assert row.build is not None
    assert {record["phase"] for record in records} >= {
        "flight_resolve",
        "area",
        "download",
        "sync",
        "build",
        "activate",
    }

    generation = active(settings)
    manifest = (generation / "MANIFEST").read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == row.cache.content_id
    for line in manifest.decode().splitlines():
        sha256, size, name = line.split(" ", 2)
        content = (generation / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (sha256, int(size))
    staging = Path(settings["cache_staging_root"])
    assert companion_faults(Path(settings["companion_cache_root"]), at_rest=True) == []
    assert run_faults(staging, 0, report.to_dict(), "") + store_faults(staging / "tiles") == []
    saved = json.loads((Path(settings["cache_staging_root"]) / "reports" / f"{report.run_id}.json").read_text())
    assert saved == report.to_dict()
    assert lock_is_free(settings)

    before, whole = snapshot(Path(settings["companion_cache_root"])), tree(staging / "tiles")
    foretold = build(settings, check=True)
    assert foretold.outcome is CacheBuildOutcome.IDEMPOTENT_NO_OP, foretold.failure_message
    foretold = build({**settings, "camera_agl_m": 70}, check=True)
    assert foretold.outcome is CacheBuildOutcome.CHECKED, foretold.failure_message
    assert tree(staging / "tiles") == whole
    again = build(settings)
    assert again.outcome is CacheBuildOutcome.IDEMPOTENT_NO_OP, again.failure_message
    assert again.download is not None
    assert (again.download.downloaded, again.download.reused) == (0, report.download.requested)
    assert snapshot(Path(settings["companion_cache_root"])) == before


def test_a_broken_cache_is_no_reason_to_do_nothing(settings: dict[str, Any]) -> None:
    assert build(settings).outcome is CacheBuildOutcome.SUCCESS
    tiles = active(settings) / "tiles.pmtiles"
    tiles.chmod(0o644)
    content = bytearray(tiles.read_bytes())
    content[len(content) // 2] ^= 1
    tiles.write_bytes(content)
    report = build(settings)
    assert report.outcome is CacheBuildOutcome.SUCCESS, report.failure_message


def test_the_playbook_leaves_the_same_report(settings: dict[str, Any], tmp_path: Path) -> None:
    driver = build(settings, FlightById("bali-survey"))
    shutil.rmtree(settings["companion_cache_root"])
    Path(settings["companion_cache_root"]).mkdir()
    variables = {**settings, "flight_id": "bali-survey", "report": str(tmp_path / "report.json")}
    done = playbook(variables)
    assert done.returncode == 0, done.stdout
    plain = json.loads((tmp_path / "report.json").read_text())
    expected = driver.to_dict()
    assert list(plain) == list(expected)
    for key in ("outcome", "flight", "exit_code", "failure_phase"):
        assert plain[key] == expected[key], key
    assert plain["companions"][0]["cache"]["content_id"] == expected["companions"][0]["cache"]["content_id"]


def playbook(variables: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "ansible-playbook"), str(ROOT / "playbooks" / "build_cache.yml"), "-i", variables["inventory"]]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "dev"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    return subprocess.run(
        [*command, *arguments, "-e", json.dumps(variables)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=110,
    )


def test_a_dry_run_changes_nothing_and_says_what_would_follow(settings: dict[str, Any]) -> None:
    records: list[dict[str, Any]] = []
    request = BuildCacheRequest(flight=FlightFromFile(SURVEY), settings=settings, check=True)
    report = build_cache(request, on_progress=records.append)
    assert (report.exit_code, report.outcome) == (0, CacheBuildOutcome.CHECKED), report.failure_message
    assert [row.outcome for row in report.companions] == [CacheBuildOutcome.CHECKED]
    said = "\n".join(str(record.get("text")) for record in records)
    assert "would ask bali for 15 of 15 tiles" in said
    assert "ready; would build because tiles are to be fetched first" in said
    assert not list(Path(settings["companion_cache_root"]).iterdir())
    assert not (Path(settings["cache_staging_root"]) / ".c12.lock").exists()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers every request with the status that its server was given."""

    def do_GET(self) -> None:
        body = b"{}"
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[Any]:
    """Start a loopback server that always answers with one status; gives its URL."""
    started: list[http.server.ThreadingHTTPServer] = []

    def start(status: int) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        server.status = status  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


BROKEN_FLIGHTS = {
    "missing.plan": (None, 94, "FlightFileError"),
    "broken.plan": ("{", 94, "FlightFileError"),
    "empty.waypoints": ("QGC WPL 110\n", 95, "FlightRouteError"),
}


@pytest.mark.parametrize("name", BROKEN_FLIGHTS)
def test_a_flight_file_that_cannot_be_used(settings: dict[str, Any], tmp_path: Path, name: str) -> None:
    text, code, kind = BROKEN_FLIGHTS[name]
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    report = build(settings, FlightFromFile(str(path)))
    assert (report.exit_code, report.failure_exception_type, report.failure_phase) == (code, kind, "flight_resolve")
    assert name in str(report.failure_message)
    # Resolving comes before the lock: nobody waits for a flight that cannot be resolved.
    assert not (Path(settings["cache_staging_root"]) / ".c12.lock").exists()
    assert not list(Path(settings["companion_cache_root"]).iterdir())


@pytest.mark.parametrize(("status", "code"), [(404, 90), (401, 91), (403, 91), (200, 93)])
def test_what_the_flights_api_may_answer(settings: dict[str, Any], answering: Any, status: int, code: int) -> None:
    report = build({**settings, "flights_api_base_url": answering(status)}, FlightById("some-flight"))
    assert (report.exit_code, report.failure_phase) == (code, "flight_resolve"), report.failure_message


def test_a_flights_api_that_is_down(settings: dict[str, Any]) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    report = build({**settings, "flights_api_base_url": url, "flights_api_timeout_s": 3}, FlightById("some-flight"))
    assert (report.exit_code, report.failure_exception_type) == (92, "FlightsApiUnreachableError")


def test_an_unknown_flight_id_in_the_folder(settings: dict[str, Any]) -> None:
    report = build(settings, FlightById("nowhere"))
    assert (report.exit_code, report.failure_exception_type) == (90, "FlightNotFoundError")


def test_a_tile_server_that_is_down(settings: dict[str, Any]) -> None:
    source = {"tile_source": "", "satellite_provider_url": f"http://127.0.0.1:{closed_port()}/{{z}}/{{x}}/{{y}}.jpg"}
    report = build({**settings, **source})
    assert (report.exit_code, report.failure_phase) == (20, "download"), report.failure_message
    assert lock_is_free(settings)
    assert not list(Path(settings["companion_cache_root"]).iterdir())


def test_tiles_that_the_source_does_not_have(settings: dict[str, Any]) -> None:
    report = build({**settings, "flight_bbox_buffer_m": 300})
    assert (report.exit_code, report.failure_exception_type) == (22, "CoverageIncompleteError")
    assert report.download is not None
    assert report.download.missing > 0


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("exit 3", "BuildReportParseError"),
        ("exit 0", "BuildReportParseError"),
        ('echo \'{"t":"progress","done":1}\'; echo junk', "BuildReportParseError"),
    ],
)
def test_a_builder_that_does_not_build(settings: dict[str, Any], tmp_path: Path, script: str, kind: str) -> None:
    builder = tmp_path / "builder"
    builder.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit 0\n{script}\n')
    builder.chmod(0o755)
    report = build({**settings, "c10_builder_command": str(builder)})
    assert (report.exit_code, report.failure_exception_type) == (21, kind), report.failure_message
    assert report.companions[0].failure_phase == "build"
    assert not (Path(settings["companion_cache_root"]) / "current").exists()
    assert lock_is_free(settings)


def test_a_builder_that_is_not_there(settings: dict[str, Any]) -> None:
    report = build({**settings, "c10_builder_command": "no-such-builder build"})
    assert (report.exit_code, report.failure_phase) == (30, "companion_bringup")
    assert "no-such-builder" in str(report.failure_message)


def test_lock_contention_alone_raises(settings: dict[str, Any]) -> None:
    import filelock

    staging = Path(settings["cache_staging_root"])
    staging.mkdir()
    with filelock.FileLock(staging / ".c12.lock"), pytest.raises(BuildLockHeldError, match="is held by another run"):
        build(settings)
    assert not list(Path(settings["companion_cache_root"]).iterdir())


def test_two_runs_resolve_at_the_same_time_while_the_lock_is_held(settings: dict[str, Any]) -> None:
    import filelock

    staging = Path(settings["cache_staging_root"])
    staging.mkdir()
    with filelock.FileLock(staging / ".c12.lock"):
        held = (staging / ".c12.lock").stat()
        report = build(settings, FlightById("nowhere"))
        assert report.exit_code == 90
        after = (staging / ".c12.lock").stat()
    assert (held.st_ino, held.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_an_unrecognised_exception_propagates_and_the_lock_is_free(settings: dict[str, Any], tmp_path: Path) -> None:
    staging = Path(settings["cache_staging_root"])
    staging.mkdir()
    # A store that is no store: nothing in the error tree speaks of it.
    (staging / "runs").write_text("not a folder")
    with pytest.raises(operator_tool.UnexpectedRunError):
        build(settings)
    assert lock_is_free(settings)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_cancelling_leaves_nothing_behind(settings: dict[str, Any], tmp_path: Path, how: signal.Signals) -> None:
    builder, started = tmp_path / "builder", tmp_path / "started"
    builder.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit 0\necho $$ > {started}\nexec sleep 600\n')
    builder.chmod(0o755)
    command = [str(BIN / "operator-tool"), "build-cache", "--flight-file", SURVEY, "--format", "json"]
    for name, value in {**settings, "c10_builder_command": str(builder)}.items():
        command += ["--set", f"{name}={value}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not (started.exists() and started.read_text().strip()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(how)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err.decode()
    report = json.loads(out)
    assert (report["exit_code"], report["failure_exception_type"]) == (130, "BuildCancelledError")
    assert not Path(f"/proc/{started.read_text().strip()}").exists()
    assert lock_is_free(settings)
    for leftover in ("work", "jobs"):
        assert not list((Path(settings["companion_cache_root"]) / leftover).glob("*")), leftover


def test_a_flight_that_changes_while_its_cache_is_built(settings: dict[str, Any], tmp_path: Path) -> None:
    """The revision is asked for once more before activation, over the real API."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_server import FlightServer

    flights = tmp_path / "flights"
    flights.mkdir()
    plan = flights / "survey.plan"
    shutil.copyfile(SURVEY, plan)
    builder = tmp_path / "builder"
    builder.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exit 0\necho >> {plan}\nexec {BIN}/c10-builder build "$@"\n'
    )
    builder.chmod(0o755)
    with FlightServer(flights) as server:
        over_api = {**settings, "flights_api_base_url": server.base_url}
        changed = build({**over_api, "c10_builder_command": str(builder)}, FlightById("survey"))
        assert (changed.exit_code, changed.failure_phase) == (33, "activate")
        assert "was changed in the flights API" in str(changed.failure_message)
        assert not (Path(settings["companion_cache_root"]) / "current").exists()
        assert build(over_api, FlightById("survey")).outcome is CacheBuildOutcome.SUCCESS


def test_settings_that_are_wrong_before_the_run_begins_leave_a_report_too(settings: dict[str, Any]) -> None:
    report = build({**settings, "zooms": "99"})
    assert (report.exit_code, report.failure_exception_type) == (2, "SettingsError")
    saved = Path(settings["cache_staging_root"]) / "reports" / f"{report.run_id}.json"
    assert json.loads(saved.read_text()) == report.to_dict()


@pytest.mark.parametrize("ahead_s", [-1_700_000_000.0, 86_400.0])
def test_a_companion_whose_clock_is_wrong(settings: dict[str, Any], tmp_path: Path, ahead_s: float) -> None:
    """The companion's Python runs under a clock of its own."""
    python = tmp_path / "python-with-another-clock"
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"import time\n_now = time.time\ntime.time = lambda: _now() + {ahead_s}\n")
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    host = {"ansible_connection": "local", "ansible_python_interpreter": str(python)}
    inventory = tmp_path / "companions.json"
    inventory.write_text(json.dumps({"companions": {"hosts": {"companion": host}}}))
    report = build({**settings, "inventory": str(inventory)})
    assert (report.exit_code, report.failure_phase) == (30, "companion_bringup"), report.failure_message
    assert "the clock of companion is" in str(report.failure_message)
