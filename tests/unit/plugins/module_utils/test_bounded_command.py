# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that say too much, take too long, or leave somebody behind."""

from __future__ import annotations

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
