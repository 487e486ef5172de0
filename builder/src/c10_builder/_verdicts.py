# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""What earlier builds learned about tiles: the hash of each tile of an archive, and the verdict on each content.

Both are facts of bytes that are themselves named by a hash, so they never go stale. The file carries its own checksum;
a damaged or foreign one is as good as none, since everything in it can be found out again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Dict, Tuple

from ._errors import BuilderError
from ._publish import canonical, write_file

__all__ = ["Verdicts"]

_NAME = "verdicts.json"
_ENTRIES_MAX = 2_000_000
_BYTES_MAX = 512 * 1024 * 1024


class Verdicts:
    """Known facts of tiles.

    Args:
        folder: where the file lies.
        key: what decides a verdict: code and decoder.
        archive_sha256: the archive at hand; hashes of its tiles are kept for the last archive alone.

    Attributes:
        hashes: (offset, length) -> sha256 of the archive's tiles; extended by the scan.
        verdicts: sha256 -> raw verdict; extended by the screening.
    """

    def __init__(self, folder: Path, *, key: str, archive_sha256: str) -> None:
        self._path = folder / _NAME
        self._key, self._archive_sha256 = key, archive_sha256
        self.hashes: Dict[Tuple[int, int], str] = {}
        self.verdicts: Dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._load()
        self._loaded = (len(self.hashes), len(self.verdicts))

    def _load(self) -> None:
        if self._path.stat().st_size > _BYTES_MAX:
            return
        head, body = self._path.read_bytes().split(b"\n", 1)
        if hashlib.sha256(body).hexdigest().encode("ascii") != head:
            return
        data = json.loads(body.decode("ascii"))
        if data["key"] != self._key:
            return
        self.verdicts = dict(data["verdicts"])
        if data["archive_sha256"] == self._archive_sha256:
            self.hashes = {(int(offset), int(length)): digest for offset, length, digest in data["hashes"]}

    def save(self) -> None:
        """Write what was learned; a folder that cannot be written costs time at the next build, nothing else."""
        if self._loaded == (len(self.hashes), len(self.verdicts)):
            return
        if len(self.verdicts) > _ENTRIES_MAX:
            # mostly of maps long gone: those of this archive are kept
            mine = set(self.hashes.values())
            self.verdicts = {digest: verdict for digest, verdict in self.verdicts.items() if digest in mine}
        body = canonical(
            {
                "key": self._key,
                "archive_sha256": self._archive_sha256,
                "hashes": sorted([offset, length, digest] for (offset, length), digest in self.hashes.items()),
                "verdicts": self.verdicts,
            }
        )
        partial = self._path.with_name(".%s.%d" % (_NAME, os.getpid()))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_file(partial, hashlib.sha256(body).hexdigest().encode("ascii") + b"\n" + body)
            os.replace(str(partial), str(self._path))
        except (OSError, BuilderError):
            with contextlib.suppress(OSError):
                partial.unlink()
