# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one writer of a store's source: bodies into a pack first, durably, and only then their names into the index."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from ._tile_store_index import SQL_BATCH, StoreIndex, index_errors, sql_marks
from ._tile_store_pack import PackWriter
from ._tiles import Tile

__all__ = ["TileRecord", "TileStoreWriter"]


class TileRecord(NamedTuple):
    """One tile to store; `body` is None for a tile without data (missing, placeholder) and for a fresh stamp only."""

    tile: Tile
    state: int
    body: Optional[bytes] = None
    sha256: Optional[bytes] = None
    etag: Optional[str] = None
    last_modified: Optional[str] = None
    imagery_date: Optional[str] = None
    still_valid: bool = False


class TileStoreWriter:
    """Adds tiles in batches; each `add` is durable when it returns.

    Args:
        index: the open store's.
        packs: the folder of its bodies.
        source: the source's number.
    """

    def __init__(self, index: StoreIndex, packs: Path, source: int) -> None:
        self._root = index.root
        self._packs = packs
        self._source = source
        self._db = index.database
        self._pack: Optional[PackWriter] = None
        with index_errors(self._root):
            rows = self._db.execute("SELECT sha256 FROM placeholder WHERE source = ?", (source,)).fetchall()
        self.placeholder_sha256: Set[bytes] = {bytes(row[0]) for row in rows}

    def __enter__(self) -> "TileStoreWriter":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the pack back."""
        if self._pack is not None:
            self._pack.close()
            self._pack = None

    def add(self, records: Sequence[TileRecord], *, now_s: Optional[int] = None) -> List[bytes]:
        """Store a batch; returns the SHA-256 of those bodies of it that were there before.

        Raises:
            DownloadError: disk full, write or sync failed; nothing of the batch is in the index then.
        """
        now_s = int(time.time()) if now_s is None else now_s
        bodies: Dict[bytes, bytes] = {}
        for record in records:
            if record.body is not None and record.sha256 is not None:
                bodies[record.sha256] = record.body
        known = self._known(list(bodies))
        repeated: List[bytes] = []
        seen: Set[bytes] = set()
        for record in records:
            if record.body is None or record.sha256 is None:
                continue
            if record.sha256 in known or record.sha256 in seen:
                repeated.append(record.sha256)
            seen.add(record.sha256)
        fresh = [(sha256, body) for sha256, body in bodies.items() if sha256 not in known]
        placed = self._append([body for _digest, body in fresh])
        with index_errors(self._root):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(
                    "INSERT OR IGNORE INTO blob (sha256, pack, offset, length) VALUES (?, ?, ?, ?)",
                    [(digest, pack, offset, len(body)) for (digest, body), (pack, offset) in zip(fresh, placed)],
                )
                if self._pack is not None:
                    self._db.execute("UPDATE pack SET end = ? WHERE id = ?", (self._pack.end, self._pack.number))
                self._write_tiles(records, now_s)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        return repeated

    def _write_tiles(self, records: Sequence[TileRecord], now_s: int) -> None:
        rows: List[Tuple[Any, ...]] = []
        for record in records:
            z, x, y = record.tile
            if record.still_valid:
                self._db.execute(
                    "UPDATE tile SET fetched_s = ? WHERE source = ? AND z = ? AND y = ? AND x = ?",
                    (now_s, self._source, z, y, x),
                )
                continue
            length = len(record.body) if record.body is not None else 0
            rows.append((self._source, z, y, x, record.state, record.sha256 if length else None, length, now_s,
                         record.etag, record.last_modified, record.imagery_date))  # fmt: skip
        self._db.executemany(
            "INSERT OR REPLACE INTO tile (source, z, y, x, state, blob, length, fetched_s, etag, last_modified, "
            "imagery_date) VALUES (?, ?, ?, ?, ?, (SELECT id FROM blob WHERE sha256 = ?), ?, ?, ?, ?, ?)",
            rows,
        )

    def mark_placeholder(self, sha256: bytes) -> int:
        """Declare a body a placeholder of this source, now and for later runs; returns how many tiles had it."""
        self.placeholder_sha256.add(sha256)
        with index_errors(self._root):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT OR IGNORE INTO placeholder VALUES (?, ?)", (self._source, sha256))
            count = self._db.execute(
                "UPDATE tile SET state = 2 WHERE source = ? AND state = 0 AND "
                "blob = (SELECT id FROM blob WHERE sha256 = ?)",
                (self._source, sha256),
            ).rowcount
            self._db.execute("COMMIT")
        return count

    def _known(self, digests: List[bytes]) -> Set[bytes]:
        found: Set[bytes] = set()
        with index_errors(self._root):
            for start in range(0, len(digests), SQL_BATCH):
                part = digests[start : start + SQL_BATCH]
                rows = self._db.execute("SELECT sha256 FROM blob WHERE sha256 IN " + sql_marks(part), part)  # noqa: S608 - only marks
                found.update(bytes(row[0]) for row in rows)
        return found

    def _append(self, bodies: Iterable[bytes]) -> List[Tuple[int, int]]:
        placed: List[Tuple[int, int]] = []
        pending = list(bodies)
        if not pending:
            return placed
        if self._pack is None or self._pack.full:
            self.close()
            self._pack = self._open_pack()
        try:
            offsets = self._pack.append(pending)
        except BaseException:
            # After a failed sync nobody knows what the disk holds: this pack is not written to again by this process.
            self.close()
            raise
        number = self._pack.number
        return [(number, offset) for offset in offsets]

    def _open_pack(self) -> PackWriter:
        with index_errors(self._root):
            for number, _end in self._db.execute("SELECT id, end FROM pack ORDER BY id").fetchall():
                pack = PackWriter.try_open(self._packs, number)
                if pack is None:
                    continue
                # Read the end only under the lock: its holder may just have moved it.
                end = self._db.execute("SELECT end FROM pack WHERE id = ?", (number,)).fetchone()[0]
                if pack.take_over(end):
                    return pack
                pack.close()
            number = int(self._db.execute("INSERT INTO pack (end) VALUES (0)").lastrowid or 0)
        return PackWriter.create(self._packs, number)
