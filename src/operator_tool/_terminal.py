# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""Standard streams that may go away: a closed pipe, a dead terminal or a full disk never ends a run half-way.

What cannot be written is dropped, and the first reason is kept. A build goes on to its end and to its own exit code.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Streams", "forgiving_streams"]

GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO)
"""Nobody reads any more: `| head`, a terminal that was closed."""


class _Forgiving(io.FileIO):
    """A descriptor that takes everything and drops what it cannot pass on."""

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        """All of the data; from the first failure on nothing is tried again."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest and self.lost is None:
            try:
                rest = rest[super().write(rest) or 0 :]
            except OSError as exc:
                self.lost = exc
        return size


@dataclass(frozen=True)
class Streams:
    """Both output streams of the command."""

    stdout: _Forgiving
    stderr: _Forgiving

    def lost_output(self) -> OSError | None:
        """Why results are missing though somebody wants them; None where all arrived or nobody reads any more."""
        lost = self.stdout.lost
        return None if lost is None or lost.errno in GONE else lost


@contextlib.contextmanager
def forgiving_streams() -> Iterator[Streams]:
    """Put forgiving streams in the place of stdout and stderr while this lasts; closed descriptors become /dev/null."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    before = sys.stdout, sys.stderr
    files = _Forgiving(1, "w", closefd=False), _Forgiving(2, "w", closefd=False)
    sys.stdout, sys.stderr = (_text(file, stream) for file, stream in zip(files, before, strict=True))
    try:
        yield Streams(*files)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _text(file: _Forgiving, like: object) -> io.TextIOWrapper:
    encoding = getattr(like, "encoding", None) or "utf-8"
    # a name in another script on a terminal of an old encoding is shown in escapes, and is no error
    return io.TextIOWrapper(io.BufferedWriter(file), encoding, "backslashreplace", line_buffering=True)
