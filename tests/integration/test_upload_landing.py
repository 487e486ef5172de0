# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the landing, against companions in containers: each tile to the provider once, whoever dies when."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from companions import Companion
from landed import inventory_file, names_of, put_tree, record, say_ground, spool_of
from upload_provider import UploadProvider

from operator_tool._field import FieldRequest, upload_landing

OPERATOR_TOOL = str(Path(sys.executable).parent / "operator-tool")
KEY = "landing-key-8f1c2d"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    return {
        "cache_staging_root": str(tmp_path / "staging"),
        "satellite_provider_api_key_file": str(key),
        "companion_boot_timeout_s": 1,
        "landing_flag_max_age_s": 3600,
    }


def request_for(
    settings: dict[str, Any], provider: UploadProvider, folder: Path, *companions: Companion, **more: Any
) -> FieldRequest:
    chosen = {
        **settings,
        "landing_upload_url": provider.url,
        "inventory": inventory_file(folder, *companions),
        "companion_known_hosts_file": str(companions[0].known_hosts_path),
    }
    return FieldRequest(settings=chosen, **more)


def land(companion: Companion, tree: Path, **ground: bool) -> None:
    """The recordings below `tree` are on the companion, which has landed."""
    put_tree(companion, tree / "landing", f"{companion.cache_root}/landing")
    say_ground(companion, tree, **ground)


def test_a_fleet_with_a_dead_vehicle_an_armed_one_and_a_hostile_recording(
    settings: dict[str, Any], make_companion: Callable[..., Companion], tmp_path: Path
) -> None:
    first, armed, dead = make_companion("vehicle-01"), make_companion("vehicle-02"), make_companion("vehicle-03")
    dead.stop()
    good = record(tmp_path / "a", "flight-good", 30, seed=1)
    record(tmp_path / "a", "flight-hostile", 3, seed=2)
    record(tmp_path / "b", "flight-armed", 3, seed=3)
    land(first, tmp_path / "a")
    land(armed, tmp_path / "b", armed=True)
    hostile = f"{first.cache_root}/landing/flight-hostile"
    first.exec_root(f"rm {hostile}/tiles.tar && ln -s /etc/shadow {hostile}/tiles.tar")

    with UploadProvider(api_key=KEY) as provider:
        checked = upload_landing(request_for(settings, provider, tmp_path, first, check=True))
        assert (checked.outcome.value, provider.accepted) == ("checked", []), checked.failure_message
        report = upload_landing(request_for(settings, provider, tmp_path, first, armed, dead))
        assert provider.stored == names_of(good.folder)
        assert provider.sent_twice == []

    rows = {row.host: row for row in report.companions}
    assert {host: row.exit_code for host, row in rows.items()} == {"vehicle-01": 61, "vehicle-02": 60, "vehicle-03": 30}
    states = {item.id: (item.state.value, item.sent) for item in rows["vehicle-01"].recordings}
    assert states == {"flight-good": ("collected", 30), "flight-hostile": ("refused", 0)}
    assert "file-symlink" in str(rows["vehicle-01"].failure_message)
    assert spool_of(first) == ["flight-hostile", "ground.json"]
    assert spool_of(armed) == ["flight-armed", "ground.json"]
    written = [path for path in (tmp_path / "staging").rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
    assert not list((tmp_path / "staging" / "landing" / "vehicle-01").glob("flight-good"))


def journal_of(staging: Path) -> str:
    runs = sorted((staging / "runs").glob("*/journal.ndjson"))
    return runs[-1].read_text() if runs else ""


@pytest.mark.parametrize(
    ("kills", "seed"), [(5, 20), pytest.param(50, None, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_killed_at_random_points_both_sides_end_equal(
    settings: dict[str, Any], companion: Companion, tmp_path: Path, kills: int, seed: int | None
) -> None:
    dice, staging = random.Random(seed), tmp_path / "staging"
    wanted: set[str] = set()
    stop_at = [0]

    def fault(_name: str, _attempt: int) -> str:
        return "store and hang" if len(provider.accepted) + 1 == stop_at[0] else ""

    with UploadProvider(fault, api_key=KEY) as provider:
        request = request_for(settings, provider, tmp_path, companion)
        flags = [f"--set={name}={value}" for name, value in request.settings.items()]
        for kill in range(kills):
            tree = tmp_path / f"spool-{kill}"
            recorder = record(tree, f"flight-{kill}", 12, seed=kill + 1)
            wanted |= names_of(recorder.folder)
            land(companion, tree)
            # The moments: a step's beginning, or the answer that never comes to the n-th of the tiles that are left.
            moment = dice.choice(["ground_check", "fetch", "tile", "tile", "tile", "collect"])
            before = len(provider.accepted)
            stop_at[0] = before + dice.randint(1, len(wanted) - before) if moment == "tile" else 0
            known = journal_of(staging)
            process = subprocess.Popen(
                [OPERATOR_TOOL, "upload-landing", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                journal = journal_of(staging)
                if moment == "tile" and len(provider.accepted) >= stop_at[0]:
                    break
                if journal != known and f'"kind":"start","phase":"{moment}"' in journal:
                    time.sleep(dice.uniform(0.0, 0.3))
                    break
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
        stop_at[0] = 0
        report = upload_landing(request)
        assert report.exit_code == 0, report.failure_message
        assert provider.stored == wanted
        assert provider.sent_twice == []
        assert spool_of(companion) == ["ground.json"]
        assert os.listdir(staging / "landing" / companion.name) == []

        # A companion that lost the mark to a power cut brings a recording back when the provider remembers no more.
        provider.forget()
        land(companion, tmp_path / "spool-0")
        report = upload_landing(request)
        assert [(item.state.value, item.known, item.sent) for item in report.companions[0].recordings] == [
            ("collected", 12, 0)
        ]
        assert provider.sent_twice == []

        # Control: without the ledger the same log convicts.
        for path in staging.glob("landing-ledger.sqlite3*"):
            path.unlink()
        land(companion, tmp_path / "spool-0")
        upload_landing(request)
        assert set(provider.sent_twice) == names_of(str(tmp_path / "spool-0" / "landing" / "flight-0"))


def test_the_command_line_says_it_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine as the companion: no flag, so nobody knows, so nothing happens."""
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "root", "flight-1", 2, seed=1)
    with UploadProvider() as provider:
        command = [OPERATOR_TOOL, "upload-landing", "--companion-host", "localhost", "--upload-url", provider.url]
        command += ["--companion-cache-root", str(tmp_path / "root"), "--staging-root", str(tmp_path / "staging")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert provider.accepted == []
    assert done.returncode == 60, done.stderr
    assert "failure in phase ground_check (exit code 60, VehicleNotLandedError)" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    reports = list((tmp_path / "staging" / "reports").glob("*.json"))
    assert [json.loads(path.read_text())["exit_code"] for path in reports] == [60]
