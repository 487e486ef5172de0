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

VERSION = 1
CHUNK_BYTES = 65536
MAX_CHUNK_BYTES = 2 * 1024 * 1024
LOOK_EVERY_S = 0.05


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
    deadline = time.monotonic() + wait_s
    result_path = os.path.join(folder, "result.json")
    looks = 0
    while time.monotonic() < deadline:
        waiting = sum(size_of(path) - offset for path, offset in logs)
        if waiting > 0:
            if waiting < CHUNK_BYTES and not os.path.exists(result_path):
                time.sleep(min(gather_s, max(0.0, deadline - time.monotonic())))
            break
        # Whether the supervisor lives costs more to learn than whether there is output.
        if os.path.exists(result_path) or (looks % 20 == 0 and supervisor_pid(folder) is None):
            break
        looks += 1
        time.sleep(LOOK_EVERY_S)
    state, result = state_of(folder)
    out_chunk, err_chunk = (next_chunk(path, offset, limit) for path, offset in logs)
    head = '"v": %d, "state": "%s", "result": %s' % (VERSION, state, result)
    return '{%s, "out": %s, "err": %s}' % (head, out_chunk, err_chunk)


def touch_lease(folder: str) -> None:
    if os.path.isdir(folder):
        touch(os.path.join(folder, "lease"))
