# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run: its folder on the workstation, and what the doors of one run share.

`<staging root>/runs/<run id>/` (0700) holds settings.json, journal.ndjson, progress.ndjson, flight.json and, until the
next runs push it out, the archive that was shipped.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Callable, Dict, List, Mapping, Optional

from ._atomic_file import write_atomically
from ._config import SECRET_NAMES, PreflightConfig, load_config, read_secret
from ._errors import SettingsError
from ._flight import Flight
from ._journal import Journal, read_journal
from ._progress import ProgressSink
from ._report import CacheBuildReport, from_plain, to_plain
from ._report_fold import fold_journal

__all__ = ["KEPT_RUNS", "RUN_ID_PATTERN", "Run", "begin_run", "new_run_id", "open_run", "store_report", "write_report"]

KEPT_RUNS = 20
RUN_ID_PATTERN = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}"


@dataclass(frozen=True)
class Run:
    """One run of the tool."""

    run_id: str
    run_dir: str
    config: PreflightConfig

    @cached_property
    def redact(self) -> Callable[[str], str]:
        """Takes this run's secrets out of a text."""
        from ._redact import Redactor

        return Redactor(self.secrets()).redact

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.run_dir, redact=self.redact)

    @property
    def archive_path(self) -> str:
        return os.path.join(self.run_dir, "tiles.pmtiles")

    @property
    def report_path(self) -> str:
        return self.config.report or os.path.join(self.config.cache_staging_root, "reports", self.run_id + ".json")

    @property
    def workstation_id(self) -> str:
        """Names this staging root to companions: its own lock keeps its runs apart, so they may succeed each other."""
        path = os.path.join(self.config.cache_staging_root, "workstation-id")
        try:
            with open(path, encoding="ascii") as stream:
                return stream.read().strip()
        except FileNotFoundError:
            write_atomically(path, secrets.token_hex(16).encode(), mode=0o600)
            return self.workstation_id

    def path(self, name: str) -> str:
        return os.path.join(self.run_dir, name)

    def secrets(self) -> List[str]:
        """The literal secrets of this run, for the redactor."""
        return [value for value in (read_secret(self.config, name) for name in SECRET_NAMES) if value]

    def sink(self, *, display: Callable[[str], None], host: Optional[str] = None) -> ProgressSink:
        return ProgressSink(
            run_id=self.run_id,
            run_dir=self.run_dir,
            socket_path=self.config.progress_socket,
            display=display,
            redact=self.redact,
            host=host,
        )

    def save_flight(self, flight: Flight) -> None:
        write_atomically(self.path("flight.json"), json.dumps(to_plain(flight)).encode(), mode=0o600)

    def load_flight(self) -> Flight:
        with open(self.path("flight.json"), "rb") as stream:
            return from_plain(Flight, json.load(stream))

    def facts(self, *, host: Optional[str] = None) -> Dict[str, Any]:
        """What the doors have recorded so far about one companion, or (None) about the workstation's part."""
        found: Dict[str, Any] = {}
        for entry in read_journal(self.run_dir):
            if entry["kind"] == "fact" and entry["host"] == host:
                found.update(entry["data"])
        return found

    def fold(self) -> CacheBuildReport:
        return fold_journal(self.run_id, read_journal(self.run_dir))


def new_run_id() -> str:
    """Sorts by time; safe as a file and a systemd unit name."""
    return datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ-") + secrets.token_hex(3)


def begin_run(
    config: PreflightConfig, *, run_id: Optional[str] = None, facts: Optional[Mapping[str, Any]] = None
) -> Run:
    """Make the run's folder and its first journal entries; the oldest runs beyond the last twenty are removed."""
    run_id = run_id or new_run_id()
    if not re.fullmatch(RUN_ID_PATTERN, run_id):
        raise SettingsError(f"{run_id!r} is not a run id")
    root = os.path.abspath(config.cache_staging_root)
    runs = os.path.join(root, "runs")
    run_dir = os.path.join(runs, run_id)
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        os.makedirs(run_dir, mode=0o700)
        write_atomically(os.path.join(run_dir, "settings.json"), json.dumps(config.to_dict()).encode(), mode=0o600)
    except OSError as exc:
        raise SettingsError(
            f"cannot make the run's folder {run_dir}: {exc.strerror}", remediation="Choose another cache_staging_root."
        ) from None
    for old in sorted(name for name in os.listdir(runs) if re.fullmatch(RUN_ID_PATTERN, name))[:-KEPT_RUNS]:
        shutil.rmtree(os.path.join(runs, old), ignore_errors=True)
    run = open_run(run_dir)
    run.journal.record("fact", **dict(facts or {}))
    return run


def open_run(run_dir: str) -> Run:
    """The run that `begin_run` made."""
    try:
        with open(os.path.join(run_dir, "settings.json"), "rb") as stream:
            settings = json.load(stream)
    except (OSError, ValueError):
        raise SettingsError(f"{run_dir} is not the folder of a run") from None
    config = load_config(settings, environ={}, config_file=os.devnull)
    return Run(run_id=os.path.basename(run_dir.rstrip("/")), run_dir=run_dir, config=config)


def write_report(run: Run) -> CacheBuildReport:
    """Fold the journal and write the report to its place; where that fails, beside the journal, with a warning."""
    report = run.fold()
    store_report(run, report.to_dict())
    return report


def store_report(run: Run, report: Mapping[str, Any]) -> None:
    """Write a report, of whatever kind, to the run's place for it.

    Raises:
        SettingsError: it cannot be written there; it then lies in the run's folder, where that takes it.
    """
    content = (json.dumps(report, indent=2) + "\n").encode()
    try:
        os.makedirs(os.path.dirname(os.path.abspath(run.report_path)), exist_ok=True)
        write_atomically(run.report_path, content)
    except OSError as exc:
        where = f"it is in {run.path('report.json')}"
        try:
            write_atomically(run.path("report.json"), content)
        except OSError as also:
            where = f"nor to {run.run_dir}: {also.strerror}"
        raise SettingsError(
            f"cannot write the report to {run.report_path}: {exc.strerror}; {where}",
            remediation=f"Free some space, or choose another --report path. What was done is not affected, and "
            f"`operator-tool report {run.run_id}` shows it.",
        ) from None
