# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The upload ledger: which tile a provider has accepted, durable before anything else believes it.

A row is written once and never changed. It outlives the companion's mark and the provider's own memory, so that a
recording that comes back, by a power cut or from a copy, is not sent again.
"""

from __future__ import annotations

import os
import sqlite3
from datetime import datetime, timezone
from typing import Iterable, List, NamedTuple, Set, Tuple

from ._errors import TileUploadError

__all__ = ["TileKey", "UploadLedger"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS accepted (
    provider TEXT NOT NULL, zoom INTEGER NOT NULL, tile_column INTEGER NOT NULL, tile_row INTEGER NOT NULL,
    sha256 BLOB NOT NULL, at TEXT NOT NULL, run_id TEXT NOT NULL,
    PRIMARY KEY (provider, zoom, tile_column, tile_row, sha256)
) WITHOUT ROWID
"""
BUSY_TIMEOUT_S = 30.0


class TileKey(NamedTuple):
    """What is uploaded once: these bytes at this place."""

    zoom: int
    column: int
    row: int
    sha256: str


class UploadLedger:
    """The ledger in `path`; use it as a context.

    Raises:
        TileUploadError: the file is damaged or cannot be written.
    """

    def __init__(self, path: str, *, provider: str, run_id: str) -> None:
        self._path, self._provider, self._run_id = path, provider, run_id
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        try:
            self._database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        except sqlite3.Error as exc:
            raise self._broken(exc) from None
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")  # each commit is on the disk when it returns
            self._database.execute(SCHEMA)
        except sqlite3.Error as exc:
            self._database.close()
            raise self._broken(exc) from None

    def __enter__(self) -> "UploadLedger":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._database.close()

    def _broken(self, exc: sqlite3.Error) -> TileUploadError:
        return TileUploadError(
            f"the upload ledger {self._path} cannot be used: {exc}",
            remediation="Free disk space, or move the damaged file away: the provider is then asked for every tile.",
        )

    def accepted(self, keys: Iterable[TileKey]) -> Set[TileKey]:
        """Those of the keys that the provider has accepted."""
        query = "SELECT 1 FROM accepted WHERE provider=? AND zoom=? AND tile_column=? AND tile_row=? AND sha256=?"
        try:
            return {key for key in keys if self._database.execute(query, (self._provider, *_row(key))).fetchone()}
        except sqlite3.Error as exc:
            raise self._broken(exc) from None

    def accept(self, keys: Iterable[TileKey]) -> None:
        """Note that the provider has these; on the disk when this returns."""
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        rows: List[Tuple[object, ...]] = [(self._provider, *_row(key), at, self._run_id) for key in keys]
        if not rows:
            return
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR IGNORE INTO accepted VALUES (?,?,?,?,?,?,?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.Error as exc:
            raise self._broken(exc) from None


def _row(key: TileKey) -> Tuple[int, int, int, bytes]:
    return key.zoom, key.column, key.row, bytes.fromhex(key.sha256)
