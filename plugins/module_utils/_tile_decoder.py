# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decode tiles in a child process under hard limits: what ends the child is a bad tile, never the end of the run."""

from __future__ import annotations

import contextlib
import importlib.util
import mmap
import os
import socket
import subprocess
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence

from ._errors import DownloadError
from ._tile_decode_program import (
    ANSWERS,
    CHECK,
    CHECK_COLOUR,
    COUNT,
    FORMATS,
    ITEM,
    LOOK,
    MAX_BATCH,
    PENDING,
    SHARED_BYTES,
    STARTED,
    THUMBNAIL_PX,
)

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["MAX_BATCH", "DecodeTask", "TileDecoder", "TileLook"]

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_tile_decode_program.py")
BATCH_TIMEOUT_S = 60.0
MAX_ENDS = 64
"""So many tiles may end their decoder; beyond that it is the decoder, or this machine."""
_NUMBERS = {"jpg": FORMATS.index("JPEG"), "png": FORMATS.index("PNG"), "webp": FORMATS.index("WEBP")}


class DecodeTask(NamedTuple):
    """An image whose header was found good; `format` is `jpg`, `png` or `webp`."""

    body: bytes
    format: str


class TileLook(NamedTuple):
    """Grey values of a picture: its top and bottom rows, and a thumbnail of `THUMBNAIL_PX` squared, row by row."""

    top: bytes
    bottom: bytes
    thumbnail: bytes


class TileDecoder:
    """One decoder process, started at the first batch; for use in one thread. Close it, or use it as a context.

    Args:
        program: what the child runs; tests give it worse ones.
        timeout_s: a batch that takes longer ends the child.

    Raises:
        DownloadError: this machine has no memory or no file descriptor left for it.
    """

    def __init__(self, *, program: str = PROGRAM, timeout_s: float = BATCH_TIMEOUT_S) -> None:
        self._program = program
        self._timeout_s = timeout_s
        self._process: "Optional[subprocess.Popen[bytes]]" = None
        self._link: Optional[socket.socket] = None
        self._ends = 0
        self._tasks: Sequence[DecodeTask] = ()
        self._task = CHECK
        with contextlib.ExitStack() as undo:
            try:
                self._memory = os.memfd_create("tiles", os.MFD_CLOEXEC)
                undo.callback(os.close, self._memory)
                os.ftruncate(self._memory, SHARED_BYTES)
                self._shared = mmap.mmap(self._memory, SHARED_BYTES)
            except OSError as exc:
                raise _cannot_start(exc) from None
            undo.pop_all()

    def __enter__(self) -> "TileDecoder":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child and free the memory."""
        self._end()
        if not self._shared.closed:
            self._shared.close()
            os.close(self._memory)

    def begin(self, tasks: Sequence[DecodeTask], *, single_colour: bool) -> None:
        """Hand a batch over; the child decodes while the caller does something else until it asks for `faults`.

        Args:
            tasks: at most `MAX_BATCH`, together less than `SHARED_BYTES` - `MAX_BATCH`.
            single_colour: call pictures of one colour placeholders.
        """
        self._tasks, self._task = tasks, CHECK_COLOUR if single_colour else CHECK
        self._send(tasks)

    def faults(self) -> List[Optional[str]]:
        """What is wrong with each tile of the batch, None where nothing is; `decoder_ended` where that ended the child.

        Raises:
            DownloadError: the decoder cannot be started, or has ended too often.
        """
        found: List[Optional[str]] = []
        while True:
            remaining = len(self._tasks) - len(found)
            done = self._wait() if remaining else True
            answers = self._shared[:remaining]
            decided = answers if done else answers.rstrip(bytes([PENDING])).rstrip(bytes([STARTED]))
            found += [_word(code) for code in decided]
            if len(found) == len(self._tasks):
                return found
            if answers[len(decided)] == STARTED:
                # The child ended over this tile: it is bad, and the rest goes to a new child.
                found.append("decoder_ended")
            self._ended()
            self._send(self._tasks[len(found) :])

    def look(self, task: DecodeTask, *, width_px: int) -> Optional[TileLook]:
        """The picture in grey; None where it cannot be decoded.

        Args:
            task: a tile.
            width_px: its width.
        """
        self._tasks, self._task = [task], LOOK
        self._send(self._tasks)
        if self.faults() != [None]:
            return None
        edge, small = 2 * width_px, THUMBNAIL_PX * THUMBNAIL_PX
        rows = self._shared[MAX_BATCH : MAX_BATCH + edge + small]
        return TileLook(rows[:width_px], rows[width_px:edge], rows[edge:])

    def _send(self, tasks: Sequence[DecodeTask]) -> None:
        if not tasks:
            return
        link, offset = self._start(), MAX_BATCH
        self._shared[: len(tasks)] = bytes([PENDING]) * len(tasks)
        items = [COUNT.pack(len(tasks))]
        for body, image_format in tasks:
            self._shared[offset : offset + len(body)] = body
            offset += len(body)
            items.append(ITEM.pack(self._task, _NUMBERS[image_format], len(body)))
        with contextlib.suppress(OSError):  # that it ended meanwhile shows when its word is missing
            link.sendall(b"".join(items))

    def _wait(self) -> bool:
        """Whether the batch was done."""
        try:
            return self._link is not None and self._link.recv(1) != b""
        except OSError:  # a timeout is one too
            return False

    def _ended(self) -> None:
        self._end()
        self._ends += 1
        if self._ends >= MAX_ENDS:
            raise DownloadError(
                f"the decoder of tiles ended {self._ends} times",
                remediation="Check the memory of this machine and its Pillow; a hostile tile source does so too.",
            )

    def _end(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._process is not None:
            # It holds nothing: it may as well end in the middle of a tile.
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> socket.socket:
        if self._link is None:
            packages = _packages()
            try:
                ours, theirs = socket.socketpair()
            except OSError as exc:
                raise _cannot_start(exc) from None
            try:
                ours.settimeout(self._timeout_s)
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", self._program, packages, str(self._memory)],
                    stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    pass_fds=(self._memory,), env=_environment(),
                )  # fmt: skip
            except OSError as exc:
                ours.close()
                raise _cannot_start(exc) from None
            finally:
                theirs.close()
            self._link = ours
        return self._link


def _cannot_start(exc: OSError) -> DownloadError:
    return DownloadError(
        f"cannot start the decoder of tiles: {exc.strerror}",
        remediation="Look at the free memory of this machine and at the limits of this account (`ulimit -a`).",
    )


def _packages() -> str:
    """Where the child finds what it imports."""
    folders: List[str] = []
    for name in ("PIL", "numpy", "simplejpeg"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise DownloadError(
                f"the decoder of tiles needs {name}, which {sys.executable} lacks",
                remediation="Install gps-denied-preflight again, or what docs/dependencies.md names.",
            )
        folders.append(os.path.dirname(os.path.dirname(os.path.abspath(spec.origin))))
    return os.pathsep.join(dict.fromkeys(folders))


def _word(code: int) -> Optional[str]:
    """A decoder that went astray may have written anything."""
    return ANSWERS[code] if code < len(ANSWERS) else "undecodable"


def _environment() -> Dict[str, str]:
    """Nothing of ours, so no secret; where libraries are found stays."""
    found = {name: value for name, value in os.environ.items() if name in {"LD_LIBRARY_PATH", "PATH"}}
    # numpy, which comes with simplejpeg, would start a thread for each processor, and their stacks count as memory.
    return {**found, "OPENBLAS_NUM_THREADS": "1"}
