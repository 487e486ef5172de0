# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rsync as the carrier of one file, with progress.

`--checksum` because equal size and time do not mean equal bytes, `--inplace --partial` so that a cut transfer
continues where it was, and `--copy-dest` so that the previous generation's file is the basis of a delta.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections import deque
from typing import Callable, Deque, List, Optional, Sequence

from ._errors import CompanionUnreachableError, FailurePhase, SyncError

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["push_file"]

PROGRESS = re.compile(r"^\s*([\d,]+)\s+(\d{1,3})%")
SENT = re.compile(r"^Total bytes sent: ([\d,]+)")
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
    sent = 0
    said: Deque[str] = deque(maxlen=5)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            for part in line.split("\r"):
                progress, total = PROGRESS.match(part), SENT.match(part)
                if progress:
                    on_progress(int(progress.group(1).replace(",", "")))
                elif total:
                    sent = int(total.group(1).replace(",", ""))
                elif part.strip():
                    said.append(part.strip())
    if process.returncode == 0:
        return sent
    words = "; ".join(text for text in said if not text.startswith("rsync error"))[:300] or "no word from rsync"
    if process.returncode in LINK_LOST:
        raise CompanionUnreachableError(
            f"the link to {host} broke while sending the tiles: {words}", phase=FailurePhase.SYNC
        )
    raise SyncError(f"cannot send the tiles to {host}:{target}: {words}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
