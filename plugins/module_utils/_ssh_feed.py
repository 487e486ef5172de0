# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file as the standard input of a command on the companion, with progress and an end.

ssh reads the file itself, and the command takes it as it comes: the fewest copies that there are. What rsync would add
to find out what is there already, a new file has no use for.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Callable, Sequence

from ._bounded_command import run_bounded
from ._link_error import link_broke, took_too_long
from ._remote_job import CommandResult

__all__ = ["feed_file"]

SILENCE_S = 60.0
ANSWER_BYTES = 1 << 20
TELL_EVERY_S = 1.0


def feed_file(
    source: str,
    *,
    ssh: Sequence[str],
    host: str,
    command: str,
    deadline_s: float,
    on_progress: Callable[[int, str], None],
) -> CommandResult:
    """Run `command` on `host`, with the file `source` as its standard input.

    Args:
        ssh: the ssh command with its options.
        deadline_s: how long it may take in all; silence ends it before.
        on_progress: called with the bytes of the file that are on their way, and with rate and time left in words.

    Returns:
        What the command answered; it need not have read everything.

    Raises:
        SyncError: it took too long.
        CompanionUnreachableError: the link broke, fell silent, or was flooded.
    """
    doing = f"sending the tiles to {host}"
    with open(source, "rb", buffering=0) as stream:
        answer = run_bounded(
            [*ssh, "--", host, command],
            deadline_s=deadline_s,
            cap_bytes=ANSWER_BYTES,
            feed=stream,
            on_fed=_Told(os.path.getsize(source), on_progress).at,
            silence_s=SILENCE_S,
        )
    said = answer.stderr.decode("utf-8", "replace")
    if answer.stalled:
        raise link_broke(doing, f"nothing was taken or answered for {SILENCE_S:.0f} s")
    if answer.flooded:
        raise link_broke(doing, f"the companion answered with more than {ANSWER_BYTES // 1024} KiB")
    if answer.rc is None:
        raise took_too_long(doing, deadline_s)
    if answer.rc == 255 or answer.rc < 0:
        raise link_broke(doing, said)
    return CommandResult(answer.rc, answer.stdout.decode("utf-8", "replace"), said)


class _Told:
    """Progress in numbers and words, once a second."""

    def __init__(self, total_bytes: int, on_progress: Callable[[int, str], None]) -> None:
        self._total_bytes, self._on_progress = total_bytes, on_progress
        self._started = self._told_at = time.monotonic()

    def at(self, done_bytes: int) -> None:
        now = time.monotonic()
        if now - self._told_at < TELL_EVERY_S or not done_bytes:
            return
        self._told_at, rate = now, done_bytes / (now - self._started)
        left = timedelta(seconds=int((self._total_bytes - done_bytes) / rate))
        self._on_progress(done_bytes, f"{rate / 1e6:.2f}MB/s, {left} left")
