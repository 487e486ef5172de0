# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the archives that this workstation has cut consist of: the short hashes of their bodies, by archive.

A companion that holds one of them need not read it again to say what is in it. A wrong entry costs a detour, no more:
whatever is made with it is held against the archive's SHA-256.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Optional

from ._atomic_file import write_atomically
from ._tile_delta import SHORT_HASH_BYTES

__all__ = ["KnownArchives"]

KEPT_ARCHIVES = 64
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class KnownArchives:
    """A folder with a file for each archive; the oldest ones go."""

    def __init__(self, staging_root: str) -> None:
        self._folder = os.path.join(staging_root, "archives")

    def _path(self, sha256: str) -> str:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is not a SHA-256")
        return os.path.join(self._folder, sha256 + ".hashes")

    def load(self, sha256: str) -> Optional[bytes]:
        """The short hashes of an archive's bodies in the order of the file, None where they are not known."""
        with contextlib.suppress(OSError, ValueError), open(self._path(sha256), "rb") as stream:
            hashes = stream.read()
            if hashes and len(hashes) % SHORT_HASH_BYTES == 0:
                return hashes
        return None

    def save(self, sha256: str, hashes: bytes) -> None:
        """Remember an archive; where that fails, the next sync finds out for itself."""
        with contextlib.suppress(OSError):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            write_atomically(self._path(sha256), hashes, mode=0o600)
            with os.scandir(self._folder) as listing:
                files = sorted((entry.stat().st_mtime_ns, entry.path) for entry in listing)
            for _time, path in files[:-KEPT_ARCHIVES]:
                os.unlink(path)
