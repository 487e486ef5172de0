# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The builder's voice: one JSON object per line on standard output, the report last; people's text on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional

__all__ = ["MAX_LINE_BYTES", "Voice"]

MAX_LINE_BYTES = 4096
_PROGRESS_EVERY_S = 0.25
_HEARTBEAT_AFTER_S = 4.0
_SAID_MAX = 64
#: How the build's time is spread over its phases, for a bar that moves evenly.
PHASE_WEIGHTS = {
    "preflight": 1,
    "scan": 4,
    "screen": 8,
    "plan": 2,
    "engine": 3,
    "describe": 60,
    "fit": 10,
    "gate": 8,
    "publish": 4,
}


class Voice:
    """Writes protocol lines, and heartbeats while nothing else is written.

    The stream is a private copy of standard output: the real descriptor 1 is pointed at stderr, so that no library
    can break the protocol by printing.
    """

    def __init__(self, *, descriptor: Optional[int] = None) -> None:
        if descriptor is None:
            sys.stdout.flush()
            descriptor = os.dup(1)
            os.dup2(2, 1)
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._last_line_at = time.monotonic()
        self._last_progress_at = 0.0
        self._phase = "preflight"
        self._stop = threading.Event()
        self._broken = False
        self._warnings: Dict[str, Dict[str, Any]] = {}
        self._said: List[bytes] = []
        self._record: Optional[BinaryIO] = None
        self._thread = threading.Thread(target=self._beat, name="c10-heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(1.0):
            if time.monotonic() - self._last_line_at >= _HEARTBEAT_AFTER_S:
                self._send({"t": "heartbeat", "phase": self._phase})

    def _send(self, message: Dict[str, Any]) -> None:
        line = json.dumps(message, separators=(",", ":"), sort_keys=False, allow_nan=False).encode("utf-8")
        if len(line) >= MAX_LINE_BYTES:
            message = {key: message[key] for key in ("t", "phase", "code") if key in message}
            message["text"] = "(a longer line was cut)"
            line = json.dumps(message).encode("utf-8")
        self._write(line + b"\n")

    def _write(self, data: bytes) -> None:
        with self._lock:
            self._last_line_at = time.monotonic()
            self._keep(data)
            if self._broken:
                return
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                # the reader is gone; the build goes on, its report also lies in the work folder
                self._broken = True

    def _keep(self, data: bytes) -> None:
        if self._record is None:
            if len(self._said) < _SAID_MAX:
                self._said.append(data)
            return
        # a convenience for who follows from elsewhere; a full disk is found by the build itself
        with contextlib.suppress(OSError):
            self._record.write(data)

    def record(self, path: Path) -> None:
        """Write every line, those already said included, to a file as well."""
        with self._lock:
            with contextlib.suppress(OSError):
                self._record = open(path, "wb", buffering=0)
            said, self._said = b"".join(self._said), []
            if self._record is not None:
                self._keep(said)

    def end_record(self) -> None:
        """Close that file; lines that are said afterwards are not in it."""
        with self._lock:
            if self._record is not None:
                self._record.close()
                self._record = None

    @property
    def broken(self) -> bool:
        """Whether the reader has gone away."""
        return self._broken

    @property
    def phase_name(self) -> str:
        """The phase now under way."""
        return self._phase

    @property
    def warnings(self) -> List[Dict[str, Any]]:
        """Warnings so far, one row per code with its count and a first sample."""
        return [self._warnings[code] for code in sorted(self._warnings)]

    def hello(self, *, version: str, run_id: str, nonce: str) -> None:
        """First line: who speaks, and how long each phase takes relative to the others."""
        self._send(
            {"t": "hello", "v": 1, "builder": version, "run_id": run_id, "nonce": nonce, "weights": PHASE_WEIGHTS}
        )

    def phase(self, name: str) -> None:
        """A phase begins."""
        self._phase = name
        self._last_progress_at = 0.0
        self._send({"t": "phase", "phase": name})

    def progress(self, done: int, total: int, unit: str) -> None:
        """At most four a second; the last of a phase is always sent."""
        now = time.monotonic()
        if done < total and now - self._last_progress_at < _PROGRESS_EVERY_S:
            return
        self._last_progress_at = now
        self._send({"t": "progress", "phase": self._phase, "done": done, "total": total, "unit": unit})

    def warn(self, code: str, text: str, *, count: int = 1) -> None:
        """A warning; the first of its code is sent, all are counted in the report."""
        text = text[:300]
        known = self._warnings.get(code)
        if known is None:
            self._warnings[code] = {"code": code, "count": count, "sample": text}
            self._send({"t": "warning", "phase": self._phase, "code": code, "text": text})
        else:
            known["count"] += count

    def report(self, report: Dict[str, Any]) -> bytes:
        """The last line. Returns its bytes, which also go into the work folder."""
        self._stop.set()
        self._thread.join(timeout=5.0)
        line = json.dumps(report, separators=(",", ":"), allow_nan=False).encode("utf-8")
        if len(line) >= MAX_LINE_BYTES:
            report = dict(report, warnings=[dict(w, sample=w["sample"][:60]) for w in report.get("warnings", [])][:12])
            line = json.dumps(report, separators=(",", ":"), allow_nan=False).encode("utf-8")
        self._write(line + b"\n")
        return line + b"\n"
