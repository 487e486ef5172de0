# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A command whose other end is not to be relied on: whatever it does, it takes bounded time and memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import BinaryIO, Callable, Dict, List, Optional, Sequence, Tuple

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["BoundedAnswer", "ending_with_its_caller", "run_bounded"]

PIECE_BYTES = 16 * 1024
LOOK_S = 0.1
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class BoundedAnswer:
    """What came. `rc` is None where it was ended: `flooded` for saying too much, `stalled`, or for taking too long."""

    rc: Optional[int]
    stdout: bytes
    stderr: bytes
    flooded: bool = False
    stalled: bool = False


def ending_with_its_caller() -> Callable[[], None]:
    """For `preexec_fn`: whatever ends the thread that starts a process ends the process too (Linux)."""
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _end_of(process: "subprocess.Popen[bytes]", patience_s: float) -> List[Tuple[selectors.SelectorKey, int]]:
    """Wait a little for it; nothing is ready meanwhile."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    return []


def run_bounded(
    command: Sequence[str],
    *,
    deadline_s: float,
    cap_bytes: int,
    feed: Optional[BinaryIO] = None,
    on_fed: Callable[[int], None] = lambda _offset: None,
    silence_s: float = float("inf"),
) -> BoundedAnswer:
    """Run a command.

    Args:
        deadline_s: it is ended after so long.
        cap_bytes: it is ended when it has said more than this, on either stream.
        feed: the file that is its standard input; None is an empty one.
        on_fed: called now and then with how far into the file it has read.
        silence_s: it is ended when it has neither read nor said anything for so long.
    """
    said: Dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    deadline = time.monotonic() + deadline_s
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if feed is None else feed,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        preexec_fn=ending_with_its_caller(),  # noqa: PLW1509 - one call
    ) as process, selectors.DefaultSelector() as selector:
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, name)
        rc, flooded, stalled, fed, moved_at = None, False, False, 0, time.monotonic()
        try:
            while not (flooded or stalled) and time.monotonic() <= deadline:
                # A process that stays behind (the keeper of an open SSH connection) may hold the streams open.
                ended = process.poll() is not None
                look_s = 0 if ended else max(0.0, min(LOOK_S, deadline - time.monotonic()))
                # Without streams the selector would sleep through the end.
                ready = selector.select(look_s) if selector.get_map() else _end_of(process, look_s)
                if ended and not ready:
                    rc = process.returncode
                    break
                for key, _events in ready:
                    piece = key.fileobj.read(PIECE_BYTES)  # type: ignore[union-attr]
                    said[key.data] += piece
                    if not piece:
                        selector.unregister(key.fileobj)
                # Both processes hold the same open file: its position is how far the other has come.
                offset = os.lseek(feed.fileno(), 0, os.SEEK_CUR) if feed else 0
                if ready or offset != fed:
                    fed, moved_at = offset, time.monotonic()
                    on_fed(fed)
                flooded = any(len(words) > cap_bytes for words in said.values())
                stalled = time.monotonic() - moved_at > silence_s
        finally:
            if rc is None:
                process.kill()
    return BoundedAnswer(rc, bytes(said["stdout"]), bytes(said["stderr"]), flooded, stalled)
