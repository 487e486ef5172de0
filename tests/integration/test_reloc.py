# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A position hint to companions in containers, on which the shipped reader plays the flight software."""

from __future__ import annotations

import json
import math
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from ansible_collections.gps_denied.preflight.plugins.module_utils._audit import check_audit
from ansible_collections.gps_denied.preflight.plugins.module_utils._cache_program import install_programs
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import PositionHintError
from cache_samples import Signer, activate_build, tile_archive
from companions import CACHE_USER, Companion, podman
from landed import inventory_file, put_tree

from operator_tool._field import FieldRequest, HintPlace, give_hint

OPERATOR_TOOL = str(Path(sys.executable).parent / "operator-tool")
LON_DEG = (40000.5 / 65536) * 360 - 180
LAT_DEG = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * 30000.5 / 65536))))
HERE = HintPlace(lat_deg=LAT_DEG, lon_deg=LON_DEG, radius_m=250.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> CacheRoot:
    """A small active cache with its programs."""
    root = CacheRoot(str(tmp_path_factory.mktemp("cache") / "root"))
    root.ensure()
    activate_build(root, seed=3, archive=tile_archive([(16, 40000, 30000)]))
    install_programs(root.path)
    return root


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return {"cache_staging_root": str(tmp_path / "staging"), "hint_ack_timeout_s": 20}


def request_for(settings: dict[str, Any], *companions: Companion, **more: Any) -> FieldRequest:
    folder = Path(settings["cache_staging_root"]).parent
    chosen = {
        **settings,
        "inventory": inventory_file(folder, *companions),
        "companion_known_hosts_file": str(companions[0].known_hosts_path),
    }
    return FieldRequest(settings=chosen, **more)


def fly(companion: Companion, cache: CacheRoot, *, reader: bool = True) -> None:
    """The companion has the cache, and its flight software reads hints."""
    put_tree(companion, Path(cache.path), companion.cache_root)
    if reader:
        program = f"{companion.cache_root}/bin/gps-denied-hint"
        podman("exec", "--detach", "--user", CACHE_USER, companion.container, program, "take", "--follow")


def hint_files(companion: Companion) -> list[str]:
    return companion.exec_root(f"ls {companion.cache_root}/hints 2>/dev/null || true").stdout.split()


def traffic(companion: Companion) -> int:
    """Bytes that went over the companion's network, both ways."""
    counters = "/sys/class/net/eth0/statistics"
    return sum(map(int, companion.exec_root(f"cat {counters}/rx_bytes {counters}/tx_bytes").stdout.split()))


def test_a_hint_reaches_the_flight_software_in_few_bytes_and_once(
    settings: dict[str, Any], companion: Companion, cache: CacheRoot, tmp_path: Path
) -> None:
    fly(companion, cache)
    request = request_for(settings, companion)
    first = give_hint(request, HERE)
    assert (first.outcome.value, first.exit_code) == ("acknowledged", 0), first.failure_message
    used: list[int] = []
    # the counters also see the other containers' broadcasts, and a busy machine cuts the same words into more packets
    while len(used) < 3 and min(used, default=8_000) >= 8_000:
        before = traffic(companion)
        again = give_hint(request, HERE)
        used.append(traffic(companion) - before)
        (row,) = again.companions
        outcome = (row.sequence, row.written, row.signed, row.outcome.value)
        assert outcome == (1 + len(used), True, False, "acknowledged")
    assert min(used) < 8_000, "at a kilobyte a second, a warm hint takes seconds"
    hints = 1 + len(used)

    # A copy of the first hint, put straight into the door and into the spool: refused by both.
    held = companion.exec_root(f"cat {companion.cache_root}/hints/hint.json").stdout
    program = f"{companion.cache_root}/bin/gps-denied-hint"
    replay = companion.exec_root(f"echo '{held.strip()}' | {program} put", check=False)
    assert (replay.returncode, json.loads(replay.stdout)["reason"]) == (1, "hint-replayed")

    # Both sides have it in their trail.
    trail = tmp_path / "staging" / "hints.ndjson"
    assert [json.loads(line)["event"] for line in trail.read_text().splitlines()] == ["given", "accepted"] * hints
    assert check_audit(str(trail)) == (2 * hints, None)
    remote = companion.exec_root(f"cat {companion.cache_root}/audit.ndjson").stdout.splitlines()
    events = [json.loads(line)["event"] for line in remote]
    assert [event for event in events if event.startswith("hint")] == [
        *["hint", "hint-accepted"] * hints,
        "hint-refused",
    ]


def test_signatures_fleets_and_a_reader_that_is_silent(
    settings: dict[str, Any], make_companion: Callable[..., Companion], cache: CacheRoot, tmp_path: Path
) -> None:
    first, second = make_companion("vehicle-01"), make_companion("vehicle-02")
    fly(first, cache)
    fly(second, cache, reader=False)
    signer = Signer.create(tmp_path)
    trust = tmp_path / "enrolment"
    signer.enrol(CacheRoot(str(trust)))
    put_tree(first, trust, first.cache_root)

    report = give_hint(request_for(settings, first, second), HERE)
    assert report.exit_code == 2, "nobody says which of the two is meant"
    assert "--vehicle-id" in str(report.remediation)

    chosen = HintPlace(LAT_DEG, LON_DEG, 250.0, vehicle_id="vehicle-01")
    report = give_hint(request_for(settings, first, second), chosen)
    assert [row.host for row in report.companions] == ["vehicle-01"]
    assert (report.exit_code, "signed hints only" in str(report.failure_message)) == (63, True)

    everybody = HintPlace(LAT_DEG, LON_DEG, 250.0, for_all=True)
    signing = {**settings, "grant_signing_key_file": str(signer.key), "hint_ack_timeout_s": 1}
    report = give_hint(request_for(signing, first, second), everybody)
    rows = {row.host: row for row in report.companions}
    assert (report.exit_code, rows["vehicle-01"].exit_code, rows["vehicle-02"].exit_code) == (40, 0, 64)
    assert (rows["vehicle-01"].signed, rows["vehicle-02"].written) == (True, True)
    assert check_audit(str(tmp_path / "staging" / "hints.ndjson")) == (4, None)


def test_a_stranger_a_place_outside_the_cache_and_a_check_write_nothing(
    settings: dict[str, Any], companion: Companion, cache: CacheRoot, tmp_path: Path
) -> None:
    fly(companion, cache, reader=False)
    request = request_for(settings, companion)
    nobody = tmp_path / "known_hosts"
    nobody.touch()
    untrusted = FieldRequest(settings={**request.settings, "companion_known_hosts_file": str(nobody)})
    assert give_hint(untrusted, HERE).exit_code == 31
    report = give_hint(request_for(settings, companion), HintPlace(LAT_DEG + 1, LON_DEG, 250.0))
    assert (report.exit_code, report.failure_phase) == (63, "hint")
    assert "not on the map of the active cache" in str(report.failure_message)
    checked = give_hint(request_for(settings, companion, check=True), HERE)
    assert (checked.outcome.value, checked.exit_code) == ("checked", 0), checked.failure_message
    assert hint_files(companion) == []
    with pytest.raises(PositionHintError):
        give_hint(request_for(settings, companion), HintPlace(math.nan, LON_DEG, 250.0))


def command(cache: CacheRoot, tmp_path: Path, *words: str) -> list[str]:
    place = ["--lat", str(LAT_DEG), "--lon", str(LON_DEG), "--radius-m", "250"]
    where = ["--companion-host", "localhost", "--companion-cache-root", cache.path]
    return [OPERATOR_TOOL, "reloc", *place, *where, "--staging-root", str(tmp_path / "staging"), *words]


def test_the_operator_confirms_or_nothing_is_sent(cache: CacheRoot, tmp_path: Path) -> None:
    """On this machine as the companion; at a terminal the question is asked, without one `--yes` is wanted."""
    unasked = subprocess.run(
        command(cache, tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (unasked.returncode, "Give --yes knowingly" in unasked.stderr) == (63, True)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as keyboard, os.fdopen(theirs, "rb") as terminal:
        keyboard.write(b"n\n")
        declined = subprocess.run(
            command(cache, tmp_path), stdin=terminal, capture_output=True, text=True, cwd=tmp_path, check=False
        )
    assert (declined.returncode, "Is the vehicle there?" in declined.stderr) == (130, True)
    assert not (tmp_path / "staging").exists()
    given = command(cache, tmp_path, "--yes", "--set", "hint_ack_timeout_s=0", "--format", "json")
    unread = subprocess.run(given, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert unread.returncode == 64, unread.stderr
    assert json.loads(unread.stdout)["companions"][0]["written"] is True
