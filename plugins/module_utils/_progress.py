# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress records: to the driver's socket where there is one, else to the terminal, and always to the run's log.

{"v":1,"run":…,"seq":…,"t":"phase|progress|line|warning|report","phase":…,"host":…,"done":…,"total":…,"unit":…,"text":…}
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import Any, Callable, Dict, Optional

from ._errors import FailurePhase

__all__ = ["PROGRESS_LOG_FILENAME", "ProgressSink", "amount_of", "describe"]

PROGRESS_LOG_FILENAME = "progress.ndjson"
MAX_LOG_BYTES = 256 * 1024 * 1024
MAX_TEXT_CHARS = 4096
DISPLAY_INTERVAL_S = 2.0


def amount_of(record: Dict[str, Any]) -> str:
    """How much of how much, in words; "" where the record does not say."""
    done, total, unit = record.get("done"), record.get("total"), record.get("unit") or ""
    if done is None:
        return ""
    if unit == "bytes":
        done, unit = f"{done / 1e6:.1f}", "MB"
        total = None if total is None else f"{total / 1e6:.1f}"
    return (f"{done}/{total} {unit}" if total is not None else f"{done} {unit}").strip()


def describe(record: Dict[str, Any]) -> str:
    """One line of text for people."""
    where = f"[{record['host']}] " if record.get("host") else ""
    phase = str(record.get("phase") or "").replace("_", " ")
    if record.get("step"):
        phase = f"{phase} ({record['step']})"
    amount = " " + amount_of(record)
    text = f" {record['text']}" if record.get("text") else ""
    said = (amount.rstrip() + text).strip()
    return where + (f"{phase}: {said}" if phase and said else phase or said)


class ProgressSink:
    """Sends records; never raises, because progress is not worth a failed run.

    Args:
        display: prints one line for people; called at most every two seconds for each phase, and for each phase's end.
        redact: takes secrets out of a text.
    """

    def __init__(
        self,
        *,
        run_id: str,
        run_dir: str,
        socket_path: Optional[str],
        display: Callable[[str], None],
        redact: Callable[[str], str],
        host: Optional[str] = None,
    ) -> None:
        self._run_id, self._host, self._redact, self._display = run_id, host, redact, display
        self._log_path = os.path.join(run_dir, PROGRESS_LOG_FILENAME)
        self._socket_path = socket_path
        self._seq = 0
        self._displayed_at: Dict[str, float] = {}

    def emit(
        self, kind: str, *, phase: Optional[FailurePhase] = None, text: Optional[str] = None, **fields: Any
    ) -> None:
        """Send one record; `fields` are done, total, unit and what else a record may carry."""
        self._seq += 1
        record: Dict[str, Any] = {"v": 1, "run": self._run_id, "seq": self._seq, "t": kind}
        record.update(phase=phase.value if phase else None, host=self._host, done=None, total=None, unit=None)
        record.update(fields)
        record["text"] = None if text is None else self._redact(text)[:MAX_TEXT_CHARS]
        line = json.dumps(record, separators=(",", ":"), default=str).encode()
        with contextlib.suppress(OSError):
            self._log(line)
        if self._socket_path:
            with contextlib.suppress(OSError):
                self._send(line)
        elif self._due(record):
            self._display(describe(record))

    def _log(self, line: bytes) -> None:
        descriptor = os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < MAX_LOG_BYTES:
                os.write(descriptor, line + b"\n")
        finally:
            os.close(descriptor)

    def _send(self, line: bytes) -> None:
        folder, name = os.path.split(str(self._socket_path))
        # By way of its folder's descriptor: a socket's address has room for some hundred characters only.
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0.2)
                sender.sendto(line, f"/proc/self/fd/{descriptor}/{name}")
        finally:
            os.close(descriptor)

    def _due(self, record: Dict[str, Any]) -> bool:
        if record["t"] in ("warning", "phase", "report"):
            return True
        now, key = time.monotonic(), str(record["phase"])
        finished = record["done"] is not None and record["done"] == record["total"]
        if not finished and now - self._displayed_at.get(key, -DISPLAY_INTERVAL_S) < DISPLAY_INTERVAL_S:
            return False
        self._displayed_at[key] = now
        return True
