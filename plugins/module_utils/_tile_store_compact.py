# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""See and bound the size of the tile store: forget what was fetched longest ago, and give dead space back.

The store must be open `alone`. A kill or a power cut at any moment loses no tile: a body is durable at its new place
before the index, in one transaction, names that place and calls the old pack empty; only then is the old pack cut, and
where that does not happen any more, its next writer does it (`PackWriter.take_over`).
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple

from ._errors import DownloadError
from ._tile_store import TileStore
from ._tile_store_pack import PackWriter

__all__ = ["CompactReport", "StoreSize", "StoredSource", "compact_store", "measure_store"]

MOVE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class StoredSource:
    """What the store has of one source; `size_bytes` counts a body once for each tile that has it."""

    source_key: str
    tiles: int
    size_bytes: int


@dataclass(frozen=True)
class StoreSize:
    """Bytes that tiles have, bytes on the disk that no tile has any more, and the sources."""

    live_bytes: int
    dead_bytes: int
    tiles: int
    sources: Tuple[StoredSource, ...]


@dataclass(frozen=True)
class CompactReport:
    """What was done; `damaged` bodies were forgotten with their tiles, so that the next run fetches these again."""

    forgotten_tiles: int
    freed_bytes: int
    moved_bytes: int
    damaged: int


def measure_store(store: TileStore) -> StoreSize:
    """How large the store is; reads the index alone, beside running downloads.

    Raises:
        DownloadError: the index cannot be read.
    """
    try:
        database = store.connection
        live = database.execute(
            "SELECT total(length) FROM blob WHERE id IN (SELECT blob FROM tile WHERE blob IS NOT NULL)"
        ).fetchone()[0]
        end = database.execute("SELECT total(end) FROM pack").fetchone()[0]
        rows = database.execute(
            "SELECT source.source_key, count(*), total(tile.length) FROM tile JOIN source ON source.id = tile.source "
            "WHERE tile.state = 0 GROUP BY source.id ORDER BY source.source_key"
        ).fetchall()
    except sqlite3.Error as exc:
        raise _failed(store, exc) from None
    sources = tuple(StoredSource(key, count, int(size)) for key, count, size in rows)
    return StoreSize(int(live), int(end - live), sum(source.tiles for source in sources), sources)


def compact_store(store: TileStore, *, max_bytes: Optional[int] = None) -> CompactReport:
    """Give back the space of bodies that no tile has; first forget tiles until `max_bytes` suffice.

    Takes at most the space of one pack more while it works. Empty packs stay as empty files and are used again.

    Args:
        store: opened with `alone`.
        max_bytes: bodies fetched longest ago are forgotten, with their tiles, until the others are no more than this.

    Raises:
        DownloadError: the disk is full, or the index or a pack cannot be used. What the store had is still there.
    """
    before = measure_store(store)
    try:
        forgotten = 0 if max_bytes is None else _forget_oldest(store.connection, before.live_bytes - max_bytes)
        store.connection.execute("DELETE FROM blob WHERE id NOT IN (SELECT blob FROM tile WHERE blob IS NOT NULL)")
        moved = damaged = 0
        target: Optional[PackWriter] = None
        try:
            for (number,) in store.connection.execute("SELECT id FROM pack ORDER BY id").fetchall():
                source = PackWriter.try_open(store.packs, number)
                if source is None:  # gone, or the target
                    continue
                try:
                    end, live = _usage(store.connection, number)
                    if live >= end:
                        source.take_over(end)  # a killed writer may have left bytes behind its end
                        continue
                    if live and (target is None or target.full):
                        if target is not None:
                            target.close()
                        target = _empty_pack(store)
                    bodies, bad = _move(store, number, target)
                    moved, damaged = moved + bodies, damaged + bad
                    source.empty()
                finally:
                    source.close()
        finally:
            if target is not None:
                target.close()
        store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as exc:
        raise _failed(store, exc) from None
    except OSError as exc:
        raise DownloadError(f"cannot make the tile store {store.root} smaller: {exc.strerror}") from None
    after = measure_store(store)
    freed = before.live_bytes + before.dead_bytes - after.live_bytes - after.dead_bytes
    return CompactReport(forgotten, freed, moved, damaged)


