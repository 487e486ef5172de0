# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The workstation's lock: one run at a time from the download to the activation.

A module cannot hold a lock across tasks, so a small detached process holds it (this file, run as a program). It lives
as long as the process it serves: a pidfd tells it of every kind of end, kill -9 included, and the kernel frees the
lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Dict, List

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["acquire_lock", "holder_is_alive", "read_holder", "release_lock"]

HOLDER_SUFFIX = ".holder"
START_TIMEOUT_S = 20.0


def read_holder(lock_path: str) -> Dict[str, Any]:
    """Who holds the lock: pid, run_id, since, host, user; empty where unknown."""
    try:
        with open(lock_path + HOLDER_SUFFIX, "rb") as stream:
            holder = json.loads(stream.read(4096))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def acquire_lock(lock_path: str, *, run_id: str, serves_pid: int, timeout_s: float) -> int:
    """Start the holder and wait for its word.

    Args:
        serves_pid: the process whose end frees the lock.
        timeout_s: how long to wait for another run.

    Returns:
        The holder's process id, for `release_lock`.

    Raises:
        BuildCancelledError: the process that it is to serve is gone.
        BuildLockHeldError: another run holds the lock; says who, and since when.
        SettingsError: the lock's file cannot be made.
    """
    from ._errors import BuildCancelledError, BuildLockHeldError, FailurePhase, SettingsError

    command = [sys.executable, "-I", os.path.abspath(__file__), lock_path, str(serves_pid), str(timeout_s), run_id]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    answer = b""
    if process.stdout is not None:
        if select.select([process.stdout], [], [], timeout_s + START_TIMEOUT_S)[0]:
            answer = process.stdout.readline().strip()
        process.stdout.close()
    if answer == b"OK":
        process.returncode = 0  # it outlives this process on purpose: nobody here reaps it
        return process.pid
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
    if answer == b"GONE":
        raise BuildCancelledError(f"process {serves_pid}, which wanted the lock, is gone", phase=FailurePhase.LOCK)
    if answer != b"HELD":
        raise SettingsError(
            f"cannot lock {lock_path}: {answer.decode('utf-8', 'replace') or 'the holder did not start'}",
            phase=FailurePhase.LOCK,
            remediation="Choose a cache_staging_root on a local disk that you may write to.",
        )
    holder = read_holder(lock_path)
    who = "another run"
    if holder:
        who = f"run {holder.get('run_id')} of {holder.get('user')} (process {holder.get('pid')})"
        who += f" since {holder.get('since')}"
    raise BuildLockHeldError(f"{lock_path} is held by {who}", details={"holder": holder})


def _is_holder(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return os.path.basename(__file__).encode() in stream.read()
    except OSError:
        return False


def holder_is_alive(pid: int) -> bool:
    """Whether the holder that `acquire_lock` started still runs."""
    return _is_holder(pid)


def release_lock(pid: int) -> bool:
    """Ask the holder to free the lock, and wait until it has; False where it was gone already."""
    if not _is_holder(pid):
        return False
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        select.select([descriptor], [], [], START_TIMEOUT_S)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def _write_holder(lock_path: str, run_id: str) -> None:
    import getpass

    holder = {
        "pid": os.getpid(),
        "run_id": run_id,
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    temporary = lock_path + HOLDER_SUFFIX + ".tmp"
    with open(temporary, "w", encoding="utf-8") as stream:
        json.dump(holder, stream)
    os.replace(temporary, lock_path + HOLDER_SUFFIX)


def hold(lock_path: str, serves_pid: int, timeout_s: float, run_id: str) -> int:
    """The holder's whole life; returns its exit status."""
    import filelock

    end_read, end_write = os.pipe()
    os.set_blocking(end_write, False)
    signal.set_wakeup_fd(end_write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_unused: None)
    try:
        served = os.pidfd_open(serves_pid)
    except ProcessLookupError:
        _say("GONE")
        return 1
    lock = filelock.FileLock(lock_path, timeout=timeout_s, mode=0o600)
    try:
        lock.acquire()
    except filelock.Timeout:
        _say("HELD")
        return 1
    except OSError as exc:
        _say(str(exc.strerror))
        return 1
    try:
        _write_holder(lock_path, run_id)
        _say("OK")
        os.close(1)
        select.select([served, end_read], [], [])
    finally:
        with contextlib.suppress(OSError):
            os.unlink(lock_path + HOLDER_SUFFIX)
        lock.release()
    return 0


def _main(arguments: List[str]) -> int:
    lock_path, serves_pid, timeout_s, run_id = arguments
    return hold(lock_path, int(serves_pid), float(timeout_s), run_id)


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
