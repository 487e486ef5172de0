# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tile store of the workstation: every tile that was ever downloaded, shared by all flights and processes.

Bodies are content addressed: identical tiles lie once in append-only packs (`packs/NNNNNN.pack`), and `index.sqlite`
says which tile of which source is which body, whence and since when. A body is durable before the index names it, so
a kill or a power cut at any moment leaves at worst unnamed bytes behind a pack's end, which the next writer reclaims.
Each writing process holds a pack of its own under a kernel lock; the index is SQLite in WAL mode. Whoever has the
store open shares a further kernel lock, so that bodies are moved (`_tile_store_compact`) only while nobody reads them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ._errors import BuildLockHeldError, DownloadError
from ._tile_store_pack import PackReader, PackWriter
from ._tiles import Tile, TileRun

__all__ = ["RunSurvey", "StoredTile", "TileRecord", "TileState", "TileStore", "TileStoreWriter"]

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 60.0
LOCK_POLL_S = 0.1
SQL_BATCH = 500

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


class TileState:
    """What the store knows of a tile."""

    PRESENT = 0
    MISSING = 1
    PLACEHOLDER = 2


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


class StoredTile(NamedTuple):
    """A tile as the index has it; `blob` is the body's number, `length` its bytes."""

    tile: Tile
    state: int
    blob: Optional[int]
    length: int
    fetched_s: int
    etag: Optional[str]
    last_modified: Optional[str]


@dataclass(frozen=True)
class RunSurvey:
    """What the store has of one run of tiles; `stale` holds those to ask again, `absent` the columns it lacks."""

    present: int
    present_bytes: int
    missing: Tuple[int, ...]
    placeholder: Tuple[int, ...]
    stale: Tuple[StoredTile, ...]
    absent: Tuple[int, ...]


def _marks(values: Sequence[object]) -> str:
    return "(" + ",".join("?" * len(values)) + ")"


@contextmanager
def _sqlite_errors(root: Path) -> Iterator[None]:
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


