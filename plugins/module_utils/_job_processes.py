# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the companion, as a part of `_job_program`: finding and ending the processes of a job, and what they may see.

Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import time

__all__ = [
    "TRUNK",
    "become_subreaper",
    "clean_environment",
    "descendants",
    "kill_descendants",
    "marked",
    "oom_kills",
    "parents",
    "reap",
    "signal_all",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

TRUNK = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RUN_MARK = "GPS_DENIED_JOB"


def parents() -> Dict[int, int]:
    """Parent of every process of the machine, zombies left out."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                rest = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if rest and rest[0] not in (b"Z", b"X"):
            found[int(name)] = int(rest[1])
    return found


def descendants(root: int) -> List[int]:
    by_parent: Dict[int, List[int]] = {}
    for pid, parent in parents().items():
        by_parent.setdefault(parent, []).append(pid)
    found: List[int] = []
    pending = [root]
    while pending:
        children = by_parent.get(pending.pop(), [])
        found.extend(children)
        pending.extend(children)
    return found


def marked(run_id: str) -> List[int]:
    """Processes that carry the run's mark in the environment they were started with."""
    wanted = ("%s=%s" % (RUN_MARK, run_id)).encode()
    found = []
    for pid in parents():
        if pid == os.getpid():
            continue
        try:
            with open("/proc/%d/environ" % pid, "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(pid)
        except OSError:
            continue
    return found


def signal_all(pids: List[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def clean_environment(spec: Dict[str, Any]) -> Dict[str, str]:
    """Nothing of the session's environment: what the command may see is stated, and nothing else."""
    import pwd

    environment = {
        "PATH": "%s:%s" % (os.path.dirname(spec["command"][0]), TRUNK),
        "HOME": pwd.getpwuid(os.getuid()).pw_dir,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        RUN_MARK: spec["run_id"],
    }
    environment.update({str(key): str(value) for key, value in (spec.get("environment") or {}).items()})
    return environment


def become_subreaper() -> None:
    """Daemons of the command become children of this process, so that it can find and end them."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def reap(pid: int) -> Tuple[bool, Optional[int]]:
    """Collect every ended child; whether `pid` was among them, and its status."""
    found = False
    result: Optional[int] = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return (True, result) if found else (True, None)
        if ended == 0:
            return found, result
        if ended == pid:
            found, result = True, status


def kill_descendants(grace_s: float, keep: int = 0) -> bool:
    """SIGKILL everything below this process until nothing is left; False where something would not die."""
    deadline = time.monotonic() + grace_s + 5.0
    while time.monotonic() < deadline:
        pids = [pid for pid in descendants(os.getpid()) if pid != keep]
        if not pids:
            return True
        signal_all(pids, 9)
        time.sleep(0.01)
        if not keep:
            reap(-1)
    return False


def oom_kills() -> Optional[int]:
    """Processes of this unit that the kernel killed for memory; None where that is not told."""
    try:
        with open("/proc/self/cgroup", "r") as file:
            path = [line.split(":", 2)[2].strip() for line in file if line.startswith("0::")]
        with open("/sys/fs/cgroup%s/memory.events" % path[0], "r") as file:
            for line in file:
                name, _space, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    except (OSError, IndexError, ValueError):
        return None
    return None
