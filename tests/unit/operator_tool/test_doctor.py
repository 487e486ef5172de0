# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""`operator-tool doctor`: each planted fault is found, and its mend mends it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._config import load_config
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import ExitCode, FailurePhase
from ansible_collections.gps_denied.preflight.plugins.module_utils._run import begin_run, write_report
from click.testing import CliRunner, Result

from operator_tool import _doctor_software
from operator_tool._cli import cli
from operator_tool._doctor import Finding, exit_code_of
from operator_tool._doctor_companion import judge_companion

ROOT = Path(__file__).parents[3]
DEAD_PID = 2**22 + 1
"""Above the largest process id that Linux gives."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workstation of its own: the example's imagery, a key, pinned hosts, and nothing of this machine's user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    for name in [name for name in os.environ if name.startswith("GPS_DENIED_")]:
        monkeypatch.delenv(name)
    (tmp_path / "runtime").mkdir()
    (tmp_path / "staging").mkdir()
    key = tmp_path / "key"
    key.write_text("a-secret-key\n")
    key.chmod(0o600)
    pinned = tmp_path / "trust" / "known_hosts"
    pinned.parent.mkdir(mode=0o700)
    pinned.write_text("survey-01 ssh-ed25519 AAAA\n")
    (tmp_path / "operator-tool.toml").write_text(
        'cache_staging_root = "staging"\n'
        'satellite_provider_api_key_file = "key"\n'
        'companion_known_hosts_file = "trust/known_hosts"\n'
        f'tile_source = "{ROOT}/examples/imagery/bali.pmtiles"\n'
    )
    return tmp_path


def doctor(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, ["doctor", "--workstation", *arguments])
    assert "Traceback" not in result.output
    assert "a-secret-key" not in result.output
    return result


def wrong(*arguments: str) -> dict[str, dict[str, Any]]:
    """The findings that are not ok, by check."""
    result = doctor("--format", "json", *arguments)
    found = json.loads(result.stdout)
    assert found["exit_code"] == result.exit_code
    assert all(set(each) == {"host", "check", "level", "text", "hint", "exit_code"} for each in found["findings"])
    return {each["check"]: each for each in found["findings"] if each["level"] != "ok"}


def test_a_sound_workstation_has_nothing_wrong(place: Path) -> None:
    result = doctor()
    assert result.exit_code == 0, result.output
    assert "nothing is wrong" in result.output
    assert {path.name for path in (place / "staging").iterdir()} == set()


def append(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


def holder(place: Path, **changes: object) -> None:
    record = {"pid": DEAD_PID, "run_id": "r", "user": "u", "host": socket.gethostname(), "since": "then", **changes}
    (place / "staging" / ".c12.lock.holder").write_text(json.dumps(record))


def left_folder(place: Path) -> None:
    folder = place / "runtime" / "gps-denied-abcd_123"
    folder.mkdir()
    os.utime(folder, (1.0, 1.0))


def damaged_store(place: Path) -> None:
    (place / "staging" / "tiles").mkdir()
    (place / "staging" / "tiles" / "index.sqlite").write_bytes(b"no database" * 100)


FAULTS: dict[str, tuple[Callable[[Path], object], str, str, int]] = {
    "others read the key": (
        lambda place: (place / "key").chmod(0o644),
        "satellite_provider_api_key",
        "is open to others",
        2,
    ),
    "others write the settings": (
        lambda place: (place / "operator-tool.toml").chmod(0o666),
        "settings",
        "others may write to",
        2,
    ),
    "others pin keys": (
        lambda place: (place / "trust" / "known_hosts").chmod(0o666),
        "known_hosts",
        "stand in for a companion",
        31,
    ),
    "others rename keys": (lambda place: (place / "trust").chmod(0o777), "known_hosts", "stand in for a companion", 31),
    "all write the staging": (lambda place: (place / "staging").chmod(0o777), "folders", "everybody may write", 2),
    "a dead lock": (holder, "lock", "whose process is gone; the lock itself is free", 0),
    "a private folder": (left_folder, "private folders", "1 left in", 0),
    "a damaged store": (damaged_store, "store", "is damaged", 2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_its_command_mends_it(place: Path, fault: str) -> None:
    plant, check, text, code = FAULTS[fault]
    plant(place)
    found = wrong()
    assert list(found) == [check]
    assert text in found[check]["text"]
    assert found[check]["exit_code"] == code
    shown = doctor()
    assert shown.exit_code == code
    assert f"mend: {found[check]['hint']}" in shown.output
    subprocess.run(["/bin/sh", "-ec", found[check]["hint"]], check=True)
    assert wrong() == {}


@pytest.mark.parametrize(
    ("arguments", "check", "text", "code"),
    [
        (("--tile-source", "openstreetmap"), "tile source", "forbids bulk and offline download", 24),
        (("--tile-source", "no-such-profile"), "tile source", "is no tile source", 20),
        (
            ("--tile-source", "linz-aerial", "--set", "satellite_provider_api_key_file=gone"),
            "satellite_provider_api_key",
            "",
            2,
        ),
        (("--staging-root", "key"), "folders", "is no folder", 2),
        (("--staging-root", "/proc/none"), "folders", "cannot write to /proc", 2),
        (("--flights-dir", "nowhere"), "flights", "is no folder", 90),
        (("--signing-key-file", "none"), "signing key", "cannot read none", 2),
        (("--set", "camera_agl_m=-1"), "settings", "camera_agl_m is -1.0: give a number above 0", 2),
        (("--config", "missing.toml"), "settings", "cannot read settings from missing.toml", 2),
    ],
)
def test_settings_that_would_end_a_run(
    place: Path, arguments: tuple[str, ...], check: str, text: str, code: int
) -> None:
    found = wrong(*arguments)
    assert text in found[check]["text"]
    assert found[check]["hint"]
    assert doctor(*arguments).exit_code == code


def test_a_living_holder_is_no_fault_and_one_of_another_machine_is_in_doubt(place: Path) -> None:
    holder(place, host="another-machine")
    assert "another-machine" in wrong()["lock"]["text"]
    with subprocess.Popen(["/bin/sh", "-c", "read -r line # _lock.py"], stdin=subprocess.PIPE) as living:
        holder(place, pid=living.pid)
        assert wrong() == {}


def killed_run(place: Path, companions: list[str]) -> str:
    """What a driver that was killed in mid-download has left."""
    run = begin_run(load_config({"cache_staging_root": str(place / "staging")}), facts={"companions": companions})
    run.journal.record("start", phase=FailurePhase.DOWNLOAD)
    long_ago = time.time() - 3600.0
    for path in Path(run.run_dir).iterdir():
        os.utime(path, (long_ago, long_ago))
    return run.run_id


def test_a_run_that_a_killed_driver_left_is_found_until_a_later_one_has_cleared_it(place: Path) -> None:
    run_id = killed_run(place, ["survey-01", "survey-02"])
    found = wrong()
    assert f"run {run_id} on survey-01, survey-02 was killed in phase download" in found["runs"]["text"]
    assert "goes on from there" in found["runs"]["hint"]
    config = load_config({"cache_staging_root": str(place / "staging")})
    year = time.gmtime().tm_year
    later = begin_run(config, run_id=f"{year}1231T235959Z-000001", facts={"companions": ["survey-01", "survey-02"]})
    write_report(later)
    assert set(wrong()) <= {"clock"}


def test_a_clock_that_went_back(place: Path) -> None:
    write_report(
        begin_run(load_config({"cache_staging_root": str(place / "staging")}), run_id="20980101T000000Z-000001")
    )
    assert "is from later: it went back" in wrong()["clock"]["text"]


def test_a_secret_in_the_environment_is_a_warning(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPS_DENIED_FLIGHTS_API_AUTH_TOKEN", "a-secret-key")
    assert wrong()["flights_api_auth_token"]["level"] == "warn"


def test_programs_that_are_missing_or_too_old(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = place / "bin"
    old.mkdir()
    (old / "ssh").write_text("#!/bin/sh\necho OpenSSH_7.4p1 >&2\n")
    (old / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(old))
    found = wrong()
    assert "is 7.4, and 8.2 or later is needed" in found["ssh"]["text"]
    assert found["rsync"]["hint"] == "sudo apt-get install rsync"
    assert {"ssh-keygen", "ssh-keyscan"} <= set(found)


def test_packages_that_are_missing_or_too_old() -> None:
    wanted = ["no-such-thing>=1", "click<1", "click>=8", "rasterio>=99; extra == 'geotiff'", "not a requirement !"]
    faults = list(_doctor_software._package_faults(wanted))
    assert [re.sub(r"is [\d.]+,", "is X,", fault) for fault in faults] == [
        "no-such-thing is missing",
        "click is X, and <1 is needed",
    ]


def test_a_collection_of_another_release_is_in_the_way(place: Path) -> None:
    other = place / ".ansible/collections/ansible_collections/gps_denied/preflight"
    other.mkdir(parents=True)
    (other / "MANIFEST.json").write_text(json.dumps({"collection_info": {"version": "0.0.1"}}))
    found = wrong()["collection"]
    assert "another one, 0.0.1, lies in" in found["text"]
    assert found["hint"] == f"rm -r {other}"
    shutil.rmtree(other)
    assert wrong() == {}


def test_contradicting_flags_and_companions_that_cannot_be_named(place: Path) -> None:
    both = doctor("--companion-host", "10.0.0.1")
    assert both.exit_code == 2
    assert "not both" in both.output
    (place / "empty.yml").write_text("all: {hosts: {a: {}}}")
    empty = CliRunner().invoke(cli, ["doctor", "--inventory", "empty.yml"])
    assert (empty.exit_code, "no host in the group companions" in empty.output) == (2, True), empty.output
    none = CliRunner().invoke(cli, ["doctor", "--inventory", "none.yml"])
    assert none.exit_code == 2
    assert "there is no inventory" in none.output


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([("ok", None, 2), ("warn", None, 2)], 0),
        ([("fail", None, 24), ("fail", None, 2), ("fail", "a", 30)], 24),
        ([("ok", "a", 2), ("fail", "b", 30)], 40),
        ([("fail", "a", 31), ("fail", "a", 30), ("fail", "b", 30)], 31),
    ],
)
def test_the_exit_code_is_what_a_run_would_end_with(findings: list[tuple[str, str | None, int]], code: int) -> None:
    found = [Finding("x", level, "", code=ExitCode(number), host=host) for level, host, number in findings]
    assert exit_code_of(found) == code


CACHE: dict[str, Any] = {
    "root": "/var/lib/gps-denied",
    "current": None,
    "lock": None,
    "free_bytes": 10**10,
}
GPU = json.dumps({"findings": [{"check": "gpu", "level": "ok", "text": "none seen", "hint": ""}]})
FAILS = json.dumps({"findings": [{"check": "models", "level": "fail", "text": "no model", "hint": "install one"}]})
STRANGE = json.dumps({"findings": [{"check": "x", "level": "loud", "text": "hm", "hint": "look"}]})
BROKEN = {"generation": "1-abc", "healthy": False, "reason": "file-changed", "message": "tiles.pmtiles has changed"}
HELD = {"holder": "run r of u on w", "run_id": "r", "token": 1}


@pytest.mark.parametrize(
    ("cache", "builder", "check", "level", "code", "text"),
    [
        ({"free_bytes": 5 * 10**8}, GPU, "room", "warn", 0, "500 MB free"),
        ({"lock": HELD}, GPU, "lock", "warn", 0, "held by run r of u on w"),
        ({"current": BROKEN}, GPU, "cache", "fail", 33, "NO-GO (file-changed): tiles.pmtiles has changed"),
        ({}, "", "builder", "warn", 0, "did not answer in time"),
        ({}, "usage: nothing", "builder", "warn", 0, "nothing that could be understood"),
        ({}, '{"findings": [7]}', "builder", "warn", 0, "nothing that could be understood"),
        ({}, FAILS, "builder: models", "fail", 21, "no model"),
        ({}, STRANGE, "builder: x", "warn", 0, "hm"),
    ],
)
def test_what_a_companion_says_is_judged(
    cache: dict[str, Any], builder: str, check: str, level: str, code: int, text: str
) -> None:
    looked = [{"check": "python", "level": "ok", "text": "Python 3.8", "hint": ""}]
    sound = judge_companion("survey-01", {"findings": looked, "cache": CACHE, "builder": GPU})
    assert all(each.level == "ok" for each in sound)
    answer = {"findings": looked, "cache": {**CACHE, **cache}, "builder": builder}
    found = [each for each in judge_companion("survey-01", answer) if each.check == check]
    assert [(each.level, each.to_dict()["exit_code"]) for each in found] == [(level, code)]
    assert text in found[0].text
    assert found[0].hint


def test_a_companion_without_a_python_is_told_by_what_was_seen() -> None:
    looked = [{"check": "python", "level": "fail", "text": "it has Python 3.6", "hint": "Install Python 3.8"}]
    found = list(judge_companion("survey-01", {"findings": looked, "cache": None, "builder": None}))
    assert [(each.check, each.to_dict()["exit_code"]) for each in found] == [("python", 30)]
