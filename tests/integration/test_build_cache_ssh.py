# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job over SSH, against companions in containers with their own systemd and sshd."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from companions import Companion

from operator_tool import BuildCacheRequest, CacheBuildOutcome, CacheBuildReport, FlightFromFile, build_cache

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SURVEY = str(EXAMPLES / "flights" / "bali-survey.plan")
OPERATOR_TOOL = str(Path(sys.executable).parent / "operator-tool")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of the embedded default, with a staging root of the test's own."""
    monkeypatch.chdir(tmp_path)
    return {
        "cache_staging_root": str(tmp_path / "staging"),
        "tile_source": str(EXAMPLES / "imagery" / "bali.pmtiles"),
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18-19",
        "camera_agl_m": 60,
        "companion_boot_timeout_s": 2,
    }


def inventory_of(settings: dict[str, Any], *companions: Companion, folder: Path | None = None) -> dict[str, Any]:
    """The settings with an inventory of these companions and their pinned keys."""
    folder = folder or Path(settings["cache_staging_root"]).parent
    hosts = {companion.name: companion.inventory_vars for companion in companions}
    path = folder / "companions.yml"
    path.write_text(json.dumps({"companions": {"hosts": hosts}}))
    return {**settings, "inventory": str(path), "companion_known_hosts_file": str(companions[0].known_hosts_path)}


def build(settings: dict[str, Any], *companions: Companion, **kwargs: Any) -> CacheBuildReport:
    request = BuildCacheRequest(flight=FlightFromFile(SURVEY), settings=inventory_of(settings, *companions))
    return build_cache(request, **kwargs)


def files_of(companion: Companion) -> str:
    """Inode, time and name of everything below the cache root."""
    return companion.exec_root(f"find {companion.cache_root} -type f -printf '%i %T@ %P\\n' | sort").stdout


def leftovers(companion: Companion) -> str:
    root = companion.cache_root
    return companion.exec_root(
        f"ls -A {root}/work {root}/jobs {root}/incoming 2>/dev/null | grep -v ':$' || true"
    ).stdout.strip()


def processes(companion: Companion) -> str:
    return companion.exec_root(
        "ps -e -o args= | grep -E 'c10-builder|slow-builder' | grep -v grep || true"
    ).stdout.strip()


def slow_builder(companion: Companion, seconds: float) -> str:
    """The shipped builder behind a pause, during which a test can do its worst; gives the command."""
    script = (
        "#!/bin/sh\n"
        '[ "$2" = --version ] || [ "$1" = --version ] && exec c10-builder --version\n'
        f"touch {companion.cache_root}/started\n"
        f"i=0; while [ $i -lt {int(seconds * 5)} ]; do sleep 0.2; i=$((i+1));"
        ' echo "{\\"t\\":\\"progress\\",\\"phase\\":\\"describe\\",\\"done\\":$i}"; done\n'
        'exec c10-builder build "$@"\n'
    )
    companion.exec_root(
        f"cat > /usr/local/bin/slow-builder <<'END'\n{script}END\nchmod 755 /usr/local/bin/slow-builder"
    )
    return "/usr/local/bin/slow-builder"