def _failed(store: TileStore, exc: sqlite3.Error) -> DownloadError:
    return DownloadError(
        f"the tile store {store.root} cannot be used: {exc}", remediation="Free disk space, then run again."
    )


def _forget_oldest(database: sqlite3.Connection, excess_bytes: int) -> int:
    """Forget bodies by the last time that any tile fetched them, until so many bytes are free; tiles forgotten."""
    gone: List[Tuple[int]] = []
    if excess_bytes > 0:
        for blob, length in database.execute(
            "SELECT blob.id, blob.length FROM blob JOIN tile ON tile.blob = blob.id "
            "GROUP BY blob.id ORDER BY max(tile.fetched_s), blob.id"
        ):
            gone.append((blob,))
            excess_bytes -= length
            if excess_bytes <= 0:
                break
    return _forget(database, gone)


def _forget(database: sqlite3.Connection, bodies: List[Tuple[int]]) -> int:
    if not bodies:
        return 0
    database.execute("CREATE TEMP TABLE IF NOT EXISTS gone (id INTEGER PRIMARY KEY)")
    database.execute("DELETE FROM gone")
    database.execute("BEGIN IMMEDIATE")
    try:
        database.executemany("INSERT INTO gone VALUES (?)", bodies)
        count = database.execute("DELETE FROM tile WHERE blob IN (SELECT id FROM gone)").rowcount
        database.execute("DELETE FROM blob WHERE id IN (SELECT id FROM gone)")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return count


def _usage(database: sqlite3.Connection, number: int) -> Tuple[int, int]:
    """Where a pack ends, and how many of its bytes live."""
    end, live = database.execute(
        "SELECT pack.end, total(blob.length) FROM pack LEFT JOIN blob ON blob.pack = pack.id WHERE pack.id = ?",
        (number,),
    ).fetchone()
    return int(end), int(live)


def _empty_pack(store: TileStore) -> PackWriter:
    """A pack with nothing in it: one that was emptied, or a new one."""
    for (number,) in store.connection.execute("SELECT id FROM pack WHERE end = 0 ORDER BY id").fetchall():
        pack = PackWriter.try_open(store.packs, number)
        if pack is not None:
            pack.empty()
            return pack
    number = int(store.connection.execute("INSERT INTO pack (end) VALUES (0)").lastrowid or 0)
    return PackWriter.create(store.packs, number)


def _chunks(rows: List[Tuple[int, int, int, bytes]]) -> Iterator[List[Tuple[int, int, int, bytes]]]:
    chunk: List[Tuple[int, int, int, bytes]] = []
    size_bytes = 0
    for row in rows:
        chunk.append(row)
        size_bytes += row[2]
        if size_bytes >= MOVE_BYTES:
            yield chunk
            chunk, size_bytes = [], 0
    if chunk:
        yield chunk


def _move(store: TileStore, number: int, target: Optional[PackWriter]) -> Tuple[int, int]:
    """Copy what lives in a pack, then let the index name the new places; bytes moved, bodies found damaged."""
    database = store.connection
    rows = database.execute(
        "SELECT id, offset, length, sha256 FROM blob WHERE pack = ? ORDER BY offset", (number,)
    ).fetchall()
    placed: List[Tuple[int, int, int]] = []
    damaged: List[Tuple[int]] = []
    moved = 0
    for chunk in _chunks(rows):
        bodies: List[bytes] = []
        kept: List[int] = []
        for blob, offset, length, sha256 in chunk:
            body = store.read(number, offset, length)
            if hashlib.sha256(body).digest() == sha256:
                bodies.append(body)
                kept.append(blob)
            else:
                damaged.append((blob,))
        if target is not None and bodies:
            placed += [(target.number, offset, blob) for blob, offset in zip(kept, target.append(bodies))]
            moved += sum(map(len, bodies))
    _forget(database, damaged)
    database.execute("BEGIN IMMEDIATE")
    try:
        database.executemany("UPDATE blob SET pack = ?, offset = ? WHERE id = ?", placed)
        if target is not None:
            database.execute("UPDATE pack SET end = ? WHERE id = ?", (target.end, target.number))
        database.execute("UPDATE pack SET end = 0 WHERE id = ?", (number,))
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return moved, len(damaged)
