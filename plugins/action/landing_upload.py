# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Upload what was fetched from all companions. Documentation: the module file of the same name."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any, Dict, Iterator, List, Tuple

from ..module_utils._errors import FailurePhase, LandingSpoolError
from ..module_utils._landing_archive import FetchedRecording, open_recording
from ..module_utils._landing_ledger import UploadLedger
from ..module_utils._landing_target import configured_target
from ..module_utils._landing_upload import UploadResult, upload_limits, upload_recordings
from ..module_utils._run import Run
from ..plugin_utils._landing_action import landing_folder
from ..plugin_utils._phase_action import PhaseAction


class ActionModule(PhaseAction):
    """One uploader for the whole fleet: one rate, one ledger."""

    phase = FailurePhase.UPLOAD

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        target = configured_target(run.config)
        run.journal.record("fact", phase=self.phase, provider=target.source.host)
        fetched = self._fetched(run)
        if self._task.check_mode or not fetched:
            return {"changed": bool(fetched)}
        total = sum(tiles for _host, _row, tiles in fetched)
        uploads: Dict[str, Dict[str, Any]] = {}
        hosts: Dict[str, str] = {}

        def recordings() -> Iterator[FetchedRecording]:
            for host, row, _tiles in fetched:
                folder = os.path.join(landing_folder(run, host), row["id"])
                try:
                    recording = open_recording(folder, name=row["id"], content_id=row["content_id"])
                except LandingSpoolError as exc:
                    run.journal.record("fail", phase=self.phase, host=host, error=exc.to_dict())
                    continue
                hosts[folder] = host
                yield recording

        def on_result(recording: FetchedRecording, result: UploadResult) -> None:
            host = hosts[recording.folder]
            done = uploads.setdefault(host, {})
            done[recording.name] = asdict(result)
            run.journal.record("fact", phase=self.phase, host=host, uploads=done)
            if result.damaged:
                # The next run fetches it anew, in case that the damage is on this side.
                os.unlink(recording.archive_path)

        root = os.path.abspath(run.config.cache_staging_root)
        ledger_path = os.path.join(root, "landing-ledger.sqlite3")
        with UploadLedger(ledger_path, provider=target.provider, run_id=run.run_id) as ledger:
            upload_recordings(
                recordings(),
                target=target,
                ledger=ledger,
                on_result=on_result,
                on_progress=lambda done: self.sink.emit(
                    "progress", phase=self.phase, done=done, total=total, unit="tiles"
                ),
                limits=upload_limits(run.config),
            )
        sent = sum(item["sent"] for done in uploads.values() for item in done.values())
        self.sink.emit("phase", phase=self.phase, text=f"{sent} of {total} tiles sent to {target.source.host}")
        return {"changed": bool(sent), "sent": sent}

    @staticmethod
    def _fetched(run: Run) -> List[Tuple[str, Dict[str, Any], int]]:
        """Host, recording and number of its tiles."""
        found = []
        for host in run.facts().get("companions", []):
            facts = run.facts(host=host)
            tiles = {row["id"]: int(row["tiles"]) for row in facts.get("recordings", [])}
            found += [(host, row, tiles[row["id"]]) for row in facts.get("fetched", [])]
        return found
