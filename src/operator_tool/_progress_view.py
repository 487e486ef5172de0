# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""Progress on the terminal: bars where there is one, plain lines elsewhere, JSON lines where asked."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._progress import amount_of, describe

Handler = Callable[[dict[str, Any]], None]
PLAIN_INTERVAL_S = 2.0


@contextlib.contextmanager
def progress_view(*, as_json: bool) -> Iterator[Handler]:
    """A handler of progress records that writes to stderr while this lasts."""
    if as_json:
        yield lambda record: print(json.dumps(record, separators=(",", ":")), file=sys.stderr, flush=True)
    elif sys.stderr.isatty():
        with _bars() as handler:
            yield handler
    else:
        yield _plain()


def _plain() -> Handler:
    import time

    shown: dict[tuple[Any, Any], float] = {}

    def handle(record: dict[str, Any]) -> None:
        now, key = time.monotonic(), (record.get("host"), record.get("phase"))
        finished = record.get("done") is not None and record.get("done") == record.get("total")
        kind = record.get("t")
        if kind in ("progress", "line") and not finished and now - shown.get(key, -PLAIN_INTERVAL_S) < PLAIN_INTERVAL_S:
            return
        shown[key] = now
        if kind != "report":
            print(describe(record), file=sys.stderr, flush=True)

    return handle


@contextlib.contextmanager
def _bars() -> Iterator[Handler]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Items a second, as measured lately; bytes come with their own."""

        def render(self, task: Task) -> Text:
            unit, speed = task.fields["unit"], task.finished_speed or task.speed
            return Text(f"{speed:.0f} {unit}/s" if speed and unit not in ("", "bytes") else "")

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[amount]}", markup=False),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    lock = threading.Lock()
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True) as progress:

        def handle(record: dict[str, Any]) -> None:
            host = f"[{record['host']}] " if record.get("host") else ""
            name = host + str(record.get("phase") or "run").replace("_", " ")
            with lock:
                if record.get("t") == "phase" and name in tasks:
                    progress.remove_task(tasks.pop(name))
                if record.get("t") in ("phase", "warning"):
                    console.print(Text(describe(record), style="yellow" if record.get("t") == "warning" else ""))
                    return
                if record.get("t") == "report":
                    return
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=None, amount="", unit=record.get("unit") or "")
                done, total, text = record.get("done"), record.get("total"), str(record.get("text") or "")
                amount = " ".join(part for part in (amount_of(record) if total is not None else "", text[:40]) if part)
                progress.update(tasks[name], completed=done or 0, total=total, amount=amount)

        yield handle
