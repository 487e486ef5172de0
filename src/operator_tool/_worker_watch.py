# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""Notices that a worker of ansible-playbook was killed, by the kernel for want of memory or by somebody's hand.

With the strategy `free`, Ansible would wait for the result of such a worker for ever. A task that has begun and has not
ended has a worker; where there are fewer workers than such tasks for a while, one is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE_S = 10.0
ENDS = ("runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped")


class WorkerWatch:
    """Counts tasks at work, by Ansible's events, against the workers that live."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at_work: set[tuple[str, str]] = set()
        self._missing_since: float | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """One event of the playbook."""
        data = event.get("event_data", {})
        task = (str(data.get("host")), str(data.get("task_uuid")))
        if event.get("event") == "runner_on_start":
            self._at_work.add(task)
        elif event.get("event") in ENDS:
            self._at_work.discard(task)

    def one_is_lost(self, controller_pid: int) -> bool:
        """Whether a worker of this ansible-playbook has been missing for `PATIENCE_S`."""
        if len(self._at_work) <= living_workers(controller_pid):
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = self._clock()
        return self._missing_since is not None and self._clock() - self._missing_since > PATIENCE_S


def living_workers(controller_pid: int) -> int:
    """Forks of this process that run: children under the same command line, zombies left out."""
    found = 0
    with suppress(OSError):
        command = Path(f"/proc/{controller_pid}/cmdline").read_bytes()
        children = Path(f"/proc/{controller_pid}/task/{controller_pid}/children").read_text().split()
        for pid in children:
            with suppress(OSError):
                found += bool(command) and Path(f"/proc/{pid}/cmdline").read_bytes() == command
    return found
