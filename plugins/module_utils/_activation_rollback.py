# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollback: old content under a newly signed grant. The counter still rises, so that no old grant ever counts again.

Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from ._activation import Activation, activate, storage_errors
from ._activation_state import CacheRoot, GenerationName
from ._errors import CacheVerifyError
from ._generation import open_folder, open_generation, read_manifest, verify_files
from ._generation_faults import Reason, refuse
from ._manifest import MANIFEST_NAME

__all__ = ["copy_generation", "roll_back"]


def roll_back(root: CacheRoot, *, generation: str, run_id: str, grant_text: bytes, **options: Any) -> Activation:
    """Activate a copy of an old generation; see `activate` for the options and errors."""
    target_path = root.join("work", f"rollback-{run_id}")
    copy_generation(root, generation, target_path=target_path)
    try:
        return activate(root, sealed_path=target_path, run_id=run_id, grant_text=grant_text, **options)
    finally:
        shutil.rmtree(target_path, ignore_errors=True)


def copy_generation(root: CacheRoot, generation: str, *, target_path: str) -> str:
    """A sealed copy of an old generation, to be activated under a new grant; its content id is returned.

    Raises:
        CacheVerifyError: there is no such generation, or it is not whole.
        CacheActivateError: the disk is full or fails.
    """
    if GenerationName.parse(generation) is None:
        raise refuse(Reason.NO_CACHE, f"{generation[:60]!a} is not the name of a generation")
    source = os.path.join(root.generations, generation)
    with storage_errors(f"copying {generation}"), open_generation(root.path, generation) as folder_fd:
        manifest = read_manifest(folder_fd)
        verify_files(folder_fd, manifest)
        if os.path.lexists(target_path):
            shutil.rmtree(target_path)
        os.makedirs(target_path)
        try:
            for path in [MANIFEST_NAME] + [entry.path for entry in manifest.entries]:
                target = os.path.join(target_path, path)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copyfile(os.path.join(source, path), target, follow_symlinks=False)
                os.chmod(target, 0o444)
            with open_folder(target_path) as copy_fd:
                verify_files(copy_fd, manifest)
        except (OSError, CacheVerifyError):
            shutil.rmtree(target_path, ignore_errors=True)
            raise
    return manifest.content_id
