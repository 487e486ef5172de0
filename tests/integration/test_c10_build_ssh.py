# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The detached job on a companion with its own systemd and sshd: every way to detach, cut cables, killed parties."""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import companions
import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._build_stream import BuildStream
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import RemoteBuildError
from ansible_collections.gps_denied.preflight.plugins.module_utils._line_stream import stream_lines
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job import (
    CommandResult,
    ConnectionLost,
    JobEnd,
    JobLimits,
    JobSpec,
    RemoteJob,
    follow_job,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job_verdict import build_verdict
from companions import Companion

EVIL = Path(__file__).parents[1] / "evil_builders" / "evil.py"
# Processes are found by their run's id, on the whole machine: two suites at a time must not end each other's.
RUN = "20261122T120000Z-" + secrets.token_hex(3)
NONCE = "5eed" * 8
LIMITS = JobLimits(link_loss_s=120.0, stall_s=60.0, poll_wait_s=2.0, retry_s=0.2)


class Transport:
    """Commands by one way to the companion: `words`, and the command as the last of them."""

    def __init__(self, words: list[str], stream_words: list[str] | None = None) -> None:
        self._words = words
        self._stream_words = stream_words or words

    def __call__(self, command: str, data: bytes | None) -> CommandResult:
        result = ran([*self._words, command], data)
        if result.rc == 255:
            raise ConnectionLost(result.stderr)
        return result

    def lines(self, command: str) -> Generator[str, None, CommandResult]:
        return stream_lines([*self._stream_words, command], silence_s=30.0)


def ran(words: list[str], data: bytes | None) -> CommandResult:
    # A persisting ssh master keeps standard error open for as long as it lives: nothing may wait for its end.
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(words, input=data or b"", stdout=subprocess.PIPE, stderr=errors, check=False, timeout=60)
        errors.seek(0)
        return CommandResult(done.returncode, done.stdout.decode(), errors.read().decode())


def over_ssh(companion: Companion, folder: Path, *, alive_s: int = 1) -> Transport:
    """As Ansible's connection: one master for all commands, which notices after a while that the link is gone."""
    options = [
        *companion.ssh_options,
        *("-o", f"ControlPath={folder}/%C"),
        *("-o", "ControlPersist=30s"),
        *("-o", f"ServerAliveInterval={alive_s}"),
        *("-o", "ServerAliveCountMax=3"),
        f"{companion.user}@{companion.address}",
    ]
    return Transport(["ssh", "-o", "ControlMaster=auto", *options], ["ssh", "-o", "ControlMaster=no", *options])


def as_root(companion: Companion) -> Transport:
    return Transport(["podman", "--runtime", "runc", "exec", "-i", companion.container, "/bin/sh", "-c"])


class Build:
    """One evil build on a companion."""

    def __init__(self, companion: Companion, run: Transport, mode: str, evil: str, **more: Any) -> None:
        self.companion = companion
        folder = f"{companion.cache_root}/jobs/{RUN}"
        request = {"run_id": RUN, "nonce": NONCE, "work_dir": folder, **more.pop("request", {})}
        user = "root" if mode == "system" else companion.user
        script = f"mkdir -p {folder} && cat > {folder}/evil.py && chown -R {user} {folder} && rm -rf {folder}/job"
        assert as_root(companion)(script, EVIL.read_bytes()).rc == 0
        assert as_root(companion)(f"cat > {folder}/request.json", json.dumps(request).encode()).rc == 0
        self.folder = f"{folder}/job"
        spec = JobSpec(
            run_id=RUN,
            folder=self.folder,
            command=("/usr/bin/python3", f"{folder}/evil.py", evil),
            request_path=f"{folder}/request.json",
            mode=mode,
            grace_s=0.5,
            **{"timeout_s": 120.0, **more},
        )
        self.job = RemoteJob(run, spec, lines=run.lines)
        self.out = bytearray()
        self.heard = threading.Event()
        self.links: list[bool] = []
        self.records: list[dict[str, Any]] = []
        self.stream = BuildStream(run_id=RUN, nonce=NONCE, on_record=self.records.append)

    def follow(self) -> JobEnd:
        def on_out(data: bytes) -> None:
            self.out.extend(data)
            self.stream.feed(data)
            self.heard.set()

        end = follow_job(
            self.job,
            on_out=on_out,
            on_err=self.stream.feed_people,
            limits=LIMITS,
            on_link=self.links.append,
        )
        self.stream.close()
        return end

    def verdict(self) -> dict[str, Any]:
        return build_verdict(self.follow(), self.stream)

    def meanwhile(self, act: Callable[[], Any]) -> None:
        """Do `act` once the first output has been heard."""

        def wait() -> None:
            assert self.heard.wait(60.0)
            act()

        self._actor = threading.Thread(target=wait)
        self._actor.start()

    def done(self) -> None:
        self._actor.join(60.0)

    def log(self) -> bytes:
        return self.companion.exec_root(f"cat {self.folder}/out.log").stdout.encode()

    def processes(self) -> str:
        return self.companion.exec_root("ps -e -o args= | grep -E '[e]vil.py|[j]ob-.*pyc' || true").stdout

    def units(self) -> str:
        return self.companion.exec_root("systemctl list-units --all --plain --no-legend 'gps-denied-job-*'").stdout


@pytest.fixture(scope="module")
def vehicle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Companion]:
    """One companion for all tests here: a job leaves nothing behind, which every test asserts."""
    made = companions.start_companion(
        "vehicle-07",
        container=f"gps-denied-c10-{time.monotonic_ns()}",
        image=companions.bare_image(),
        folder=tmp_path_factory.mktemp("vehicle"),
        user=companions.ADMIN_USER,
    )
    uid = made.run("id -u").stdout.strip()
    # This small system has no PAM that would start the user's manager: it is started by hand, and lingers.
    made.exec_root(
        f"mkdir -p {made.cache_root} /var/lib/systemd/linger && touch /var/lib/systemd/linger/{made.user}"
        f" && install -d -m 0700 -o {made.user} /run/user/{uid} && chown {made.user}: {made.cache_root}"
        f" && systemd-run --quiet --unit user-manager --uid={made.user} --setenv XDG_RUNTIME_DIR=/run/user/{uid}"
        " -p Delegate=yes -p Type=notify /lib/systemd/systemd --user"
    )
    yield made
    made.remove()


