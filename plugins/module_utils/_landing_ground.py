# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is the vehicle on the ground and disarmed, by the flag file that its flight software keeps fresh?

`<cache root>/landing/ground.json` holds {"schema_version": 1, "boot_id": …, "boottime_s": …, "landed": true,
"armed": false}. It counts only when it is of this boot and seconds old, by the boot clock, which no clock setting
moves. Anything else is "unknown", and unknown is refused. Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, Optional

from ._activation_lock import boot_id
from ._errors import VehicleNotLandedError
from ._landing_spool import LANDING_FOLDER

__all__ = ["FLAG_NAME", "check_ground_flag"]

FLAG_NAME = "ground.json"
MAX_FLAG_BYTES = 4096
_KEYS = {"schema_version", "boot_id", "boottime_s", "landed", "armed"}


def _not_landed(reason: str, message: str) -> VehicleNotLandedError:
    return VehicleNotLandedError(message, details={"reason": reason})


def _read_flag(path: str) -> Dict[str, Any]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            content = stream.read(MAX_FLAG_BYTES + 1)
    except OSError as exc:
        raise _not_landed("flag-missing", f"the flag {path} cannot be read: {exc.strerror}") from None
    try:
        flag = json.loads(content) if len(content) <= MAX_FLAG_BYTES else None
    except (ValueError, RecursionError):
        flag = None
    if not isinstance(flag, dict) or not set(flag) >= _KEYS or flag["schema_version"] != 1:
        raise _not_landed("flag-malformed", f"the flag {path} is not as documented")
    if not isinstance(flag["landed"], bool) or not isinstance(flag["armed"], bool):
        raise _not_landed("flag-malformed", f"the flag {path} says neither yes nor no")
    if isinstance(flag["boottime_s"], bool) or not isinstance(flag["boottime_s"], (int, float)):
        raise _not_landed("flag-malformed", f"the flag {path} has no time")
    return flag


def check_ground_flag(
    root: str, *, max_age_s: float, boottime_s: Optional[float] = None, boot: Optional[str] = None
) -> Dict[str, Any]:
    """What the flag says, where it says for certain that the vehicle is landed and disarmed.

    Args:
        max_age_s: an older flag does not count.
        boottime_s, boot: the moment and the boot to judge by; by default this machine's.

    Raises:
        VehicleNotLandedError: armed, not landed, or unknown; `details["reason"]` says which.
    """
    flag = _read_flag(os.path.join(root, LANDING_FOLDER, FLAG_NAME))
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME) if boottime_s is None else boottime_s
    if flag["boot_id"] != (boot or boot_id()):
        raise _not_landed("flag-of-another-boot", "the landed flag was written before the companion was started anew")
    age_s = now_s - float(flag["boottime_s"])
    if not 0.0 <= age_s <= max_age_s:  # nor NaN
        raise _not_landed("flag-stale", f"the landed flag is {age_s:.0f} s old, and counts for {max_age_s:.0f} s")
    if flag["armed"]:
        raise _not_landed("armed", "the vehicle is armed")
    if not flag["landed"]:
        raise _not_landed("in-the-air", "the vehicle is not on the ground")
    return {"proof": "flag", "age_s": round(age_s, 3)}
