# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Before anything is read: the folders, the lock, room on the disk, and whether the archive is the one named."""

from __future__ import annotations

import hashlib
import shutil
from typing import Any

from ._errors import BuilderError
from ._follow import LINES_NAME, hold
from ._job import Job
from ._publish import discard, storage_error

__all__ = ["check_archive", "preflight"]

_DISK_RESERVE_BYTES = 64 * 1024 * 1024


def preflight(job: Job) -> Any:
    """Make and lock the folders; returns what holds the lock until it is closed."""
    request = job.request
    for folder in (request.work_dir, request.output_dir.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error
    lock = hold(request.work_dir)
    job.voice.record(request.work_dir / LINES_NAME)
    free = min(shutil.disk_usage(str(folder)).free for folder in (request.work_dir, request.output_dir.parent))
    if free < _DISK_RESERVE_BYTES:
        raise BuilderError(
            "disk_full",
            "only %d MB are free on the companion" % (free // 1_000_000),
            hint="free at least 64 MB",
            retryable=True,
        )
    discard(job.staged)
    return lock


def check_archive(job: Job) -> None:
    """Hold the archive against the request's hash; it may change while the build runs."""
    digest = hashlib.sha256()
    with open(job.request.archive_path, "rb") as stream:
        for part in iter(lambda: stream.read(1 << 20), b""):
            digest.update(part)
    if digest.hexdigest() != job.request.archive_sha256:
        raise BuilderError(
            "archive_changed" if job.report["content_id"] else "archive_hash_mismatch",
            "the tile archive %s is not the one the request names" % job.request.archive_path,
            hint="send the archive again",
            retryable=True,
        )
