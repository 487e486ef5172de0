# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run's journal: what happened, one JSON line each, in the order it happened.

Every door appends to it, and the report is a fold over it (`_report_fold.py`): so the playbook, the driver and
whoever finds the remains of a killed run all come to the same report.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from datetime import datetime, timezone
from typing import Any, Callable, Dict, Iterator, List, Optional

from ._errors import CacheBuildError, FailurePhase

__all__ = ["JOURNAL_FILENAME", "Journal", "read_journal", "redact_all"]

JOURNAL_FILENAME = "journal.ndjson"
MAX_JOURNAL_BYTES = 64 * 1024 * 1024


class Journal:
    """Appends whole lines with one write each, so that several processes may share the file.

    Args:
        redact: takes secrets out of a text; every text that is recorded goes through it.
    """

    def __init__(self, run_dir: str, *, redact: Callable[[str], str] = str) -> None:
        self._path = os.path.join(run_dir, JOURNAL_FILENAME)
        self._redact = redact

    def record(
        self, kind: str, *, phase: Optional[FailurePhase] = None, host: Optional[str] = None, **data: Any
    ) -> None:
        entry = {
            "at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "kind": kind,
            "phase": phase.value if phase else None,
            "host": host,
            "data": redact_all(data, self._redact),
        }
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def phase(self, phase: Optional[FailurePhase], *, host: Optional[str] = None) -> Iterator[None]:
        """Record start, end with its duration, and a failure with its kind; everything propagates."""
        started = time.monotonic()
        self.record("start", phase=phase, host=host)
        try:
            yield
        except CacheBuildError as exc:
            self.record("fail", phase=exc.phase or phase, host=host, error=exc.to_dict(), elapsed_s=_since(started))
            raise
        except Exception as exc:
            self.record(
                "bug", phase=phase, host=host, type=type(exc).__name__, message=str(exc), elapsed_s=_since(started)
            )
            raise
        self.record("end", phase=phase, host=host, elapsed_s=_since(started))


def redact_all(value: Any, redact: Callable[[str], str]) -> Any:
    """The same JSON value with each text in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_all(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_all(item, redact) for item in value]
    return value


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def read_journal(run_dir: str) -> List[Dict[str, Any]]:
    """The journal's entries; a torn last line, left by a kill or a full disk, is passed over."""
    entries: List[Dict[str, Any]] = []
    try:
        with open(os.path.join(run_dir, JOURNAL_FILENAME), "rb") as stream:
            content = stream.read(MAX_JOURNAL_BYTES)
    except FileNotFoundError:
        return entries
    for line in content.split(b"\n"):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries
