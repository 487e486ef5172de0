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


def answer(**changes: Any) -> dict[str, Any]:
    """What a sound companion says."""
    cache = {
        "root": "/var/lib/gps-denied",
        "present": True,
        "writable": True,
        "current": None,
        "lock": None,
        "free_bytes": 10**10,
        "free_inodes": -1,
        "free": {"work": {"free_bytes": 10**10, "free_inodes": 10**6}},
        "python_version": "3.8.10",
        "machine": "aarch64",
        "clock_epoch_s": 1000.0,
        **{name: changes.pop(name) for name in list(changes) if name not in SAID},
    }
    said = {"findings": [{"check": "gpu", "level": "ok", "text": "none seen", "hint": ""}]}
    return {**SAID, "cache": cache, "builder_said": json.dumps(said), **changes}


SAID: dict[str, Any] = {
    "over_ssh": True,
    "workstation_epoch_s": 1000.0,
    "programs": "builder /usr/local/bin/c10-builder\nrsync /usr/bin/rsync\n",
    "builder_rc": 0,
    "builder_said": "",
}
FULL = {"free_bytes": 10**6, "free_inodes": 10**6}
BROKEN = {"generation": "1-abc", "healthy": False, "reason": "file-changed", "message": "tiles.pmtiles has changed"}
FAILS = json.dumps({"findings": [{"check": "models", "level": "fail", "text": "no model", "hint": "install one"}]})


@pytest.mark.parametrize(
    ("changes", "check", "level", "code", "text"),
    [
        ({"present": False}, "cache root", "fail", 30, "there is no /var/lib/gps-denied"),
        ({"writable": False}, "cache root", "fail", 30, "cannot be written"),
        ({"free": {"work": FULL}}, "disk", "fail", 30, "/var/lib/gps-denied/work has 1 MB"),
        ({"free_bytes": 5 * 10**8}, "disk", "warn", 0, "500 MB free"),
        ({"free_inodes": 3}, "disk", "fail", 30, "3 inodes free"),
        ({"clock_epoch_s": 5000.0}, "clock", "fail", 30, "4000 s ahead of"),
        (
            {"lock": {"holder": "run r of u on w", "run_id": "r", "token": 1}},
            "lock",
            "warn",
            0,
            "held by run r of u on w",
        ),
        ({"current": BROKEN}, "cache", "fail", 33, "NO-GO (file-changed): tiles.pmtiles has changed"),
        ({"programs": "builder \nrsync \n"}, "rsync", "fail", 30, "not on the PATH"),
        ({"programs": "builder \nrsync \n"}, "builder", "fail", 30, "not on the PATH"),
        ({"builder_rc": 124}, "builder", "warn", 0, "did not answer within 60 s"),
        ({"builder_said": "usage: nothing"}, "builder", "warn", 0, "no doctor that could be understood"),
        ({"builder_said": FAILS}, "builder: models", "fail", 21, "no model"),
    ],
)
def test_what_a_companion_says_is_judged(changes: dict[str, Any], check: str, level: str, code: int, text: str) -> None:
    assert all(each.level == "ok" for each in judge_companion("survey-01", answer()))
    found = [each for each in judge_companion("survey-01", answer(**changes)) if each.check == check]
    assert [(each.level, each.to_dict()["exit_code"]) for each in found] == [(level, code)]
    assert text in found[0].text
    assert found[0].hint
