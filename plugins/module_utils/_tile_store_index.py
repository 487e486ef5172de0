# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The index of the tile store: an SQLite database in WAL mode, open under a kernel lock that all its users share.

Bodies are moved (`_tile_store_compact`) only while one process holds that lock alone; then nobody reads them.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Sequence

from ._errors import BuildLockHeldError, DownloadError

__all__ = ["SQL_BATCH", "StoreIndex", "index_errors", "sql_marks"]

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 60.0
LOCK_POLL_S = 0.1
SQL_BATCH = 500
"""Values of one query: SQLite bounds them."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS source (
    id INTEGER PRIMARY KEY, source_key TEXT NOT NULL UNIQUE, attribution TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS pack (id INTEGER PRIMARY KEY, end INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS blob (
    id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
    length INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tile (
    source INTEGER NOT NULL, z INTEGER NOT NULL, y INTEGER NOT NULL, x INTEGER NOT NULL, state INTEGER NOT NULL,
    blob INTEGER, length INTEGER NOT NULL, fetched_s INTEGER NOT NULL, etag TEXT, last_modified TEXT,
    imagery_date TEXT, PRIMARY KEY (source, z, y, x)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS placeholder (
    source INTEGER NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (source, sha256)) WITHOUT ROWID;
"""


def sql_marks(values: Sequence[object]) -> str:
    """Placeholders for a list of values."""
    return "(" + ",".join("?" * len(values)) + ")"


@contextmanager
def index_errors(root: Path) -> Iterator[None]:
    """What SQLite raises, as errors of ours."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise DownloadError(
            f"the tile store {root} cannot be used: {exc}",
            remediation="Free disk space, end other runs, or choose another cache_staging_root; then run again.",
        ) from None
    except sqlite3.DatabaseError as exc:
        raise DownloadError(
            f"the index of the tile store {root} is damaged: {exc}",
            remediation=f"Move {root} away and run again: the tiles are downloaded anew.",
        ) from None


class StoreIndex:
    """The open index of the store under `root`; `database` is in autocommit, each commit is durable.

    Args:
        root: the store's folder, which exists.
        alone: nobody else may have the store open meanwhile; does not wait for it.

    Raises:
        BuildLockHeldError: another process has it open (`alone`), or has had it alone for a minute.
        DownloadError: the index cannot be used, is damaged, or is of another release.
    """

    def __init__(self, root: Path, *, alone: bool = False) -> None:
        self.root = root
        self._lock = self._take_lock(alone=alone)
        try:
            with index_errors(root):
                self.database = sqlite3.connect(
                    str(root / "index.sqlite"),
                    timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False,
                )  # fmt: skip
                try:
                    self._prepare()
                except BaseException:
                    self.database.close()
                    raise
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Close the database and release the lock."""
        self.database.close()
        os.close(self._lock)

    def _take_lock(self, *, alone: bool) -> int:
        """The descriptor that holds the store's lock; it ends with the process, however that ends."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(str(self.root / "store.lock"), flags, 0o600)
        except OSError as exc:
            raise DownloadError(f"cannot lock the tile store {self.root}: {exc.strerror}") from None
        give_up_s = time.monotonic() + (0.0 if alone else BUSY_TIMEOUT_S)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                    return descriptor
                except BlockingIOError:
                    if time.monotonic() >= give_up_s:
                        user = "a run has it open" if alone else "it is being made smaller"
                        raise BuildLockHeldError(f"the tile store {self.root} is in use: {user}") from None
                time.sleep(LOCK_POLL_S)
        except BaseException:
            os.close(descriptor)
            raise

    def _prepare(self) -> None:
        """Durable writes, and the tables where the index is new."""
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=FULL")
        version = self.database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise DownloadError(
                f"the tile store {self.root} has schema version {version}, and this release reads {SCHEMA_VERSION}",
                remediation=f"Use the release that made it, or move {self.root} away.",
            )
        if version == 0:
            self.database.executescript("BEGIN IMMEDIATE;" + _SCHEMA + f"PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
