# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rsync as the carrier of files, with progress and an end.

Whether a file is sent is decided before, by hashes; so rsync does not look at times there (`--ignore-times`). What lies
at the target already is kept and mended block by block (`--inplace --partial`): a cut transfer goes on where it was.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import threading
from collections import deque
from typing import Callable, Deque, Iterator, List, Optional, Pattern, Sequence

from ._errors import SyncError
from ._link_error import link_broke, took_too_long

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["pull_files", "push_file"]

PROGRESS = re.compile(r"^\s*([\d,]+)\s+\d{1,3}%\s+(\S+/s)\s+([\d:]+)")
SENT = re.compile(r"^Total bytes sent: ([\d,]+)")
RECEIVED = re.compile(r"^Total bytes received: ([\d,]+)")
LINK_LOST = (10, 12, 30, 35, 255)
IO_TIMEOUT_S = 60


def push_file(
    source: str,
    *,
    ssh: Sequence[str],
    host: str,
    target: str,
    deadline_s: float,
    limit_kib_per_s: int = 0,
    on_progress: Callable[[int, str], None],
) -> int:
    """Send `source` to `target` on `host`.

    Args:
        ssh: the ssh command with its options.
        deadline_s: how long it may take in all; silence is noticed before, by ssh and rsync themselves.
        limit_kib_per_s: the rate to stay below; 0 is none.
        on_progress: called with the bytes done, and with rate and time left in words.

    Returns:
        Bytes sent over the link.

    Raises:
        SyncError, CompanionUnreachableError: with rsync's last words; what has arrived is kept.
    """
    command: List[str] = ["rsync", "--ignore-times", "--inplace", "--partial", "--no-links", "--times", "--stats"]
    command += ["--info=progress2", "--no-human-readable", f"--timeout={IO_TIMEOUT_S}", "--chmod=F644"]
    if limit_kib_per_s:
        command.append(f"--bwlimit={limit_kib_per_s}")
    command += ["--rsh", shlex.join(ssh), "--", source, f"{_bracketed(host)}:{target}"]
    doing = f"sending the tiles to {host}:{target}"
    return _run(command, wanted=SENT, on_progress=on_progress, doing=doing, deadline_s=deadline_s)


def pull_files(
    names: Sequence[str],
    *,
    ssh: Optional[Sequence[str]],
    host: str,
    source: str,
    target: str,
    on_progress: Callable[[int], None],
) -> int:
    """Fetch the files `names` below the folder `source` on `host` into the folder `target`; links are not followed.

    A file that is here already with the same size and time is taken for the same: the caller proves the bytes.

    Args:
        ssh: the ssh command with its options; None where `source` is on this machine.
        on_progress: called with the bytes done.

    Returns:
        Bytes received over the link.

    Raises:
        SyncError, CompanionUnreachableError: with rsync's last words.
    """
    command: List[str] = ["rsync", "--inplace", "--partial", "--no-links", "--times", "--stats", "--files-from=-"]
    command += ["--info=progress2", "--no-human-readable", f"--timeout={IO_TIMEOUT_S}", "--chmod=F600,D700"]
    place = source if ssh is None else f"{_bracketed(host)}:{source}"
    if ssh is not None:
        command += ["--rsh", shlex.join(ssh)]
    command += ["--", place, target]
    doing = f"fetching the recordings from {host}:{source}"
    return _run(command, wanted=RECEIVED, on_progress=lambda done, _text: on_progress(done), doing=doing, listed=names)


def _run(
    command: Sequence[str],
    *,
    wanted: Pattern[str],
    on_progress: Callable[[int, str], None],
    doing: str,
    listed: Sequence[str] = (),
    deadline_s: float = threading.TIMEOUT_MAX,
) -> int:
    """Run rsync to its end; the number that `wanted` finds in its statistics."""
    total = 0
    said: Deque[str] = deque(maxlen=5)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process, _ended_after(process, deadline_s) as overdue:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.writelines(f"{name}\n" for name in listed)
        for line in process.stdout or ():
            progress, found = PROGRESS.match(line), wanted.match(line)
            if progress:
                on_progress(_number(progress.group(1)), f"{progress.group(2)}, {progress.group(3)} left")
            elif found:
                total = _number(found.group(1))
            elif line.strip():
                said.append(line.strip())
    if process.returncode == 0:
        return total
    if overdue.is_set():
        raise took_too_long(doing, deadline_s)
    words = "; ".join(text for text in said if not text.startswith("rsync error"))[:300] or "no word from rsync"
    if process.returncode in LINK_LOST:
        raise link_broke(doing, words)
    raise SyncError(f"{doing} failed: {words}")


@contextlib.contextmanager
def _ended_after(process: "subprocess.Popen[str]", deadline_s: float) -> Iterator[threading.Event]:
    """The process ends at the deadline, and whenever the caller leaves early; the event says that it was the former."""
    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        process.terminate()

    timer = threading.Timer(deadline_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield overdue
    except BaseException:
        process.terminate()
        raise
    finally:
        timer.cancel()


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
