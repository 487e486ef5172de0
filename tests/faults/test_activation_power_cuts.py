# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Power cuts while a cache is sealed and activated: the old or the new cache, and what was acknowledged stays."""

from __future__ import annotations

import itertools
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_garbage import collect_garbage
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_lock import exclusive
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from cache_samples import RUN_ID, activate_build, make_build
from power import LoopDisk
from writers import BROKEN_BY_KILL, BROKEN_BY_POWER, Breaker, judge, sound, start_activation

MOUNTS = ("defaults", "noauto_da_alloc", "commit=1", "data=writeback", "nodelalloc")
SEEDS = itertools.count(1)


def begin(disk: LoopDisk) -> tuple[CacheRoot, str]:
    """A disk with an active cache, all of it flushed."""
    root = CacheRoot(disk.root)
    done = activate_build(root, seed=next(SEEDS))
    disk.restart()
    return root, done.generation


def clear_work(root: CacheRoot) -> None:
    shutil.rmtree(root.join("work", RUN_ID), ignore_errors=True)


def directed_cuts(disk: LoopDisk, breaker: Breaker) -> int:
    """Cut before each step in turn, and after the acknowledgement; the number of cuts."""
    root, old = begin(disk)
    activate_build(root, seed=next(SEEDS))
    old = activate_build(root, seed=next(SEEDS)).generation
    for number in itertools.count(1):
        clear_work(root)
        # Each activation finds one generation to collect, so that the steps are the same each time.
        with exclusive(root):
            collect_garbage(root)
        source = make_build(root, seed=next(SEEDS))
        acknowledged, _steps = start_activation(root, source, breaker=breaker, cut_at=number).end()
        if acknowledged:
            disk.cut()
        disk.options = MOUNTS[number % len(MOUNTS)]
        assert number < 400
        disk.restart()
        now = judge(root, old=old, acknowledged=acknowledged)
        assert now is not None
        old = now
        if acknowledged:
            return number
    raise AssertionError


def random_cuts(disk: LoopDisk, breaker: Breaker, *, count: int, dice: random.Random) -> tuple[int, int]:
    """Cut at random instants around one activation; how many were acknowledged, and how many became current."""
    root, old = begin(disk)
    begun = time.monotonic()
    start_activation(root, make_build(root, seed=next(SEEDS))).end()
    span_s = 1.3 * (time.monotonic() - begun)
    link = root.link_target("current")
    old = str(link)
    acknowledgements = switches = 0
    for _cut in range(count):
        clear_work(root)
        attempt = start_activation(root, make_build(root, seed=next(SEEDS)), breaker=breaker)
        time.sleep(dice.uniform(0, span_s))
        # Only what was said before the cut counts: a machine without power says nothing, but this child lives on for a
        # moment, in which an fsync that met the cut half-way may still report success (jbd2 drops what it aborted).
        answered = attempt.has_answered()
        disk.cut()
        acknowledged = attempt.end(kill=True)[0] and answered
        disk.options = dice.choice(MOUNTS)
        disk.restart()
        now = judge(root, old=old, acknowledged=acknowledged)
        assert now is not None
        acknowledgements += acknowledged
        # However busy this machine is, about half of the cuts come before the acknowledgement.
        span_s *= 0.95 if acknowledged else 1.05
        switches += now != old
        old = now
    return acknowledgements, switches


def test_a_power_cut_before_each_step_leaves_the_old_or_the_new_cache(disk: LoopDisk) -> None:
    assert directed_cuts(disk, sound) > 30


@pytest.mark.timeout(300)
def test_random_power_cuts_leave_the_old_or_the_new_cache(disk: LoopDisk) -> None:
    acknowledgements, switches = random_cuts(disk, sound, count=200, dice=random.Random(1))
    assert 0 < acknowledgements <= switches < 200


def test_a_second_and_third_cut_during_the_recovery_change_nothing(disk: LoopDisk) -> None:
    root, old = begin(disk)
    dice = random.Random(2)
    for _round in range(15):
        clear_work(root)
        source = make_build(root, seed=next(SEEDS))
        acknowledged = False
        for _cut in range(3):
            attempt = start_activation(root, source, cut_at=dice.randrange(1, 60))
            acknowledged, _steps = attempt.end()
            disk.cut()
            disk.restart()
            now = judge(root, old=old, acknowledged=acknowledged)
            assert now is not None
            if acknowledged or now != old:
                old = now
                break


def directed_kills(root: CacheRoot, breaker: Breaker) -> int:
    """Kill before each step in turn; the number of kills."""
    activate_build(root, seed=next(SEEDS))
    old = activate_build(root, seed=next(SEEDS)).generation
    for number in itertools.count(1):
        clear_work(root)
        with exclusive(root):
            collect_garbage(root)
        source = make_build(root, seed=next(SEEDS))
        acknowledged, _steps = start_activation(root, source, breaker=breaker, kill_at=number).end()
        now = judge(root, old=old, acknowledged=acknowledged)
        assert now is not None
        old = now
        if acknowledged:
            return number
        assert number < 400
    raise AssertionError


def test_a_kill_before_each_step_leaves_the_old_or_the_new_cache(tmp_path: Path) -> None:
    assert directed_kills(CacheRoot(str(tmp_path / "cache")), sound) > 30


@pytest.mark.parametrize("name", sorted(BROKEN_BY_KILL))
def test_the_same_kills_convict_a_broken_writer(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssertionError, match="I2: "):
        directed_kills(CacheRoot(str(tmp_path / "cache")), BROKEN_BY_KILL[name])


@pytest.mark.parametrize("name", sorted(BROKEN_BY_POWER))
def test_the_same_cuts_convict_a_broken_writer(disk: LoopDisk, name: str) -> None:
    with pytest.raises(AssertionError, match=r"I[23]: "):
        directed_cuts(disk, BROKEN_BY_POWER[name])


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 14))
def test_thousands_of_random_power_cuts(
    disk: LoopDisk, seed: int, record_property: Callable[[str, object], None]
) -> None:
    acknowledgements, switches = random_cuts(disk, sound, count=500, dice=random.Random(seed))
    record_property("cuts", 500)
    record_property("after the acknowledgement", acknowledgements)
    record_property("new cache current", switches)
