# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit trail on the companion: one JSON line for each activation, each carrying the hash of the line before.

Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any, Dict, Mapping, Optional, Tuple

from ._atomic_file import fsync_folder

__all__ = ["append_audit", "check_audit", "last_audit"]

GENESIS = "0" * 64
MAX_LINE_BYTES = 16 * 1024


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def append_audit(path: str, entry: Mapping[str, Any]) -> None:
    """Append an entry durably. A last line that a power cut tore off is ended first, and stays visible as torn.

    Raises:
        OSError: the line could not be made durable.
    """
    fresh = not os.path.exists(path)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o644)
    try:
        size_bytes = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, MAX_LINE_BYTES, max(0, size_bytes - MAX_LINE_BYTES))
        torn = bool(tail) and not tail.endswith(b"\n")
        last = tail.rstrip(b"\n").rpartition(b"\n")[2] if tail else b""
        previous = hashlib.sha256(last).hexdigest() if last else GENESIS
        content = (b"\n" if torn else b"") + _line({**entry, "previous_sha256": previous})
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if fresh:
        fsync_folder(os.path.dirname(os.path.abspath(path)))


def last_audit(path: str) -> Dict[str, Any]:
    """The last entry; empty where there is none, or its line was torn."""
    try:
        with open(path, "rb") as stream:
            size_bytes = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size_bytes - MAX_LINE_BYTES))
            tail = stream.read(MAX_LINE_BYTES)
        found = json.loads(tail.rstrip(b"\n").rpartition(b"\n")[2]) if tail.endswith(b"\n") else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_audit(path: str) -> Tuple[int, Optional[str]]:
    """The number of entries, and the first break of the chain in words or None."""
    count = 0
    previous = GENESIS
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            entry: Dict[str, Any] = {}
            with contextlib.suppress(ValueError, RecursionError):
                found = json.loads(line)
                entry = found if isinstance(found, dict) else {}
            if entry:
                count += 1
                if entry.get("previous_sha256") != previous:
                    return count, f"line {number} does not follow the line before it"
            previous = hashlib.sha256(line.rstrip(b"\n")).hexdigest()
    return count, None
