# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rsync as the carrier of files, with progress.

`--checksum` because equal size and time do not mean equal bytes, `--inplace --partial` so that a cut transfer
continues where it was, and `--copy-dest` so that the previous generation's file is the basis of a delta.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
from collections import deque
from typing import Callable, Deque, List, Optional, Pattern, Sequence

from ._errors import CompanionUnreachableError, FailurePhase, SyncError

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["pull_files", "push_file"]

PROGRESS = re.compile(r"^\s*([\d,]+)\s+(\d{1,3})%")
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
    basis_folder: Optional[str] = None,
    limit_kib_per_s: Optional[int] = None,
    on_progress: Callable[[int], None],
) -> int:
    """Send `source` to `target` on `host`.

    Args:
        ssh: the ssh command with its options.
        basis_folder: a folder on the companion that may hold an older file of the same name.
        on_progress: called with the bytes done.

    Returns:
        Bytes sent over the link.

    Raises:
        SyncError, CompanionUnreachableError: with rsync's last words.
    """
    command: List[str] = ["rsync", "--checksum", "--inplace", "--partial", "--no-links", "--times", "--stats"]
    command += ["--info=progress2", "--no-human-readable", f"--timeout={IO_TIMEOUT_S}", "--chmod=F644"]
    if basis_folder:
        command.append(f"--copy-dest={basis_folder}")
    if limit_kib_per_s:
        command.append(f"--bwlimit={limit_kib_per_s}")
    command += ["--rsh", shlex.join(ssh), "--", source, f"{_bracketed(host)}:{target}"]
    return _run(command, wanted=SENT, on_progress=on_progress, doing=f"sending the tiles to {host}:{target}")


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
    return _run(command, wanted=RECEIVED, on_progress=on_progress, doing=doing, listed=names)


def _run(
    command: Sequence[str],
    *,
    wanted: Pattern[str],
    on_progress: Callable[[int], None],
    doing: str,
    listed: Sequence[str] = (),
) -> int:
    """Run rsync to its end; the number that `wanted` finds in its statistics."""
    total = 0
    said: Deque[str] = deque(maxlen=5)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.writelines(f"{name}\n" for name in listed)
        for line in process.stdout or ():
            for part in line.split("\r"):
                progress, found = PROGRESS.match(part), wanted.match(part)
                if progress:
                    on_progress(int(progress.group(1).replace(",", "")))
                elif found:
                    total = int(found.group(1).replace(",", ""))
                elif part.strip():
                    said.append(part.strip())
    if process.returncode == 0:
        return total
    words = "; ".join(text for text in said if not text.startswith("rsync error"))[:300] or "no word from rsync"
    if process.returncode in LINK_LOST:
        raise CompanionUnreachableError(f"the link broke while {doing}: {words}", phase=FailurePhase.SYNC)
    raise SyncError(f"{doing} failed: {words}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
