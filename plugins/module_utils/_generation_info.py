# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a companion says about its cache, in one call that never fails for a missing or broken cache.

Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict
from typing import Any, Dict, Optional

from ._activation_lock import read_companion_lock
from ._activation_state import CacheRoot
from ._errors import CacheBuildError, VehicleIdMismatchError
from ._takeoff_check import TakeoffQuestion, check_cache

__all__ = ["check_vehicle", "describe_cache"]


def _room(path: str) -> Dict[str, int]:
    """Free bytes and inodes for this user; -1 inodes where the file system has no such limit."""
    found = os.statvfs(path)
    return {"free_bytes": found.f_bavail * found.f_frsize, "free_inodes": found.f_favail if found.f_files else -1}


def _nearest(path: str) -> str:
    """The folder itself, or the nearest one above that is there."""
    path = os.path.abspath(path)
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    return path


def _current(root: CacheRoot, *, full: bool, now_epoch_s: Optional[float]) -> Optional[Dict[str, Any]]:
    if not os.path.lexists(root.join("current")):
        return None
    answer = check_cache(root, TakeoffQuestion(full=full, now_epoch_s=now_epoch_s))
    found = asdict(answer)
    found.pop("go")
    found.update(healthy=answer.go)
    return found


def _vehicle_id(root: CacheRoot) -> Optional[str]:
    try:
        return root.vehicle_id()
    except CacheBuildError:
        return None  # enrolled and nameless: whoever activates or verifies is told


def check_vehicle(root: CacheRoot, vehicle_id: str) -> None:
    """Hold the name that enrolment gave this companion, where it did, against the one that is meant.

    Raises:
        VehicleIdMismatchError: it is another vehicle's companion.
    """
    named = _vehicle_id(root)
    if named is not None and named != vehicle_id:
        raise VehicleIdMismatchError(
            f"this companion was enrolled as {named[:64]!a}, and {vehicle_id[:64]!a} is meant",
            details={"enrolled_as": named[:64], "meant": vehicle_id[:64]},
        )


def describe_cache(root: CacheRoot, *, full: bool = True, now_epoch_s: Optional[float] = None) -> Dict[str, Any]:
    """The facts, as plain data.

    Args:
        root: the cache root; it need not be there.
        full: hash the current generation, so that `current.healthy` means every byte.
        now_epoch_s: judge the grant by this time instead of the clock.
    """
    nearest = _nearest(root.path)
    lock = read_companion_lock(root)
    try:
        floor: Optional[int] = root.counter_floor()
        upcoming: Optional[int] = root.next_counter()
        previous = root.link_target("previous")
    except CacheBuildError:
        floor, upcoming, previous = None, None, None
    return {
        "root": root.path,
        "present": os.path.isdir(root.path),
        "writable": os.path.isdir(root.path) and os.access(root.path, os.W_OK | os.X_OK),
        "current": _current(root, full=full, now_epoch_s=now_epoch_s),
        "previous": str(previous) if previous else None,
        "generations": [str(name) for name in root.generation_names()],
        "counter_floor": floor,
        "next_counter": upcoming,
        "enrolled": root.enrolled(),
        "vehicle_id": _vehicle_id(root),
        "lock": None
        if lock is None or not lock.is_live()
        else {"holder": lock.holder, "run_id": lock.run_id, "token": lock.token},
        "free": {name: _room(_nearest(root.join(name))) for name in ("generations", "incoming", "work", "jobs")},
        **_room(nearest),
        "python_version": platform.python_version(),
        "machine": platform.machine(),
        "clock_epoch_s": time.time(),
    }
