# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _activation_lock
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_lock import (
    acquire_companion_lock,
    check_token,
    exclusive,
    read_companion_lock,
    release_companion_lock,
    renew_companion_lock,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import BuildLockHeldError, CacheActivateError


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def test_another_workstation_is_told_who_holds_it(root: str) -> None:
    acquire_companion_lock(root, "run-1", "run run-1 of ann on bench-a")
    with pytest.raises(BuildLockHeldError, match=r"is held by run run-1 of ann on bench-a since 20.* more at most"):
        acquire_companion_lock(root, "run-2", "run run-2 of bob on bench-b")


def test_the_same_workstation_takes_over_from_its_dead_run_at_once(root: str) -> None:
    first = acquire_companion_lock(root, "run-1", "run run-1 of ann on bench-a")
    assert acquire_companion_lock(root, "run-1", "run run-1 of ann on bench-a") == first
    second = acquire_companion_lock(root, "run-2", "run run-2 of ann on bench-a")
    assert second == first + 1
    with pytest.raises(CacheActivateError, match="run run-1 no longer holds the lock"):
        renew_companion_lock(root, "run-1", first)
    assert not release_companion_lock(root, "run-1", first)
    assert release_companion_lock(root, "run-2", second)
    assert not release_companion_lock(root, "run-2", second)


def test_a_lease_that_ended_and_a_boot_free_the_lock_and_tokens_never_fall(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [acquire_companion_lock(root, "run-1", "a", lease_s=0.0)]
    tokens.append(acquire_companion_lock(root, "run-2", "b"))
    monkeypatch.setattr(_activation_lock, "boot_id", lambda: "another boot")
    tokens.append(acquire_companion_lock(root, "run-3", "c"))
    assert tokens == [1, 2, 3]


def test_a_damaged_record_is_no_lock_and_no_traceback(root: str) -> None:
    acquire_companion_lock(root, "run-1", "a")
    for content in (b"", b"{", b"[]", b'{"token":"x"}', b'{"token":1e999}', b"\xff" * 99):
        Path(root, "lock.json").write_bytes(content)
        assert read_companion_lock(CacheRoot(root)) is None
    assert acquire_companion_lock(root, "run-2", "b") >= 1


def test_without_a_token_only_a_free_cache_may_be_changed(root: str) -> None:
    token = acquire_companion_lock(root, "run-1", "a")
    place = CacheRoot(root)
    check_token(place, "run-1", token)
    check_token(place, "run-1", None)
    with pytest.raises(CacheActivateError, match="is held by a"):
        check_token(place, "run-2", None)
    release_companion_lock(root, "run-1", token)
    check_token(place, "run-2", None)


def test_a_token_counts_no_longer_than_its_lock(root: str) -> None:
    token = acquire_companion_lock(root, "run-1", "a")
    assert release_companion_lock(root, "run-1", token)
    with pytest.raises(CacheActivateError, match="no longer holds the lock"):
        check_token(CacheRoot(root), "run-1", token)
    with pytest.raises(CacheActivateError, match="no longer holds the lock"):
        renew_companion_lock(root, "run-1", token)
    last = read_companion_lock(CacheRoot(root))
    assert last is not None
    assert not last.held


def _contend(root: str, name: str, wins: multiprocessing.Queue[str], start: str) -> None:
    while not os.path.exists(start):
        time.sleep(0.001)
    try:
        acquire_companion_lock(root, name, f"workstation {os.getpid()} {name}", owner=name)
        wins.put(name)
    except BuildLockHeldError:
        wins.put("")


def test_of_eight_contenders_one_wins(root: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for turn in range(15):
        wins: multiprocessing.Queue[str] = context.Queue()
        start = str(tmp_path / f"start-{turn}")
        names = [f"run-{turn}-{number}" for number in range(8)]
        others = [context.Process(target=_contend, args=(root, name, wins, start)) for name in names]
        for process in others:
            process.start()
        Path(start).touch()
        answers = [wins.get(timeout=30) for _process in others]
        for process in others:
            process.join()
        (winner,) = [answer for answer in answers if answer]
        last = read_companion_lock(CacheRoot(root))
        assert last is not None
        assert last.run_id == winner
        release_companion_lock(root, winner, last.token)


def test_who_waits_for_the_short_lock_too_long_is_told(root: str) -> None:
    place = CacheRoot(root)
    place.ensure()
    with (
        exclusive(place),
        pytest.raises(BuildLockHeldError, match="did not finish within 0 s"),
        exclusive(place, timeout_s=0),
    ):
        pass


def test_a_lock_file_that_is_a_link_is_not_followed(root: str, tmp_path: Path) -> None:
    place = CacheRoot(root)
    place.ensure()
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    os.symlink(target, place.join("lock"))
    with pytest.raises(OSError, match="symbolic links"), exclusive(place):
        pass
    assert target.read_bytes() == b"precious"
