# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kill -9` of every party to the main job over SSH, in every phase; then the next run makes good."""

from __future__ import annotations

import dataclasses
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from companions import Companion
from pipeline_kills import Ended, Kill, Outcome, Pipeline, faults_of, kill_and_run_again, matrix

FEW = (Kill("driver", "build", 0.5), Kill("ansible-playbook", "build", 0.5), Kill("supervisor", "build", 0.5))
"""For every day; they come one after the other on one companion."""


def assert_converges(pipeline: Pipeline, kills: list[Kill]) -> None:
    pipeline.reset()
    undisturbed = pipeline.run()
    assert undisturbed.status == 0, undisturbed.errors
    faults: dict[str, list[str]] = {}
    for kill in kills:
        outcome = kill_and_run_again(pipeline, kill)
        found = faults_of(outcome, str(undisturbed.content_id))
        if not outcome.killed:
            found.append("the kill hit nobody")
        if found:
            faults[str(outcome)] = found
    assert faults == {}


@pytest.fixture
def pipeline(companion: Companion) -> Iterator[Pipeline]:
    with tempfile.TemporaryDirectory(
        prefix="kills-"
    ) as folder:  # ssh's own socket in there has room for few characters.
        yield Pipeline(companion, Path(folder))


@pytest.mark.timeout(400)
def test_a_few_kills_end_typed_leave_nothing_and_converge(pipeline: Pipeline) -> None:
    assert_converges(pipeline, list(FEW))


@pytest.mark.soak
@pytest.mark.parametrize("after_s", [0.0, 0.4])
def test_every_party_may_be_killed_in_every_phase(pipeline: Pipeline, after_s: float) -> None:
    assert_converges(pipeline, matrix((after_s,)))


def test_what_breaks_the_promise_is_convicted(pipeline: Pipeline) -> None:
    """Positive control: processes and files that stay, and ends that are not typed, are each found."""
    pipeline.reset()
    assert pipeline.left_running() == []
    assert pipeline.left_on_disk() == []
    root = pipeline.companion.cache_root
    pipeline.companion.exec_root(
        f"mkdir -p {root}/work/20260101T000000Z-000000 && touch {root}/x.tmp.1 /tmp/payload.py"
    )
    pipeline.companion.exec_root(
        f"mkdir {root}/jobs && cp /bin/sleep {root}/jobs/c10-builder && ({root}/jobs/c10-builder 300 >/dev/null 2>&1 &)"
    )
    (pipeline.staging / ".part.tmp").touch()
    assert len(pipeline.left_on_disk()) == 5
    assert len(pipeline.left_running()) == 1

    good = Ended(0, {"outcome": "success", "companions": [{"cache": {"content_id": "c0"}}]})
    failed = Ended(21, {"outcome": "failure", "companions": []})
    killed = Ended(-signal.SIGKILL, None)
    promised = Outcome(Kill("driver", "build"), [1], ["build"], killed, [], good, [])
    assert faults_of(promised, "c0") == []
    assert faults_of(dataclasses.replace(promised, ended=failed), "c0") == []
    for broken in (
        dataclasses.replace(promised, ended=Ended(1, None)),
        dataclasses.replace(promised, ended=Ended(21, None)),
        dataclasses.replace(promised, ended=Ended(0, {"outcome": "failure", "companions": []})),
        dataclasses.replace(promised, left_soon=["a process"]),
        dataclasses.replace(promised, again=failed),
        dataclasses.replace(promised, left_at_the_end=["a file"]),
    ):
        assert len(faults_of(broken, "c0")) >= 1
    assert len(faults_of(promised, "another")) == 1
