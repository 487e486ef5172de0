# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Following and ending a build that somebody else started, by its work folder.

The build holds a lock on `c10.lock`, in which its process id stands, and writes every line that it says to
`lines.ndjson` as well. Whether it runs is what the lock says, never the process id alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Any, BinaryIO, Callable, Optional

from ._errors import BuilderError

__all__ = ["LINES_NAME", "LOCK_NAME", "attach", "cancel", "hold", "holder_pid"]

LOCK_NAME = "c10.lock"
LINES_NAME = "lines.ndjson"
_POLL_S = 0.1


def hold(work_dir: Path) -> BinaryIO:
    """Take the lock of a work folder, for as long as the returned stream is open.

    Raises:
        BuilderError: `busy`.
    """
    stream = open(work_dir / LOCK_NAME, "a+b", buffering=0)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise BuilderError(
            "busy",
            "another build is using %s" % work_dir,
            hint="follow it with c10-builder attach, or end it with c10-builder cancel",
            retryable=True,
        ) from error
    stream.truncate(0)
    stream.write(b"%d\n" % os.getpid())
    return stream


def holder_pid(work_dir: Path) -> Optional[int]:
    """Process id of the build at work there, or None."""
    try:
        with open(work_dir / LOCK_NAME, "rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                text = stream.read(32)
                return int(text) if text.strip().isdigit() else None
    except OSError:
        pass
    return None


def _no_build(work_dir: Path) -> BuilderError:
    return BuilderError(
        "bad_request", "there is no build in %s" % work_dir, hint="give the work_dir of the build's request"
    )


def attach(work_dir: Path, write: Callable[[bytes], Any]) -> bool:
    """Hand on every line of the build in a work folder, from its first, until its last.

    Returns:
        whether the last line was a report; not so where the build was killed.

    Raises:
        BuilderError: `bad_request` where no build ever was.
    """
    try:
        stream = open(work_dir / LINES_NAME, "rb")
    except OSError as error:
        raise _no_build(work_dir) from error
    last, rest = b"", b""
    with stream:
        while True:
            # asked before reading: what the build wrote before it ended is then read in this same round
            runs = holder_pid(work_dir) is not None
            part = stream.read(1 << 16)
            if part:
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    write(line + b"\n")
                    last = line
                continue
            if not runs:
                return last.startswith(b'{"t":"report"')
            time.sleep(_POLL_S)


def cancel(work_dir: Path, *, timeout_s: float = 10.0) -> bool:
    """End the build in a work folder as Ctrl-C would, and wait until it has.

    Returns:
        whether there was one to end.

    Raises:
        BuilderError: `bad_request` where no build ever was; `busy` where it did not end in time.
    """
    if not (work_dir / LOCK_NAME).exists():
        raise _no_build(work_dir)
    pid = holder_pid(work_dir)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    give_up_at = time.monotonic() + timeout_s
    while holder_pid(work_dir) is not None:
        if time.monotonic() > give_up_at:
            raise BuilderError(
                "busy", "the build (process %d) did not end within %g s" % (pid, timeout_s), hint="kill -9 %d" % pid
            )
        time.sleep(_POLL_S)
    return True
