# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that say too much, take too long, or leave somebody behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._bounded_command import BoundedAnswer, run_bounded


def run(script: str, *, deadline_s: float = 60.0) -> BoundedAnswer:
    return run_bounded(["sh", "-c", script], deadline_s=deadline_s, cap_bytes=10_000)


def test_a_command_that_behaves() -> None:
    assert run("echo yes; echo no >&2; exit 3") == BoundedAnswer(3, b"yes\n", b"no\n")


def test_all_that_was_said_before_the_end_is_there() -> None:
    answer = run("head -c 9000 /dev/zero")
    assert (answer.rc, len(answer.stdout)) == (0, 9000)


@pytest.mark.parametrize("stream", ["", " >&2"])
def test_a_flood_is_ended(stream: str) -> None:
    answer = run(f"exec yes{stream}")
    assert (answer.rc, answer.flooded) == (None, True)
    assert len(answer.stdout) + len(answer.stderr) < 100_000


def test_what_takes_too_long_is_ended() -> None:
    answer = run("echo here; exec sleep 600", deadline_s=0.5)
    assert (answer.rc, answer.flooded, answer.stdout) == (None, False, b"here\n")


def test_who_stays_behind_with_the_streams_open_is_not_waited_for() -> None:
    answer = run("sleep 600 & echo $!")
    assert answer.rc == 0
    run(f"kill {int(answer.stdout)}")


@pytest.mark.parametrize(("script", "taken"), [("cat >&2; echo all", 9_000), ("head -c 4000 >&2; echo enough", 4_000)])
def test_a_file_is_its_input_as_far_as_it_takes_it(tmp_path: Path, script: str, taken: int) -> None:
    (tmp_path / "file").write_bytes(os.urandom(9_000))
    offsets: list[int] = []
    with open(tmp_path / "file", "rb") as feed:
        answer = run_bounded(["sh", "-c", script], deadline_s=60.0, cap_bytes=10_000, feed=feed, on_fed=offsets.append)
    assert answer.rc == 0
    assert answer.stderr == (tmp_path / "file").read_bytes()[:taken]
    assert offsets[-1] == taken


def test_silence_is_ended_and_slowness_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(9_000))
    slow = "for i in 1 2 3 4 5 6; do head -c 1000 >/dev/null; sleep 0.6; done"
    for script, stalled in ((slow, False), (f"{slow}; exec sleep 600", True)):
        with open(tmp_path / "file", "rb") as feed:
            answer = run_bounded(["sh", "-c", script], deadline_s=60.0, cap_bytes=10_000, feed=feed, silence_s=3.0)
        assert (answer.stalled, answer.rc) == (stalled, None if stalled else 0)


def test_it_ends_with_its_caller(tmp_path: Path) -> None:
    """A killed run leaves nobody that goes on sending."""
    program = (
        "import sys; sys.path[:0] = sys.argv[1].split(':')\n"
        "from ansible_collections.gps_denied.preflight.plugins.module_utils._bounded_command import run_bounded\n"
        "run_bounded(['sh', '-c', 'echo $$ >' + sys.argv[2] + '; exec sleep 600'], deadline_s=600, cap_bytes=1)"
    )
    told = tmp_path / "pid"
    caller = subprocess.Popen([sys.executable, "-c", program, ":".join(sys.path), str(told)])
    deadline = time.monotonic() + 30
    while not (told.exists() and told.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    status = Path(f"/proc/{int(told.read_text())}/status")
    while _lives(status) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _lives(status)


def _lives(status: Path) -> bool:
    """Whether the process is there; one that only waits to be buried is not."""
    try:
        return "State:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