def wait_until(check: Callable[[], Any], *, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def started(companion: Companion) -> bool:
    return companion.exec_root(f"test -e {companion.cache_root}/started", check=False).returncode == 0


def test_the_main_job_over_ssh_and_then_nothing_to_do(settings: dict[str, Any], companion: Companion) -> None:
    report = build(settings, companion)
    assert report.outcome is CacheBuildOutcome.SUCCESS, report.failure_message
    (row,) = report.companions
    assert row.sync is not None
    assert row.sync.bytes_sent >= row.sync.bytes_total > 100_000
    assert leftovers(companion) == ""
    checked = companion.run(
        f"cd {companion.cache_root}/current && awk '{{print $1 \"  \" $3}}' MANIFEST"
        " | sha256sum --check --quiet --strict && sha256sum MANIFEST"
    )
    assert row.cache is not None
    assert checked.stdout.split()[0] == row.cache.content_id

    before = files_of(companion)
    again = build(settings, companion)
    assert again.outcome is CacheBuildOutcome.IDEMPOTENT_NO_OP
    assert files_of(companion) == before


def test_two_kinds_of_companion_get_the_same_content(
    settings: dict[str, Any], make_companion: Callable[..., Companion]
) -> None:
    """A fleet of three, one of which is dead: the two others get the same cache, and the report says so."""
    first, second, dead = make_companion("vehicle-01"), make_companion("vehicle-02"), make_companion("vehicle-03")
    dead.stop()
    report = build(settings, first, second, dead)
    assert (report.exit_code, report.failure_exception_type) == (40, "FleetPartialError")
    rows = {row.host: row for row in report.companions}
    assert rows["vehicle-03"].exit_code == 30
    assert rows["vehicle-03"].failure_phase == "companion_bringup"
    assert rows["vehicle-01"].cache is not None
    assert rows["vehicle-02"].cache is not None
    assert rows["vehicle-01"].cache.content_id == rows["vehicle-02"].cache.content_id


def test_another_host_key_gets_nothing(settings: dict[str, Any], companion: Companion) -> None:
    companion.replace_host_key()
    before = files_of(companion)
    report = build(settings, companion)
    assert (report.exit_code, report.failure_exception_type) == (31, "CompanionNotTrustedError"), report.failure_message
    assert "SHA256:" in str(report.failure_message)
    assert files_of(companion) == before


def test_an_unknown_host_key_is_never_accepted(settings: dict[str, Any], companion: Companion, tmp_path: Path) -> None:
    empty = tmp_path / "known_hosts"
    empty.touch()
    request = inventory_of(settings, companion)
    request["companion_known_hosts_file"] = str(empty)
    report = build_cache(BuildCacheRequest(flight=FlightFromFile(SURVEY), settings=request))
    assert (report.exit_code, report.failure_phase) == (31, "companion_bringup")
    assert empty.read_text() == ""
    assert leftovers(companion) == ""


def test_a_companion_that_is_off(settings: dict[str, Any], companion: Companion) -> None:
    companion.stop()
    report = build(settings, companion)
    assert (report.exit_code, report.failure_exception_type) == (30, "CompanionUnreachableError")


def test_a_key_that_the_companion_does_not_know(settings: dict[str, Any], companion: Companion, tmp_path: Path) -> None:
    key = tmp_path / "other_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    inventory = inventory_of(settings, companion)
    hosts = {companion.name: {**companion.inventory_vars, "ansible_ssh_private_key_file": str(key)}}
    Path(inventory["inventory"]).write_text(json.dumps({"companions": {"hosts": hosts}}))
    report = build_cache(BuildCacheRequest(flight=FlightFromFile(SURVEY), settings=inventory))
    assert (report.exit_code, report.failure_exception_type) == (30, "CompanionNotReadyError")
    assert "refused the SSH login" in str(report.failure_message)


def test_a_full_disk_is_found_before_anything_is_sent(settings: dict[str, Any], companion: Companion) -> None:
    companion.fill_disk(size="1m")
    report = build(settings, companion)
    assert (report.exit_code, report.failure_phase) == (30, "companion_bringup")
    assert "MB free" in str(report.failure_message)
    assert leftovers(companion) == ""


def test_a_link_that_is_cut_in_mid_build(settings: dict[str, Any], companion: Companion) -> None:
    """The build goes on without the link, and the run finds it again."""
    records: list[dict[str, Any]] = []
    settings = {**settings, "c10_builder_command": slow_builder(companion, 8)}
    import threading

    def cut() -> None:
        wait_until(lambda: started(companion))
        companion.disconnect()
        time.sleep(25)
        companion.reconnect()

    thread = threading.Thread(target=cut)
    thread.start()
    report = build(settings, companion, on_progress=records.append)
    thread.join()
    assert report.outcome is CacheBuildOutcome.SUCCESS, report.failure_message
    assert any("link is down" in str(record.get("text")) for record in records)
    assert any("link is back" in str(record.get("text")) for record in records)
    assert leftovers(companion) == ""


def command_line(settings: dict[str, Any], companion: Companion) -> list[str]:
    command = [OPERATOR_TOOL, "build-cache", "--flight-file", SURVEY, "--format", "json"]
    for name, value in inventory_of(settings, companion).items():
        command += ["--set", f"{name}={value}"]
    return command


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lose_power_in_mid_build(settings: dict[str, Any], companion: Companion) -> str:
    """A run whose workstation is gone before it could end anything on the companion; gives its id."""
    with subprocess.Popen(
        command_line(settings, companion), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as driver:
        wait_until(lambda: started(companion))
        playbook = controller_of(Path(settings["cache_staging_root"]))
        companion.disconnect()
        words = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in children_of(driver.pid)}
        tidiers = {pid: argv[argv.index("sh") + 1] for pid, argv in words.items() if "_after_kill" in " ".join(argv)}
        assert tidiers
        # From the innermost on: who outlives another by a moment would cancel, and ssh would deliver that later.
        for pid in [*tidiers, *children_of(playbook), playbook, driver.pid]:
            os.kill(pid, signal.SIGKILL)
    for private_folder in tidiers.values():
        shutil.rmtree(private_folder)
    companion.reconnect()
    assert processes(companion)
    companion.exec_root(f"rm {companion.cache_root}/started")
    return max(path.name for path in Path(settings["cache_staging_root"]).glob("runs/*"))


def test_a_workstation_that_lost_its_power_goes_on_with_the_build(
    settings: dict[str, Any], companion: Companion
) -> None:
    """The next run with the same inputs finds the job and takes its result."""
    with_pause = {**settings, "c10_builder_command": slow_builder(companion, 30)}
    lose_power_in_mid_build(with_pause, companion)
    report = build(with_pause, companion)
    assert report.outcome is CacheBuildOutcome.SUCCESS, report.failure_message
    assert report.companions[0].sync is not None
    assert report.companions[0].sync.bytes_sent == 0
    assert not started(companion), "the builder was started a second time"
    assert leftovers(companion) == ""


def test_a_build_is_attached_to_by_its_run(settings: dict[str, Any], companion: Companion) -> None:
    """Flight and settings come from that run; where it has no build there, none is started, and nothing is touched."""
    with_pause = {**settings, "c10_builder_command": slow_builder(companion, 15)}
    run_id = lose_power_in_mid_build(with_pause, companion)
    command = [OPERATOR_TOOL, "build-cache", "--attach", run_id, "--format", "json"]
    for name, value in inventory_of({}, companion, folder=Path.cwd()).items():
        command += ["--set", f"{name}={value}"]
    command += ["--staging-root", settings["cache_staging_root"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    report = json.loads(done.stdout)
    assert report["outcome"] == "success", report["failure_message"]
    assert report["companions"][0]["sync"]["bytes_sent"] == 0
    assert not started(companion), "the builder was started a second time"

    companion.reset_cache()
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert again.returncode == 21
    assert f"run {run_id} has no build on {companion.name} to attach to" in json.loads(again.stdout)["failure_message"]
    assert leftovers(companion) == ""


def verdict(settings: dict[str, Any], companion: Companion, *arguments: str) -> tuple[int, dict[str, Any]]:
    """What `operator-tool verify` hears from the companion."""
    command = [OPERATOR_TOOL, "verify", "--format", "json", *arguments]
    for name, value in inventory_of(settings, companion).items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, json.loads(done.stdout)[0]


def test_an_enrolled_vehicle_takes_signed_caches_only(
    settings: dict[str, Any], companion: Companion, tmp_path: Path
) -> None:
    """The companion's trust folder names who may sign; from then on everything fails closed, also at take-off."""
    keys = {}
    for who in ("operator", "stranger"):
        key = tmp_path / who
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", str(key)], check=True)
        keys[who] = key
    public = " ".join(keys["operator"].with_suffix(".pub").read_text().split()[:2])
    trust = f"{companion.cache_root}/trust"
    companion.exec_root(
        f"mkdir {trust} && echo {companion.name} > {trust}/vehicle_id && "
        f"echo 'operator namespaces=\"gps-denied-grant@v1\" {public}' > {trust}/allowed_signers"
    )
    for key in (None, keys["stranger"]):
        refused = build({**settings, **({"grant_signing_key_file": str(key)} if key else {})}, companion)
        assert refused.exit_code == 33, refused.failure_message
    assert verdict(settings, companion)[0] == 33

    signed = {**settings, "grant_signing_key_file": str(keys["operator"])}
    report = build(signed, companion)
    assert report.outcome is CacheBuildOutcome.SUCCESS, report.failure_message
    code, answer = verdict(settings, companion, "--flight-id", "bali-survey")
    assert (code, answer["go"], answer["signer"]) == (0, True, "operator")
    assert verdict(settings, companion, "--flight-id", "another-flight")[0] == 33
    assert build(signed, companion).outcome is CacheBuildOutcome.IDEMPOTENT_NO_OP

    on_board = f"python3 -I {companion.cache_root}/bin/gps-denied-verify"
    assert companion.run(f"{on_board} --root {companion.cache_root}").returncode == 0
    companion.exec_root(f"printf x | dd of={companion.cache_root}/current/tiles.pmtiles bs=1 seek=5000 conv=notrunc")
    code, answer = verdict(settings, companion)
    assert (code, answer["go"], answer["file"]) == (33, False, "tiles.pmtiles")
    assert companion.run(f"{on_board} --root {companion.cache_root}", check=False).returncode != 0


def controller_of(staging: Path) -> int:
    """The ansible-playbook of the run in this staging root: the process that its lock's holder serves."""
    holder = json.loads((staging / ".c12.lock.holder").read_text())["pid"]
    return int(Path(f"/proc/{holder}/cmdline").read_bytes().split(b"\0")[4])


def test_a_second_workstation_is_told_who_is_at_work(
    settings: dict[str, Any], companion: Companion, tmp_path: Path
) -> None:
    """Each has its own staging root and so its own lock: only the companion's lock keeps them apart."""
    with_pause = {**settings, "c10_builder_command": slow_builder(companion, 20)}
    with subprocess.Popen(
        command_line(with_pause, companion), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as first:
        wait_until(lambda: started(companion))
        other = {**settings, "cache_staging_root": str(tmp_path / "other" / "staging")}
        (tmp_path / "other").mkdir()
        report = build(other, companion)
        assert (report.exit_code, report.failure_exception_type) == (50, "BuildLockHeldError")
        assert "run 20" in str(report.failure_message), report.failure_message
        out, _err = first.communicate(timeout=100)
    assert json.loads(out)["outcome"] == "success"
