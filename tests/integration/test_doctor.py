# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""`operator-tool doctor` against a real companion over SSH: planted faults at both ends, each mended by its hint."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from companions import ADMIN_USER, Companion, make_key

from operator_tool._cli import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workstation of its own in the working folder; the tile provider's key in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir(mode=0o700)
    (tmp_path / "staging").mkdir()
    (tmp_path / "operator-tool.toml").write_text(
        'cache_staging_root = "staging"\nsatellite_provider_api_key_file = "key"\n'
        f'tile_source = "{ROOT}/examples/imagery/bali.pmtiles"\n'
    )
    path = tmp_path / "key"
    path.write_text("a-secret-key\n")
    path.chmod(0o600)
    return path


def examine(companion: Companion, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and what is not ok."""
    where = ["--companion-host", companion.address, "--vehicle-id", companion.name, "--companion-user", companion.user]
    where += ["--companion-key-file", str(companion.private_key_path)]
    where += ["--known-hosts-file", str(companion.known_hosts_path)]
    result = CliRunner().invoke(cli, ["doctor", "--format", "json", *where, *arguments])
    assert "Traceback" not in result.output, result.output
    assert "a-secret-key" not in result.output
    found = json.loads(result.stdout)
    assert found["exit_code"] == result.exit_code, result.output
    return result.exit_code, [each for each in found["findings"] if each["level"] != "ok"]


def test_both_ends(companion: Companion, key: Path) -> None:
    assert examine(companion) == (0, [])

    key.chmod(0o644)
    record = {"pid": 2**22 + 1, "run_id": "r", "user": "u", "host": socket.gethostname(), "since": "then"}
    Path("staging/.c12.lock.holder").write_text(json.dumps(record))
    lock = {"token": 1, "run_id": "20261123T000000Z-000001", "owner": "o", "holder": "run 1 of u on w", "held": True}
    boot = companion.run("cat /proc/sys/kernel/random/boot_id").stdout.strip()
    lock.update(boot_id=boot, lease_end_s=1e12, acquired_at=1.0)
    companion.run(f"cat > /var/lib/gps-denied/lock.json <<'EOF'\n{json.dumps(lock)}\nEOF")
    companion.exec_root("mv /usr/bin/rsync /usr/bin/rsync.away")
    code, wrong = examine(companion)
    assert code == 2  # this workstation's fault counts first
    here = {each["check"]: each for each in wrong if each["host"] is None}
    there = {each["check"]: each for each in wrong if each["host"] == companion.name}
    assert (sorted(here), sorted(there)) == (["lock", "satellite_provider_api_key"], ["lock", "rsync"])
    assert "held by run 1 of u on w" in there["lock"]["text"]
    assert there["rsync"]["exit_code"] == 30
    assert "apt-get install rsync" in there["rsync"]["hint"]

    for check in ("satellite_provider_api_key", "lock"):
        subprocess.run(["/bin/sh", "-ec", here[check]["hint"]], check=True)
    companion.exec_root("mv /usr/bin/rsync.away /usr/bin/rsync; rm /var/lib/gps-denied/lock.json")
    assert examine(companion) == (0, [])


def test_a_companion_that_is_another_one_or_refuses_the_login(companion: Companion, key: Path, tmp_path: Path) -> None:
    code, wrong = examine(companion, "--known-hosts-file", str(tmp_path / "none"))
    assert (code, [each["check"] for each in wrong]) == (31, ["connection"])
    assert "none is pinned" in wrong[0]["text"]
    code, wrong = examine(companion, "--companion-key-file", str(make_key(tmp_path / "unknown")))
    assert code == 30
    assert "refused the SSH login" in wrong[0]["text"]
    code, wrong = examine(companion, "--companion-user", ADMIN_USER)
    assert code == 30
    assert any("not writable for this user" in each["text"] for each in wrong)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", ["stop", "pause"])
def test_a_dead_companion_is_told_within_bounds(companion: Companion, key: Path, fault: str) -> None:
    getattr(companion, fault)()
    code, wrong = examine(companion)
    if fault == "pause":
        companion.unpause()
    assert (code, [each["check"] for each in wrong]) == (30, ["connection"])
    assert "cannot reach" in wrong[0]["text"]
    assert "Check power, cable and address" in wrong[0]["hint"]
    assert not list(Path(os.environ["XDG_RUNTIME_DIR"]).iterdir())
