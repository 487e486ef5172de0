# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the companion, as a part of `_job_program`: one look at a job, from a byte offset on.

Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import time

from ._job_folder import size_of, state_of, supervisor_pid, touch

__all__ = ["CHUNK_BYTES", "MAX_CHUNK_BYTES", "VERSION", "poll"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

VERSION = 1
CHUNK_BYTES = 65536
MAX_CHUNK_BYTES = 2 * 1024 * 1024
LOOK_EVERY_S = 0.05
LOOK_AT_LAST_S = 1.0
"""How often to look whether the supervisor lives, which nothing in its folder would tell."""


def next_chunk(path: str, offset: int, limit: int) -> str:
    import binascii

    data = b""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(limit)
    except FileNotFoundError:
        data = b""
    text = binascii.b2a_base64(data, newline=False).decode("ascii")
    return '{"size": %d, "offset": %d, "data": "%s"}' % (size_of(path), offset, text)


def poll(folder: str, *, out: int, err: int, limit: int, wait_s: float, gather_s: float) -> str:
    """Wait until there is output beyond the offsets, the job has ended, or `wait_s` has passed; then tell, in JSON.

    Args:
        folder: The job's folder.
        out: Bytes of standard output that are known already.
        err: Bytes of standard error that are known already.
        limit: Most bytes of each to tell now.
        wait_s: Longest wait.
        gather_s: How long to wait for more, once there is something.
    """
    logs = ((os.path.join(folder, "out.log"), out), (os.path.join(folder, "err.log"), err))
    limit = min(max(limit, CHUNK_BYTES), MAX_CHUNK_BYTES)
    touch_lease(folder)
    wait_for_change = changes_of(folder)
    deadline = time.monotonic() + wait_s
    result_path = os.path.join(folder, "result.json")
    asked_at = 0.0
    while time.monotonic() < deadline:
        waiting = sum(size_of(path) - offset for path, offset in logs)
        if waiting > 0:
            if waiting < CHUNK_BYTES and not os.path.exists(result_path):
                time.sleep(min(gather_s, max(0.0, deadline - time.monotonic())))
            break
        if os.path.exists(result_path):
            break
        # Whether the supervisor lives costs more to learn than whether there is output.
        if time.monotonic() - asked_at >= LOOK_AT_LAST_S:
            if supervisor_pid(folder) is None:
                break
            asked_at = time.monotonic()
        wait_for_change(min(LOOK_AT_LAST_S, max(0.0, deadline - time.monotonic())))
    state, result = state_of(folder)
    out_chunk, err_chunk = (next_chunk(path, offset, limit) for path, offset in logs)
    head = '"v": %d, "state": "%s", "result": %s' % (VERSION, state, result)
    return '{%s, "out": %s, "err": %s}' % (head, out_chunk, err_chunk)


def changes_of(folder: str) -> Callable[[float], object]:
    """Waits for a change of what lies in the folder, for so many seconds at most.

    The kernel tells of it by a signal (fcntl(2), F_NOTIFY); where it was built without that, a short sleep stands in.
    """
    import fcntl
    from _signal import (  # type: ignore[import-not-found] # `signal` itself would import enum
        SIG_BLOCK,
        SIGIO,
        pthread_sigmask,
        sigtimedwait,
    )

    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # Open until this program ends.
        pthread_sigmask(SIG_BLOCK, [SIGIO])
        wanted = fcntl.DN_MODIFY | fcntl.DN_CREATE | fcntl.DN_RENAME | fcntl.DN_DELETE | fcntl.DN_MULTISHOT
        fcntl.fcntl(handle, fcntl.F_NOTIFY, wanted)
    except OSError:
        return lambda wait_s: time.sleep(min(LOOK_EVERY_S, wait_s))
    return lambda wait_s: sigtimedwait([SIGIO], wait_s)


def touch_lease(folder: str) -> None:
    if os.path.isdir(folder):
        touch(os.path.join(folder, "lease"))
