# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Eight contenders for one lock, round after round: one gets it, the others are told, and never two are inside."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_lock import (
    acquire_companion_lock,
    release_companion_lock,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import BuildLockHeldError
from ansible_collections.gps_denied.preflight.plugins.module_utils._lock import acquire_lock, release_lock

CONTENDERS = 8
CONTEXT = multiprocessing.get_context("fork")
PATIENCE_S = 60.0

Take = Callable[[str, str], Any]
GiveBack = Callable[[str, str, Any], object]


def take_workstation(place: str, run_id: str) -> int:
    return acquire_lock(place + "/.c12.lock", run_id=run_id, serves_pid=os.getpid(), timeout_s=0.0)


def give_back_workstation(_place: str, _run_id: str, holder: int) -> object:
    return release_lock(holder)


def take_companion(place: str, run_id: str) -> int:
    return acquire_companion_lock(place, run_id, run_id, owner=run_id)


def give_back_companion(place: str, run_id: str, token: int) -> object:
    return release_companion_lock(place, run_id, token)


def take_nothing(_place: str, _run_id: str) -> int:
    """No lock at all: what the rounds must convict."""
    return 0


LOCKS: dict[str, tuple[Take, GiveBack]] = {
    "workstation": (take_workstation, give_back_workstation),
    "companion": (take_companion, give_back_companion),
}


def contend(
    number: int,
    place: str,
    rounds: int,
    lock: tuple[Take, GiveBack],
    gate: Any,
    answers: multiprocessing.Queue[tuple[int, str]],
) -> None:
    """One contender: in each round all begin together, and the winner stays inside until all were answered."""
    take, give_back = lock
    inside = os.path.join(place, "inside")
    for turn in range(rounds):
        run_id = f"run-{turn}-{number}"
        gate.wait(PATIENCE_S)
        held, answer = None, "told"
        try:
            held = take(place, run_id)
            answer = "won"
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        except BuildLockHeldError:
            pass
        except FileExistsError:
            answer = "second"
        answers.put((turn, answer))
        gate.wait(PATIENCE_S)
        if answer == "won":
            os.unlink(inside)
        if held is not None:
            give_back(place, run_id, held)


def contest(place: Path, rounds: int, lock: tuple[Take, GiveBack]) -> None:
    gate = CONTEXT.Barrier(CONTENDERS)
    answers: multiprocessing.Queue[tuple[int, str]] = CONTEXT.Queue()
    expected = ["told"] * (CONTENDERS - 1) + ["won"]
    others = [
        CONTEXT.Process(target=contend, args=(number, str(place), rounds, lock, gate, answers))
        for number in range(CONTENDERS)
    ]
    for process in others:
        process.start()
    try:
        heard: list[list[str]] = [[] for _turn in range(rounds)]
        for _answer in range(rounds * CONTENDERS):
            # A queue keeps the order of each process, not that between them.
            turn, answer = answers.get(timeout=PATIENCE_S)
            heard[turn].append(answer)
            complete = len(heard[turn]) == CONTENDERS
            assert not complete or sorted(heard[turn]) == expected, f"round {turn}: {heard[turn]}"
        for process in others:
            process.join(PATIENCE_S)
        assert [process.exitcode for process in others] == [0] * CONTENDERS
    finally:
        for process in others:
            process.kill()
            process.join()


@pytest.mark.parametrize(("name", "rounds"), [("workstation", 2), ("companion", 40)])
def test_of_eight_contenders_one_wins_each_round(tmp_path: Path, name: str, rounds: int) -> None:
    contest(tmp_path, rounds, LOCKS[name])


def test_the_rounds_convict_a_lock_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"round 0: .*second"):
        contest(tmp_path, 1, (take_nothing, lambda *_arguments: None))


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(LOCKS))
def test_a_thousand_rounds_of_eight_contenders(
    tmp_path: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    contest(tmp_path, 1000, LOCKS[name])
    record_property("rounds", 1000)
    record_property("contenders", CONTENDERS)
