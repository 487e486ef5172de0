# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the companion, as a part of `_job_program`: the job's folder, and what its files say.

Python 3.8, standard library only. The folder (0700): `spec.json`, `out.log` and `err.log` (the command's stdout and
stderr), `alive` (locked by the supervisor as long as it lives; holds its pid), `lease` (touched by every poll),
`cancel` (there once somebody has asked for the end), `result.json` (written once, at the end). A job without result
whose `alive` is not locked was lost: killed, or the machine restarted.
"""

from __future__ import annotations

import os

__all__ = ["JobError", "lock_file", "read_json", "size_of", "state_of", "supervisor_pid", "touch", "write_once"]

# A poll is worth a few milliseconds of the companion: json and typing take longer to import than it takes to run,
# and are left to the verbs that are asked for once.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Tuple


class JobError(Exception):
    """What the caller did wrong, or what the companion refused; its text is the answer's `error`."""


def write_once(path: str, data: bytes) -> None:
    """Atomic and durable: temporary name, write, fsync, rename, fsync the folder."""
    temporary = "%s.tmp.%d" % (path, os.getpid())
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    os.rename(temporary, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_text(path: str) -> Optional[str]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(handle, "rb") as file:
        return file.read(1 << 20).decode("utf-8")


def read_json(path: str) -> Optional[Dict[str, Any]]:
    import json

    text = read_text(path)
    if text is None:
        return None
    value = json.loads(text)
    if not isinstance(value, dict):
        raise JobError("%s does not hold an object" % path)
    return value


def size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def lock_file(path: str, *, wait: bool) -> Optional[int]:
    """A descriptor that holds the lock, or None where another process holds it."""
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def supervisor_pid(folder: str) -> Optional[int]:
    """The living supervisor's pid; 0 while it has not written it; None where none lives."""
    path = os.path.join(folder, "alive")
    if not os.path.exists(path):
        return None
    handle = lock_file(path, wait=False)
    if handle is not None:
        os.close(handle)
        return None
    with open(path, "rb") as file:
        text = file.read(32).strip()
    return int(text) if text.isdigit() else 0


def state_of(folder: str) -> Tuple[str, str]:
    """absent, running, ended or lost; and the result of an ended job as JSON, else `null`."""
    if not os.path.exists(os.path.join(folder, "spec.json")):
        return "absent", "null"
    running = supervisor_pid(folder) is not None
    # The result is looked up after the lock: a supervisor that ended in between has left it.
    result = read_text(os.path.join(folder, "result.json"))
    if result is not None:
        return "ended", result.replace("\n", " ")
    return ("running" if running else "lost"), "null"


def touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    os.utime(path)
