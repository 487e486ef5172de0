# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""An earlier index that already is the one asked for: used again, with a new binding where only the flight changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ._errors import BuilderError
from ._identity import package_of, write_binding
from ._index import Index, verify_files
from ._job import Job
from ._publish import publish, write_file

__all__ = ["report_artifacts", "reused"]


def reused(job: Job, content_id: str, package_id: str) -> bool:
    """Whether an earlier index already is this one; it is then used again, with a new binding where need be."""
    request = job.request
    if request.output_dir.exists():
        try:
            meta = verify_files(request.output_dir)
        except BuilderError as error:
            raise BuilderError(
                "output_exists",
                "the output folder %s exists and is no sound index" % request.output_dir,
                hint=error.message,
            ) from error
        if meta.get("content_id") == content_id and package_of(request.output_dir) == package_id:
            _report_of(job, request.output_dir, "idempotent_no_op")
            return True
        raise BuilderError("output_exists", "the output folder %s holds another index" % request.output_dir)
    previous = request.previous_index_dir
    if previous is None or not (previous / "index.json").exists():
        return False
    try:
        meta = verify_files(previous)
    except BuilderError as error:
        job.voice.warn("previous_index_unusable", error.message)
        return False
    if meta.get("content_id") != content_id:
        return False
    job.phase("publish")
    same = package_of(previous) == package_id
    job.staged.mkdir()
    for name in sorted(meta["files"]):
        write_file(job.staged / name, (previous / name).read_bytes())
    write_file(job.staged / "index.json", (previous / "index.json").read_bytes())
    write_binding(request, job.staged, content_id, package_id)
    verify_files(job.staged)
    publish(job.staged, request.output_dir)
    job.report["rebind_only"] = not same
    _report_of(job, request.output_dir, "idempotent_no_op" if same else "success")
    return True


def _report_of(job: Job, folder: Path, outcome: str) -> None:
    meta = Index(folder).meta
    job.report["quality"].update(meta.get("quality", {}))
    job.report["coverage"].update(meta.get("coverage", {}))
    rows = int(meta["rows"])
    job.report["windows"] = {
        "planned": int(meta["planned"]),
        "described": 0,
        "reused": rows,
        "excluded": int(meta["planned"]) - rows,
    }
    report_artifacts(job, folder)
    job.report["outcome"] = outcome


def report_artifacts(job: Job, folder: Path) -> None:
    """Fill in what the finished index consists of."""
    files = [path for path in folder.iterdir() if path.is_file()]
    job.report["artifacts"] = {
        "bytes": sum(path.stat().st_size for path in files),
        "files": len(files),
        "manifest_sha256": hashlib.sha256((folder / "index.json").read_bytes()).hexdigest(),
    }
