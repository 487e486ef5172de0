# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kill -9` of every party to the main job over SSH, and of the companion, in every phase; the next run makes good."""

from __future__ import annotations

import dataclasses
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from companion_failures import FAILURES, CompanionOnDisk
from pipeline_kills import (
    PARTIES,
    Ended,
    Kill,
    Outcome,
    Pipeline,
    disturb,
    faults_of,
    kill_and_run_again,
    make_good,
    matrix,
)

FEW = (
    Kill("driver", "build", 0.5),
    Kill("ansible-playbook", "build", 0.5),
    Kill("supervisor", "build", 0.5),
    Kill("container", "build", 0.2),
    Kill("power", "activate"),
)
"""For every day: each comes upon what the one before has left; the power goes last, as an activation may be done."""


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
def pipeline(companion_on_disk: CompanionOnDisk) -> Iterator[Pipeline]:
    with tempfile.TemporaryDirectory(
        prefix="kills-"
    ) as folder:  # ssh's own socket in there has room for few characters.
        yield Pipeline(companion_on_disk, Path(folder))


@pytest.mark.timeout(400)
def test_a_few_kills_end_typed_leave_nothing_and_converge(pipeline: Pipeline) -> None:
    pipeline.reset()
    undisturbed = pipeline.run()
    assert undisturbed.status == 0, undisturbed.errors
    pipeline.reset()
    outcomes = [disturb(pipeline, kill) for kill in FEW]
    make_good(pipeline, outcomes[-1])
    for outcome in outcomes:
        assert faults_of(outcome, str(undisturbed.content_id)) == [], outcome
    assert all(outcome.killed for outcome in outcomes), "a kill hit nobody"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("party", "after_s"),
    [
        (party, after_s)
        for party in sorted(PARTIES)
        for after_s in (0.0, 0.4)
        # the sync has nothing left to send by then
        if (party, after_s) != ("sync program", 0.4)
    ],
)
def test_every_party_may_fail_in_every_phase(
    pipeline: Pipeline, party: str, after_s: float, record_property: Callable[[str, object], None]
) -> None:
    kills = [kill for kill in matrix((after_s,)) if kill.party == party]
    assert_converges(pipeline, kills)
    record_property("phases", len(kills))


def test_a_power_cut_loses_what_was_not_flushed_and_a_kill_does_not(companion_on_disk: CompanionOnDisk) -> None:
    """Positive control of the failures themselves; and the companion has its address again after each."""
    old = companion_on_disk.current
    address = companion_on_disk.address
    for how in FAILURES:
        script = 'cd "$1" && echo kept >kept && sync kept . && echo lost >lost'
        companion_on_disk.exec_root(f"set -- {companion_on_disk.cache_root}; {script}")
        assert len(companion_on_disk.fail(how)) == 1
        there = {path.name for path in companion_on_disk.cache.iterdir()}
        assert ("kept" in there, "lost" in there) == (True, how != "power"), how
        companion_on_disk.start()
        assert companion_on_disk.address == address
        assert companion_on_disk.run(f"cat {companion_on_disk.cache_root}/kept").stdout == "kept\n"
        companion_on_disk.reset_cache()
    assert old is not None
    assert companion_on_disk.current == old


def test_what_breaks_the_promise_is_convicted(pipeline: Pipeline) -> None:
    """Positive control: processes and files that stay, and ends that are not typed, are each found."""
    pipeline.reset()
    assert pipeline.left_running() == []
    assert pipeline.left_on_disk() == []
    root = pipeline.companion.cache_root
    pipeline.companion.exec_root(
        f"mkdir -p {root}/work/20260101T000000Z-000000 && touch {root}/x.tmp.1 /tmp/payload.py"
    )
    builder = f"{root}/jobs/c10-builder"
    pipeline.companion.exec_root(
        f"mkdir -p {root}/jobs && cp /bin/sleep {builder} && ({builder} 300 >/dev/null 2>&1 &)"
    )
    (pipeline.staging / ".part.tmp").touch()
    assert len(pipeline.left_on_disk()) == 5
    assert len(pipeline.left_running()) == 1

    good = Ended(0, {"outcome": "success", "companions": [{"cache": {"content_id": "c0"}}]})
    failed = Ended(21, {"outcome": "failure", "companions": []})
    killed = Ended(-signal.SIGKILL, None)
    promised = Outcome(Kill("driver", "build"), [1], ["build"], killed, [], [], good)
    assert faults_of(promised, "c0") == []
    assert faults_of(dataclasses.replace(promised, ended=failed), "c0") == []
    for broken in (
        dataclasses.replace(promised, ended=Ended(1, None)),
        dataclasses.replace(promised, ended=Ended(21, None)),
        dataclasses.replace(promised, ended=Ended(0, {"outcome": "failure", "companions": []})),
        dataclasses.replace(promised, left_soon=["a process"]),
        dataclasses.replace(promised, violations=["I2: the current cache is gone"]),
        dataclasses.replace(promised, again=failed),
        dataclasses.replace(promised, left_at_the_end=["a file"]),
    ):
        assert len(faults_of(broken, "c0")) >= 1
    assert len(faults_of(promised, "another")) == 1