@pytest.fixture
def transport(vehicle: Companion) -> Iterator[Callable[[str], Transport]]:
    with tempfile.TemporaryDirectory(prefix="ssh-") as folder:  # A socket's path has a hundred characters at most.
        yield lambda mode: as_root(vehicle) if mode == "system" else over_ssh(vehicle, Path(folder))


MODES = ["session", "user", "system"]


@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_detach_gives_the_report_and_leaves_nothing(
    vehicle: Companion, transport: Callable[[str], Transport], mode: str
) -> None:
    build = Build(vehicle, transport(mode), mode, "daemons")
    end = build.follow()
    assert end.mode == mode
    assert end.leftover_processes == 3
    assert build.stream.last_word(end.exit_code or 0)["outcome"] == "success"
    assert build.processes() == ""
    assert build.units() == ""


@pytest.mark.parametrize("mode", ["session", "user"])
@pytest.mark.parametrize("cut_s", [10, pytest.param(30, marks=pytest.mark.soak)])
def test_a_cut_cable_loses_and_doubles_nothing(
    vehicle: Companion, transport: Callable[[str], Transport], mode: str, cut_s: int
) -> None:
    build = Build(vehicle, transport(mode), mode, "slow", request={"steps": 20 * (cut_s + 4)})

    def cut() -> None:
        vehicle.disconnect()
        time.sleep(cut_s)
        vehicle.reconnect()

    build.meanwhile(cut)
    report = build.verdict()
    build.done()
    assert report["outcome"] == "success"
    assert build.links[0] is False
    assert build.links[-1] is True
    assert bytes(build.out) == build.log()
    assert build.processes() == ""


def test_killed_ssh_sessions_do_not_touch_the_job(vehicle: Companion, transport: Callable[[str], Transport]) -> None:
    build = Build(vehicle, transport("session"), "session", "slow", request={"steps": 60})
    build.meanwhile(lambda: vehicle.exec_root(f"pkill -KILL -f '^sshd: {vehicle.user}'"))
    report = build.verdict()
    build.done()
    assert report["outcome"] == "success"
    assert bytes(build.out) == build.log()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("victim", "says"), [("evil.py", "the builder was killed by SIGKILL"), ("[j]ob-.*pyc supervise", "was lost")]
)
def test_a_killed_party_is_a_typed_failure_and_nothing_is_left(
    vehicle: Companion, transport: Callable[[str], Transport], mode: str, victim: str, says: str
) -> None:
    build = Build(vehicle, transport(mode), mode, "stubborn")
    if victim == "evil.py":
        victim = "^/usr/bin/python3 .*[e]vil.py"
    build.meanwhile(lambda: vehicle.exec_root(f"pkill -KILL -f '{victim}'"))
    with pytest.raises(RemoteBuildError, match=says):
        build.verdict()
    build.done()
    assert build.processes() == ""
    assert build.units() == ""


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_build_is_gone_within_ten_seconds(
    vehicle: Companion, transport: Callable[[str], Transport], mode: str
) -> None:
    build = Build(vehicle, transport(mode), mode, "stubborn")
    build.job.start()
    assert build.processes().count("evil.py") == 1
    began = time.monotonic()
    assert build.job.cancel()["empty"]
    assert time.monotonic() - began < 10
    assert build.processes() == ""
    assert build.units() == ""


def test_the_workstation_is_killed_and_the_same_run_attaches_again(
    vehicle: Companion, transport: Callable[[str], Transport]
) -> None:
    build = Build(vehicle, transport("session"), "session", "slow", request={"steps": 60})
    build.job.start()
    build.job.attached = False
    report = build.verdict()
    assert build.job.attached
    assert report["outcome"] == "success"
    assert bytes(build.out) == build.log()


def test_a_companion_that_restarts_during_the_build_is_a_lost_build(
    vehicle: Companion, transport: Callable[[str], Transport]
) -> None:
    build = Build(vehicle, transport("system"), "system", "hang")
    build.job.start()
    vehicle.stop()
    vehicle.start()
    with pytest.raises(RemoteBuildError, match="the companion stopped the build|the build was lost"):
        build.verdict()
    assert build.processes() == ""


@pytest.mark.parametrize(
    ("network", "private"), [(False, "PrivateNetwork=yes"), (True, "PrivateNetwork=no")], ids=["closed", "open"]
)
def test_a_unit_of_the_system_asks_for_its_limits(
    vehicle: Companion, transport: Callable[[str], Transport], network: bool, private: str
) -> None:
    """What systemd was asked for; the container itself may neither unshare its network nor limit memory."""
    build = Build(vehicle, transport("system"), "system", "hang", memory_max_bytes=256 << 20, network=network)
    build.job.start()
    shown = vehicle.exec_root(f"systemctl show gps-denied-job-{RUN}").stdout.splitlines()
    wanted = {private, "MemoryMax=268435456", "TasksMax=512", "KillMode=control-group", "RuntimeMaxUSec=3min"}
    assert wanted <= set(shown)
    assert build.job.cancel()["empty"]
    assert build.units() == ""
