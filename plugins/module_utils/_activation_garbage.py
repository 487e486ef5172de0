# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Garbage: generations that nobody needs, and what an interrupted run left behind.

Runs on the companion: standard library only, Python 3.8. A generation is renamed into `.trash` before it is taken
apart, so that a half-removed one never lies under a generation's name; the next run removes what is left there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import List, Optional, Set

from ._activation_state import CacheRoot, GenerationName
from ._atomic_file import fsync_folder

__all__ = ["collect_garbage", "in_use", "remove_leftovers"]


def in_use(root: CacheRoot, name: GenerationName) -> bool:
    """Whether a process (a flight) holds a shared flock on the generation's folder."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(os.path.join(root.generations, str(name)), flags)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_leftovers(root: CacheRoot) -> None:
    """What an interrupted activation or collection left; call it under `exclusive`."""
    for link in ("current", "previous"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(root.join(f".tmp-{link}"))
    with contextlib.suppress(OSError):
        for name in os.listdir(root.trash):
            _remove(os.path.join(root.trash, name))


def _remove(path: str) -> None:
    """Remove a folder without following links; anything else goes as it is."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def collect_garbage(root: CacheRoot, *, spare: Optional[GenerationName] = None) -> List[str]:
    """Remove the generations that are neither current, previous nor in use; call it under `exclusive`.

    Args:
        root: where.
        spare: one more to keep, which is about to become current.

    Returns:
        The names of those removed.

    Raises:
        CacheVerifyError: `current` or `previous` is not what it should be; then nothing is removed.
        OSError: the storage failed; the next run goes on.
    """
    current, previous = root.link_target("current"), root.link_target("previous")
    keep: Set[Optional[GenerationName]] = {current, previous, spare}
    names = [name for name in root.generation_names() if name not in keep and not in_use(root, name)]
    if current is None or not names:
        return []
    for name in names:
        os.rename(os.path.join(root.generations, str(name)), os.path.join(root.trash, str(name)))
    fsync_folder(root.generations)
    for name in names:
        _remove(os.path.join(root.trash, str(name)))
    return [str(name) for name in names]
