# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sealing a build where it lies: collect its parts in one folder, and make them final.

Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Any, Dict, Optional, Tuple

from ._activation_lock import check_token, exclusive
from ._activation_state import CacheRoot
from ._generation import MAX_REQUEST_BYTES, open_folder, read_small_file, seal, write_in
from ._generation_faults import Reason, refuse
from ._manifest import MANIFEST_NAME

__all__ = ["seal_build"]

ARCHIVE_NAME = "tiles.pmtiles"


def _below(root: CacheRoot, path: str) -> str:
    """The path without links or dots, where it lies below the root."""
    found = os.path.realpath(path)
    if not found.startswith(os.path.realpath(root.path) + os.sep):
        raise refuse(Reason.FILE_NAME, f"{path} is not below {root.path}", file=path)
    return found


def seal_build(
    root: CacheRoot,
    *,
    source: str,
    archive: Optional[str],
    request_text: Optional[str],
    report_text: Optional[str],
    run_id: str,
    token: Optional[int],
) -> Tuple[bool, Dict[str, Any]]:
    """Seal `source`, after moving the archive into it and writing the request and the report beside it.

    Returns:
        Whether anything changed, and the facts of the sealed folder as plain data.

    Raises:
        CacheVerifyError: something still writes, or the folder holds what a cache must not.
        CacheActivateError: a newer run holds the lock.
        OSError: the storage failed.
    """
    with exclusive(root), contextlib.ExitStack() as undo:
        check_token(root, run_id, token)
        source = _below(root, source)
        changed = not os.path.lexists(os.path.join(source, MANIFEST_NAME))
        if changed:
            target = os.path.join(source, ARCHIVE_NAME)
            if archive is not None and not (os.path.exists(target) and not os.path.exists(archive)):
                archive = _below(root, archive)
                os.rename(archive, target)
                undo.callback(_move_back, target, archive)
            with open_folder(source) as folder_fd:
                for name, text in (("request.json", request_text), ("report.json", report_text)):
                    if text is not None:
                        write_in(folder_fd, name, text.encode())
        sealed = seal(source)
        undo.pop_all()
        with open_folder(source) as folder_fd:
            request = read_small_file(folder_fd, "request.json", max_bytes=MAX_REQUEST_BYTES)
        return changed, {
            "sealed_path": source,
            "content_id": sealed.content_id,
            "inputs_id": None if request is None else hashlib.sha256(request).hexdigest(),
            "next_counter": root.next_counter(),
            "size_bytes": sealed.size_bytes,
            "file_count": sealed.file_count,
        }


def _move_back(target: str, archive: str) -> None:
    with contextlib.suppress(OSError):
        os.rename(target, archive)