class TileStore:
    """A tile store under `root` (made 0700 where absent). Not shared between threads: open one in each.

    Args:
        root: the store's folder.
        alone: nobody else may have the store open meanwhile; does not wait for it.

    Raises:
        BuildLockHeldError: another process has it open (`alone`), or has had it alone for a minute.
        DownloadError: the folder cannot be made or used, or the index is damaged.
    """

    def __init__(self, root: Path, *, alone: bool = False) -> None:
        self.root = Path(root)
        self.packs = self.root / "packs"
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            os.makedirs(self.packs, mode=0o700, exist_ok=True)
        except OSError as exc:
            raise DownloadError(
                f"cannot make the tile store {self.root}: {exc.strerror}",
                remediation="Choose another cache_staging_root, or free the disk.",
            ) from None
        self._lock = self._take_lock(alone=alone)
        try:
            with _sqlite_errors(self.root):
                self._db = sqlite3.connect(
                    str(self.root / "index.sqlite"),
                    timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False,
                )  # fmt: skip
                try:
                    self._prepare()
                except BaseException:
                    self._db.close()
                    raise
        except BaseException:
            os.close(self._lock)
            raise
        self._reader = PackReader(self.packs)
        self._source_numbers: Dict[str, int] = {}

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
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise DownloadError(
                f"the tile store {self.root} has schema version {version}, and this release reads {SCHEMA_VERSION}",
                remediation=f"Use the release that made it, or move {self.root} away.",
            )
        if version == 0:
            self._db.executescript("BEGIN IMMEDIATE;" + _SCHEMA + f"PRAGMA user_version={SCHEMA_VERSION};COMMIT;")

    def __enter__(self) -> "TileStore":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the index and the packs."""
        self._reader.close()
        self._db.close()
        os.close(self._lock)

    @property
    def connection(self) -> sqlite3.Connection:
        """The index, for this store's writer."""
        return self._db

    def source_number(self, source_key: str, *, attribution: Optional[str] = None) -> Optional[int]:
        """The number of a source in the index; with `attribution` it is entered where absent."""
        number = self._source_numbers.get(source_key)
        if number is None or attribution is not None:
            with _sqlite_errors(self.root):
                if attribution is not None:
                    self._db.execute(
                        "INSERT INTO source (source_key, attribution) VALUES (?, ?) "
                        "ON CONFLICT (source_key) DO UPDATE SET attribution = excluded.attribution",
                        (source_key, attribution),
                    )
                row = self._db.execute("SELECT id FROM source WHERE source_key = ?", (source_key,)).fetchone()
            if row is None:
                return None
            number = self._source_numbers[source_key] = int(row[0])
        return number

    def survey(self, source: int, run: TileRun, *, fresh_since_s: int = 0, void_since_s: int = 0) -> RunSurvey:
        """What is there of a run of tiles.

        Args:
            source: the source's number.
            run: tiles of one row.
            fresh_since_s: tiles fetched before this time (Unix seconds) are stale.
            void_since_s: missing and placeholder tiles learned before this time are asked again.
        """
        key = (source, run.z, run.y, run.x_first, run.x_last)
        width = run.x_last - run.x_first + 1
        with _sqlite_errors(self.root):
            count, size, oldest = self._db.execute(
                "SELECT count(*), total(length), min(fetched_s) FROM tile "
                "WHERE source = ? AND z = ? AND y = ? AND x BETWEEN ? AND ? AND state = 0",
                key,
            ).fetchone()
            if count == width and oldest >= fresh_since_s:
                return RunSurvey(width, int(size), (), (), (), ())
            rows = self._db.execute(
                "SELECT x, state, blob, length, fetched_s, etag, last_modified FROM tile "
                "WHERE source = ? AND z = ? AND y = ? AND x BETWEEN ? AND ?",
                key,
            ).fetchall()
        present = present_bytes = 0
        missing: List[int] = []
        placeholder: List[int] = []
        stale: List[StoredTile] = []
        known: Set[int] = set()
        for x, state, blob, length, fetched_s, etag, last_modified in rows:
            if state == TileState.PRESENT and fetched_s >= fresh_since_s:
                present += 1
                present_bytes += length
            elif state == TileState.PRESENT:
                stale.append(StoredTile(Tile(run.z, x, run.y), state, blob, length, fetched_s, etag, last_modified))
            elif fetched_s >= void_since_s:
                (missing if state == TileState.MISSING else placeholder).append(x)
            else:
                continue
            known.add(x)
        absent = tuple(x for x in range(run.x_first, run.x_last + 1) if x not in known)
        return RunSurvey(present, present_bytes, tuple(missing), tuple(placeholder), tuple(stale), absent)

    def get(self, source: int, tile: Tile) -> Optional[StoredTile]:
        """One tile as the index has it."""
        with _sqlite_errors(self.root):
            row = self._db.execute(
                "SELECT state, blob, length, fetched_s, etag, last_modified FROM tile "
                "WHERE source = ? AND z = ? AND y = ? AND x = ?",
                (source, tile.z, tile.y, tile.x),
            ).fetchone()
        return None if row is None else StoredTile(tile, *row)

    def present_columns(self, source: int, run: TileRun) -> List[Tuple[int, int, int]]:
        """Column, body number and length of the tiles of a run that have data."""
        with _sqlite_errors(self.root):
            return self._db.execute(
                "SELECT x, blob, length FROM tile "
                "WHERE source = ? AND z = ? AND y = ? AND x BETWEEN ? AND ? AND state = 0 ORDER BY x",
                (source, run.z, run.y, run.x_first, run.x_last),
            ).fetchall()

    def dates(self, source: int, run: TileRun) -> List[Tuple[int, Optional[str], Optional[str], int]]:
        """Fetch time (Unix seconds), `Last-Modified`, date of the imagery; and how many tiles of a run share them."""
        with _sqlite_errors(self.root):
            return self._db.execute(
                "SELECT fetched_s, last_modified, imagery_date, count(*) FROM tile "
                "WHERE source = ? AND z = ? AND y = ? AND x BETWEEN ? AND ? AND state = 0 "
                "GROUP BY fetched_s, last_modified, imagery_date",
                (source, run.z, run.y, run.x_first, run.x_last),
            ).fetchall()

    def body_rows(self, numbers: Iterable[int]) -> Iterator[Tuple[int, int, int, int, bytes]]:
        """Number, pack, offset, length and SHA-256 of bodies, by number; those that are not there are left out."""
        with _sqlite_errors(self.root):
            remaining = map(int, numbers)
            for part in iter(lambda: list(islice(remaining, SQL_BATCH)), []):
                marks = _marks(part)
                query = f"SELECT id, pack, offset, length, sha256 FROM blob WHERE id IN {marks} ORDER BY id"  # noqa: S608
                yield from self._db.execute(query, part)

    def read(self, pack: int, offset: int, length: int) -> bytes:
        """The bytes of a body.

        Raises:
            DownloadError: the pack is gone or shorter than the index says.
        """
        return self._reader.read(pack, offset, length)

    def body(self, source: int, tile: Tile) -> Optional[bytes]:
        """The verified bytes of a tile, None where it has none.

        Raises:
            DownloadError: the stored bytes are no longer what was stored.
        """
        stored = self.get(source, tile)
        if stored is None or stored.state != TileState.PRESENT or stored.blob is None:
            return None
        row = next(self.body_rows([stored.blob]), None)
        if row is None:
            return None
        _number, pack, offset, length, sha256 = row
        content = self.read(pack, offset, length)
        if hashlib.sha256(content).digest() != sha256:
            self.forget_bodies([stored.blob])
            raise DownloadError(f"tile {tile.z}/{tile.x}/{tile.y} in the tile store {self.root} is damaged")
        return content

    def forget_bodies(self, numbers: Sequence[int]) -> int:
        """Forget damaged bodies and the tiles that had them, so that the next run downloads these again."""
        with _sqlite_errors(self.root):
            self._db.execute("BEGIN IMMEDIATE")
            count = 0
            for number in numbers:
                count += self._db.execute("DELETE FROM tile WHERE blob = ?", (number,)).rowcount
                self._db.execute("DELETE FROM blob WHERE id = ?", (number,))
            self._db.execute("COMMIT")
        return count

    def writer(self, source: int) -> "TileStoreWriter":
        """A writer for one source; close it, or use it as a context."""
        return TileStoreWriter(self, source)


