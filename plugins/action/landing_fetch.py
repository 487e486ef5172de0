# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fetch the recordings that are ready. Documentation: the module file of the same name."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any, Dict, List

from ..module_utils._errors import CacheBuildError, FailurePhase, SyncError
from ..module_utils._landing_spool import ARCHIVE_NAME, LANDING_FOLDER
from ..module_utils._manifest import MANIFEST_NAME
from ..module_utils._rsync import pull_files
from ..module_utils._run import Run
from ..plugin_utils._companion_action import CompanionAction
from ..plugin_utils._landing_action import landing_folder

DISK_RESERVE_BYTES = 64 * 1024 * 1024


class ActionModule(CompanionAction):
    phase = FailurePhase.FETCH

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        ready = [row for row in self.facts_of(run).get("recordings", []) if row["state"] == "ready"]
        if self._task.check_mode or not ready:
            return {"changed": bool(ready)}
        started, folder = time.monotonic(), landing_folder(run, str(self.host))
        total = sum(int(row["size_bytes"]) for row in ready)
        self._make_room(folder, ready, total)
        names = [f"{row['id']}/{name}" for row in ready for name in (MANIFEST_NAME, ARCHIVE_NAME)]
        ssh = self.ssh_command()
        try:
            received = pull_files(
                names,
                ssh=ssh,
                host=str(self.host if ssh is None else self._connection.get_option("host")),
                source=f"{run.config.companion_cache_root}/{LANDING_FOLDER}/",
                target=folder,
                on_progress=lambda done: self.sink.emit(
                    "progress", phase=self.phase, done=min(done, total), total=total, unit="bytes"
                ),
            )
        except CacheBuildError as exc:
            exc.phase = self.phase
            raise
        fetch = {
            "bytes_received": received if ssh is not None else total,
            "bytes_total": total,
            "elapsed_s": round(time.monotonic() - started, 3),
        }
        fetched = [{"id": row["id"], "content_id": row["content_id"]} for row in ready]
        run.journal.record("fact", phase=self.phase, host=self.host, fetch=fetch, fetched=fetched)
        self.sink.emit("phase", phase=self.phase, text=f"{received / 1e6:.1f} of {total / 1e6:.1f} MB fetched")
        return {"changed": True, "fetch": fetch}

    def _make_room(self, folder: str, ready: List[Dict[str, Any]], total: int) -> None:
        """Remove what no longer waits on the companion, and see that the rest will fit."""
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            wanted = {row["id"] for row in ready}
            for name in os.listdir(folder):
                if name not in wanted:
                    shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
            free_bytes = shutil.disk_usage(folder).free
        except OSError as exc:
            raise SyncError(f"cannot write to {folder}: {exc.strerror}", phase=self.phase) from None
        here = sum(entry.stat().st_size for row in ready for entry in _files(os.path.join(folder, row["id"])))
        if free_bytes + here < total + DISK_RESERVE_BYTES:
            raise SyncError(
                f"{folder} has {free_bytes // 10**6} MB free, and {self.host} has {total // 10**6} MB of recordings",
                phase=self.phase,
                remediation="Free disk space on this workstation, or choose another cache_staging_root.",
            )


def _files(folder: str) -> List["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []
