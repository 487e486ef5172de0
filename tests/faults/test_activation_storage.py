# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real disk that is full, out of inodes, or read-only."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation import activate
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_rollback import roll_back
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheActivateError, CacheBuildError
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_faults import Reason, reason_of
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_info import describe_cache
from cache_samples import RUN_ID, activate_build, grant_for, make_build, seal_only
from power import LoopDisk
from writers import judge


def fill(folder: Path, left_bytes: int) -> Path:
    """Take all space but about `left_bytes`."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        chunk = bytes(1 << 16)
        while True:
            try:
                stream.write(chunk)
            except OSError as exc:
                assert exc.errno == errno.ENOSPC
                break
        stream.truncate(max(0, stream.tell() - left_bytes))
        os.fsync(stream.fileno())
    return ballast


def test_a_full_disk_refuses_in_a_sentence_and_the_next_run_succeeds(disk: LoopDisk) -> None:
    root = CacheRoot(disk.root)
    old = activate_build(root, seed=1).generation
    source = make_build(root, seed=2)
    content_id, counter = seal_only(root, source)
    text = grant_for(content_id, counter).to_text().encode()
    done = None
    for left_bytes in range(0, 40960, 4096):
        ballast = fill(disk.mountpoint, left_bytes)
        try:
            done = activate(root, sealed_path=source, run_id=RUN_ID, token=None, grant_text=text)
        except CacheActivateError as exc:
            assert reason_of(exc) is Reason.STORAGE
            assert exc.details["errno"] == "ENOSPC"
            assert "No space left on device" in exc.message
        now = judge(root, old=old, acknowledged=done is not None)
        assert now is not None
        ballast.unlink()
        if done:
            break
    again = activate(root, sealed_path=source, run_id=RUN_ID, token=None, grant_text=text)
    assert judge(root, old=old, acknowledged=True) == again.generation


def test_a_rollback_without_room_leaves_nothing_behind(disk: LoopDisk) -> None:
    root = CacheRoot(disk.root)
    first = activate_build(root, seed=1, archive=random.Random(1).randbytes(4 << 20))
    second = activate_build(root, seed=2)
    text = grant_for(first.content_id, 3).to_text().encode()
    ballast = fill(disk.mountpoint, 1 << 20)
    with pytest.raises(CacheActivateError, match="No space left on device"):
        roll_back(root, generation=first.generation, run_id=RUN_ID, grant_text=text, token=None)
    assert os.listdir(root.join("work")) == []
    assert judge(root, old=None, acknowledged=True) == second.generation
    ballast.unlink()
    assert roll_back(root, generation=first.generation, run_id=RUN_ID, grant_text=text, token=None).counter == 3


def test_a_disk_that_turned_read_only_is_told_and_still_verifies(disk: LoopDisk) -> None:
    root = CacheRoot(disk.root)
    old = activate_build(root, seed=1).generation
    source = make_build(root, seed=2)
    content_id, counter = seal_only(root, source)
    text = grant_for(content_id, counter).to_text().encode()
    disk.options = "ro"
    disk.restart()
    with pytest.raises(CacheBuildError, match="Read-only file system") as caught:
        activate(root, sealed_path=source, run_id=RUN_ID, token=None, grant_text=text)
    assert reason_of(caught.value) is Reason.STORAGE
    facts = describe_cache(root)
    assert (facts["writable"], facts["current"]["healthy"], facts["current"]["generation"]) == (False, True, old)


def test_a_disk_without_inodes_is_told_beforehand(disk: LoopDisk) -> None:
    root = CacheRoot(disk.root)
    activate_build(root, seed=1)
    folder = disk.mountpoint / "many"
    folder.mkdir()
    free = describe_cache(root)["free_inodes"]
    assert free > 1000
    for number in range(500):
        (folder / str(number)).touch()
    assert free - 510 <= describe_cache(root)["free_inodes"] <= free - 490
