# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the companion, as a part of `_job_program`: looking at a job, from a byte offset on, once or for a while.

Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import time

from ._job_folder import size_of, state_of, supervisor_pid, touch

__all__ = ["CHUNK_BYTES", "VERSION", "follow"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Tuple

VERSION = 1
CHUNK_BYTES = 65536
LOOK_EVERY_S = 0.05
LOOK_AT_LAST_S = 1.0
"""How often to look whether the supervisor lives, which nothing in its folder would tell."""


def next_chunk(path: str, offset: int) -> Tuple[int, int, str]:
    """How many bytes come after the offset, how many of them are told now, and those, in JSON."""
    import binascii

    data = b""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(CHUNK_BYTES)
    except FileNotFoundError:
        data = b""
    size = size_of(path)
    text = binascii.b2a_base64(data, newline=False).decode("ascii")
    return size - offset, len(data), '{"size": %d, "offset": %d, "data": "%s"}' % (size, offset, text)


def follow(
    folder: str, *, out: int, err: int, wait_s: float, gather_s: float, for_s: float, say: Callable[[str], None]
) -> None:
    """Tell, in JSON, what is there beyond the offsets and what state the job is in; again and again, for a while.

    A line of the builder then costs a few system calls, not a program's start. Each answer comes when there is output,
    when the job has ended, or after `wait_s`; the last one when all of an ended job is told, or after `for_s`. The
    lease counts from the beginning: answers that a broken link swallows must not renew it.

    Args:
        folder: The job's folder.
        out: Bytes of standard output that are known already.
        err: Bytes of standard error that are known already.
        wait_s: Longest wait before an answer.
        gather_s: How long to wait for more, once there is something.
        for_s: How long to go on; 0 is one answer.
        say: Takes each answer; what it raises ends the following.
    """
    touch_lease(folder)
    wait_for_change = changes_of(folder)
    out_path, err_path = os.path.join(folder, "out.log"), os.path.join(folder, "err.log")
    until = time.monotonic() + for_s
    while True:
        wait_for_news(folder, ((out_path, out), (err_path, err)), wait_for_change, wait_s, gather_s)
        state, result = state_of(folder)
        out_left, out_told, out_chunk = next_chunk(out_path, out)
        err_left, err_told, err_chunk = next_chunk(err_path, err)
        head = '"v": %d, "state": "%s", "result": %s' % (VERSION, state, result)
        say('{%s, "out": %s, "err": %s}' % (head, out_chunk, err_chunk))
        out, err = out + out_told, err + err_told
        all_told = state != "running" and out_told == out_left and err_told == err_left
        if all_told or time.monotonic() >= until:
            return


def wait_for_news(
    folder: str,
    logs: Tuple[Tuple[str, int], ...],
    wait_for_change: Callable[[float], object],
    wait_s: float,
    gather_s: float,
) -> None:
    """Wait for output beyond the offsets, and a little for more of it, or for the job's end."""
    deadline = time.monotonic() + wait_s
    result_path = os.path.join(folder, "result.json")
    asked_at = 0.0
    while time.monotonic() < deadline:
        waiting = sum(size_of(path) - offset for path, offset in logs)
        if waiting > 0:
            if waiting < CHUNK_BYTES and not os.path.exists(result_path):
                time.sleep(min(gather_s, max(0.0, deadline - time.monotonic())))
            return
        if os.path.exists(result_path):
            return
        # Whether the supervisor lives costs more to learn than whether there is output.
        if time.monotonic() - asked_at >= LOOK_AT_LAST_S:
            if supervisor_pid(folder) is None:
                return
            asked_at = time.monotonic()
        wait_for_change(min(LOOK_AT_LAST_S, max(0.0, deadline - time.monotonic())))


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
