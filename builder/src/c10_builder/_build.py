# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The build: preflight, scan, screen, engine, plan, describe, fit and pack, gate, publish; one file each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict

from ._accept import accept
from ._coverage import judge_coverage
from ._descriptors import describe_windows
from ._errors import BuilderError
from ._geo import Polygons
from ._head import Head
from ._heads import open_head
from ._identity import decoder_version, identities
from ._job import Job
from ._pmtiles import PmtilesReader
from ._preflight import check_archive, preflight
from ._publish import discard, publish, storage_error
from ._request import BuildRequest
from ._reuse import report_artifacts, reused
from ._screen import scan, screen
from ._session import Runtime
from ._stage import stage
from ._verdicts import Verdicts
from ._version import CODE_VERSION
from ._voice import Voice
from ._windows import make_plan

__all__ = ["Build"]


class Build:
    """One build. `run` returns normally on success; `report` is filled as far as things went either way."""

    def __init__(self, request: BuildRequest, voice: Voice) -> None:
        self._job = Job(request, voice)
        self.report = self._job.report
        self._lock: Any = None

    def run(self) -> Dict[str, Any]:
        """Build.

        Raises:
            BuilderError: every failure that has a name.
        """
        try:
            self._run()
        except MemoryError as error:
            raise BuilderError(
                "out_of_memory", "memory ran out", hint="stop other programs, or split the area"
            ) from error
        except OSError as error:
            raise storage_error(error, Path(error.filename or self._job.request.work_dir)) from error
        finally:
            discard(self._job.staged)
            self._job.finish()
        return self.report

    def close(self) -> None:
        """Let go of the work folder; after the report, so that who follows the build sees it."""
        self._job.voice.end_record()
        if self._lock is not None:
            self._lock.close()

    def _run(self) -> None:
        job = self._job
        request = job.request
        job.voice.phase("preflight")
        self._lock = preflight(job)
        job.phase("scan")
        with PmtilesReader(request.archive_path) as archive:
            check_archive(job)
            known = Verdicts(
                request.descriptor_cache_dir or request.work_dir,
                key="%s|%s" % (CODE_VERSION, decoder_version()),
                archive_sha256=request.archive_sha256,
            )

            def progress(done: int, total: int) -> None:
                job.voice.progress(done, total, "tiles")

            tiles = scan(archive, hashes=known.hashes, progress=progress)
            job.phase("screen")
            screened = screen(archive, tiles, known=known.verdicts, progress=progress)
            known.save()
            job.phase("engine")
            head = _engine(job)
            job.phase("plan")
            area = Polygons.of_lonlat(request.polygons)
            plan, notes = make_plan(area, screened, request.camera, request.settings, window_px=head.window_px)
            for code, text in notes:
                job.voice.warn(code, text)
            judge_coverage(job, area, screened, plan)
            digests, content_id, package_id = identities(request, plan, screened, head)
            job.report["content_id"], job.report["package_id"] = content_id, package_id
            if reused(job, content_id, package_id):
                return
            job.phase("describe")
            rows = describe_windows(job, archive, screened, plan, head, digests)
            job.phase("fit")
            staged = stage(job, plan, head, rows, content_id, package_id)
            job.phase("gate")
            accept(job, archive, screened, plan, rows.raw, staged)
        job.phase("publish")
        check_archive(job)
        publish(job.staged, request.output_dir)
        report_artifacts(job, request.output_dir)
        job.report["outcome"] = "success"


def _engine(job: Job) -> Head:
    settings = job.request.settings
    threads = settings.threads or min(4, os.cpu_count() or 1)
    keep = job.request.descriptor_cache_dir or job.request.work_dir
    head = open_head(job.request.model_id, Runtime(threads, settings.provider, keep / "engines"))
    if head.provider["fallback_reason"]:
        job.voice.warn("provider_fallback", "%(requested)s is not used: %(fallback_reason)s" % head.provider)
    job.report["model"] = {"id": head.id, "sha256": head.sha256}
    job.report["provider"] = dict(head.provider)
    job.report["resources"]["threads"] = threads
    return head
