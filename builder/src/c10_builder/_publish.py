# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Writing an index: every file synced, hashed and listed, and the folder put in place by one rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict

import numpy as np

from ._errors import BuilderError

__all__ = ["canonical", "fsync_folder", "publish", "save_array", "storage_error", "write_file"]


def canonical(data: Any) -> bytes:
    """JSON with sorted keys and no spare bytes: the same for equal data."""
    return (
        json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
        + b"\n"
    )


def storage_error(error: OSError, path: Path) -> BuilderError:
    """An OSError while writing, as a failure with a name."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return BuilderError(
            "disk_full",
            "no space is left for %s" % path,
            hint="free space on the companion and run again",
            retryable=True,
        )
    return BuilderError("output_unwritable", "%s cannot be written: %s" % (path, error.strerror or error))


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Write and sync a new file inside a folder that is itself not yet in place."""
    try:
        with open(path, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise storage_error(error, path) from error


def save_array(path: Path, array: Any) -> None:
    """Write and sync an array as .npy, whose bytes depend on nothing but the array."""
    try:
        with open(path, "wb") as stream:
            np.lib.format.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise storage_error(error, path) from error


def file_table(folder: Path) -> Dict[str, Dict[str, Any]]:
    """name -> size and sha256 of every file in a folder but the two that hold the table."""
    table: Dict[str, Dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if path.name in ("index.json", "binding.json"):
            continue
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            for part in iter(lambda: stream.read(1 << 20), b""):
                digest.update(part)
        table[path.name] = {"size": path.stat().st_size, "sha256": digest.hexdigest()}
    return table


def publish(staged: Path, output_dir: Path) -> None:
    """Put a finished folder in place. Both lie in the same parent, so the rename is atomic."""
    try:
        fsync_folder(staged)
        os.rename(str(staged), str(output_dir))
        fsync_folder(output_dir.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise BuilderError(
                "output_exists", "the output folder %s came into being meanwhile" % output_dir
            ) from error
        raise storage_error(error, output_dir) from error


def discard(path: Path) -> None:
    """Remove a staged folder; what cannot be removed is left to the next run."""
    shutil.rmtree(str(path), ignore_errors=True)


__all__ += ["discard", "file_table"]
