# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Download what is missing, prove the coverage, cut the flight's archive. Documentation: the module of this name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict

from ..module_utils._build_request import stable_request
from ..module_utils._errors import FailurePhase
from ..module_utils._known_archives import KnownArchives
from ..module_utils._lock import holder_is_alive
from ..module_utils._report import to_plain
from ..module_utils._run import Run
from ..module_utils._tile_archive import cut_archive
from ..module_utils._tile_download import DownloadProgress, count_wanted, download_tiles
from ..module_utils._tile_plan import plan_tiles
from ..module_utils._tile_proof import check_download, examine_download
from ..module_utils._tile_settings import configured_limits, configured_source
from ..module_utils._tile_store import TileStore
from ..plugin_utils._phase_action import PhaseAction


class ActionModule(PhaseAction):
    phase = FailurePhase.DOWNLOAD

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        config = run.config
        flight = run.load_flight()
        area, tiles = plan_tiles(flight, config)
        source = configured_source(config)
        root = Path(config.cache_staging_root) / "tiles"
        if self._task.check_mode:
            lacking = len(tiles)
            if root.is_dir():
                with TileStore(root) as store:
                    lacking = count_wanted(tiles=tiles, source=source, store=store, limits=configured_limits(config))
            if lacking:
                text = f"would ask {source.id} for {lacking} of {len(tiles)} tiles"
                self.sink.emit("phase", phase=self.phase, text=text)
                run.journal.record("fact", phase=self.phase, ready=True)
                return {"changed": True, "tiles": {"source_id": source.id, "requested": len(tiles)}}
            # All is here: what follows writes into the run's own folder alone, and foretells what companions lack.
        holder = run.facts().get("lock_holder_pid")

        def show(progress: DownloadProgress) -> None:
            self.sink.emit("progress", phase=self.phase, done=progress.done, total=progress.total, unit="tiles")

        with TileStore(root) as store:
            report = download_tiles(
                tiles=tiles,
                source=source,
                store=store,
                on_progress=show,
                cancelled=lambda: holder is not None and not holder_is_alive(holder),
                limits=configured_limits(config),
            )
            report = examine_download(report, tiles=tiles, source=source, store=store, flight=flight)
            run.journal.record("fact", phase=self.phase, download=to_plain(report))
            for warning in report.warnings:
                run.journal.record("warning", phase=self.phase, text=warning)
            check_download(report, source=source, tolerance_ratio=config.coverage_tolerance_ratio)
            started = time.monotonic()
            archive = cut_archive(
                tiles=tiles,
                store=store,
                source=source,
                path=Path(run.archive_path),
                metadata={"name": flight.flight_id, "attribution": source.spec.attribution},
            )
        if not self._task.check_mode:
            KnownArchives(config.cache_staging_root).save(archive.sha256, archive.body_hashes)
        self.sink.emit(
            "phase",
            phase=self.phase,
            text=f"{report.present} of {report.requested} tiles ({report.downloaded} new), archive of "
            f"{archive.size_bytes / 1e6:.1f} MB cut in {time.monotonic() - started:.1f} s",
        )
        run.journal.record(
            "fact",
            phase=self.phase,
            archive={"sha256": archive.sha256, "size_bytes": archive.size_bytes},
            # Once for all companions: the process of each would otherwise load what computes areas.
            request_core=stable_request(
                flight=flight, area=area, config=config, archive_sha256=archive.sha256, builder_version=None
            ),
            ready=True,
        )
        return {
            "changed": report.downloaded > 0,
            "tiles": {"source_id": report.source_id, "requested": report.requested, "downloaded": report.downloaded},
        }
