# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines of a command while it runs, in bounded memory; the command ends with whoever reads them."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from typing import Generator, List, Sequence

from ._bounded_command import ending_with_its_caller
from ._remote_job import CommandResult, ConnectionLost

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["MAX_LINE_BYTES", "stream_lines"]

MAX_LINE_BYTES = 4 * 1024 * 1024
READ_AT_ONCE_BYTES = 256 * 1024
ERRORS_KEPT_BYTES = 4096
END_S = 5.0


def stream_lines(words: Sequence[str], *, silence_s: float) -> Generator[str, None, CommandResult]:
    """Run a command, and give each line of its standard output as soon as it is whole.

    Args:
        words: The program and its arguments.
        silence_s: A command that prints nothing for this long is taken for cut off.

    Returns:
        Its exit status, and the end of its standard error.

    Raises:
        ConnectionLost: it fell silent, ended in the middle of a line, or sent one beyond all bounds.
    """
    # ssh may leave its standard error open beyond its own end: nothing may wait for the end of that.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=ending_with_its_caller(),  # noqa: PLW1509 - one call
        )
        try:
            if process.stdout is not None:
                yield from _lines_of(process.stdout.fileno(), silence_s)
            status = process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise ConnectionLost("the command closed its output and did not end") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - ERRORS_KEPT_BYTES))
        return CommandResult(status, "", errors.read().decode("utf-8", "replace"))


def _lines_of(handle: int, silence_s: float) -> Generator[str, None, None]:
    parts: List[bytes] = []
    held_bytes = 0
    while True:
        if not select.select([handle], [], [], silence_s)[0]:
            raise ConnectionLost("nothing was heard from the companion for %.0f s" % silence_s)
        data = os.read(handle, READ_AT_ONCE_BYTES)
        if not data:
            break
        whole, newline, rest = data.rpartition(b"\n")
        if newline:
            for line in b"".join([*parts, whole]).split(b"\n"):
                yield line.decode("utf-8", "replace")
            parts, held_bytes = [], 0
        parts.append(rest)
        held_bytes += len(rest)
        if held_bytes > MAX_LINE_BYTES:
            raise ConnectionLost("a line from the companion has no end")
    if held_bytes:
        raise ConnectionLost("the companion's answer was cut short")
