# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A command whose other end is not known yet: whatever it does, it takes bounded time and memory."""

from __future__ import annotations

import selectors
import subprocess
import time
from dataclasses import dataclass
from typing import Dict, Optional, Sequence

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["BoundedAnswer", "run_bounded"]

PIECE_BYTES = 16 * 1024
LOOK_S = 0.1


@dataclass(frozen=True)
class BoundedAnswer:
    """What came. `rc` is None where it was ended: `flooded` for saying too much, else for taking too long."""

    rc: Optional[int]
    stdout: bytes
    stderr: bytes
    flooded: bool = False


def run_bounded(command: Sequence[str], *, deadline_s: float, cap_bytes: int) -> BoundedAnswer:
    """Run a command with nothing on its standard input.

    Args:
        deadline_s: it is ended after so long.
        cap_bytes: it is ended when it has said more than this, on either stream.
    """
    said: Dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    deadline = time.monotonic() + deadline_s
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process, selectors.DefaultSelector() as selector:
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, name)
        rc = None
        while True:
            # A process that stays behind (the keeper of an open SSH connection) may hold the streams open.
            ended = process.poll() is not None
            ready = selector.select(0 if ended else max(0.0, min(LOOK_S, deadline - time.monotonic())))
            for key, _events in ready:
                piece = key.fileobj.read(PIECE_BYTES)  # type: ignore[union-attr]
                said[key.data] += piece
                if not piece:
                    selector.unregister(key.fileobj)
            flooded = any(len(words) > cap_bytes for words in said.values())
            if flooded or time.monotonic() > deadline:
                process.kill()
                break
            if ended and not ready:
                rc = process.returncode
                break
    return BoundedAnswer(rc, bytes(said["stdout"]), bytes(said["stderr"]), flooded)