class TileStoreWriter:
    """Adds tiles in batches; each `add` is durable when it returns."""

    def __init__(self, store: TileStore, source: int) -> None:
        self._store = store
        self._source = source
        self._db = store.connection
        self._pack: Optional[PackWriter] = None
        with _sqlite_errors(store.root):
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
        with _sqlite_errors(self._store.root):
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
        with _sqlite_errors(self._store.root):
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
        with _sqlite_errors(self._store.root):
            for start in range(0, len(digests), SQL_BATCH):
                part = digests[start : start + SQL_BATCH]
                rows = self._db.execute("SELECT sha256 FROM blob WHERE sha256 IN " + _marks(part), part)  # noqa: S608 - only marks
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
        with _sqlite_errors(self._store.root):
            for number, _end in self._db.execute("SELECT id, end FROM pack ORDER BY id").fetchall():
                pack = PackWriter.try_open(self._store.packs, number)
                if pack is None:
                    continue
                # Read the end only under the lock: its holder may just have moved it.
                end = self._db.execute("SELECT end FROM pack WHERE id = ?", (number,)).fetchone()[0]
                if pack.take_over(end):
                    return pack
                pack.close()
            number = int(self._db.execute("INSERT INTO pack (end) VALUES (0)").lastrowid or 0)
        return PackWriter.create(self._store.packs, number)
