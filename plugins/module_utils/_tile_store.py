# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tile store of the workstation: every tile that was ever downloaded, shared by all flights and processes.

Bodies are content addressed: identical tiles lie once in append-only packs (`packs/NNNNNN.pack`), and `index.sqlite`
says which tile of which source is which body, whence and since when. A body is durable before the index names it, so
a kill or a power cut at any moment leaves at worst unnamed bytes behind a pack's end, which the next writer reclaims.
Each writing process holds a pack of its own under a kernel lock.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ._errors import DownloadError
from ._tile_store_index import SQL_BATCH, StoreIndex, index_errors, sql_marks
from ._tile_store_pack import PackReader
from ._tile_store_writer import TileStoreWriter
from ._tiles import Tile, TileRun

__all__ = ["RunSurvey", "StoredTile", "TileState", "TileStore"]


class TileState:
    """What the store knows of a tile."""

    PRESENT = 0
    MISSING = 1
    PLACEHOLDER = 2


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
        self._index = StoreIndex(self.root, alone=alone)
        self._db = self._index.database
        self._reader = PackReader(self.packs)
        self._source_numbers: Dict[str, int] = {}

    def __enter__(self) -> "TileStore":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the index and the packs."""
        self._reader.close()
        self._index.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The index."""
        return self._db

    def source_number(self, source_key: str, *, attribution: Optional[str] = None) -> Optional[int]:
        """The number of a source in the index; with `attribution` it is entered where absent."""
        number = self._source_numbers.get(source_key)
        if number is None or attribution is not None:
            with index_errors(self.root):
                if attribution is not None:
                    self._db.execute(
                        "INSERT INTO source (source_key, attribution) VALUES (?, ?) "
                        "ON CONFLICT (source_key) DO UPDATE SET attribution = excluded.attribution "
                        "WHERE attribution IS NOT excluded.attribution",
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
        with index_errors(self.root):
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
        with index_errors(self.root):
            row = self._db.execute(
                "SELECT state, blob, length, fetched_s, etag, last_modified FROM tile "
                "WHERE source = ? AND z = ? AND y = ? AND x = ?",
                (source, tile.z, tile.y, tile.x),
            ).fetchone()
        return None if row is None else StoredTile(tile, *row)

    def present_columns(self, source: int, run: TileRun) -> List[Tuple[int, int, int]]:
        """Column, body number and length of the tiles of a run that have data."""
        with index_errors(self.root):
            return self._db.execute(
                "SELECT x, blob, length FROM tile "
                "WHERE source = ? AND z = ? AND y = ? AND x BETWEEN ? AND ? AND state = 0 ORDER BY x",
                (source, run.z, run.y, run.x_first, run.x_last),
            ).fetchall()

    def dates(self, source: int, run: TileRun) -> List[Tuple[int, Optional[str], Optional[str], int]]:
        """Fetch time (Unix seconds), `Last-Modified`, date of the imagery; and how many tiles of a run share them."""
        with index_errors(self.root):
            return self._db.execute(
                "SELECT fetched_s, last_modified, imagery_date, count(*) FROM tile "
                "WHERE source = ? AND z = ? AND y = ? AND x BETWEEN ? AND ? AND state = 0 "
                "GROUP BY fetched_s, last_modified, imagery_date",
                (source, run.z, run.y, run.x_first, run.x_last),
            ).fetchall()

    def body_rows(self, numbers: Iterable[int]) -> Iterator[List[Tuple[int, int, int, int, bytes]]]:
        """Number, pack, offset, length and SHA-256 of bodies, in batches; those that are not there are left out.

        Where the numbers rise, so do those of the rows.
        """
        with index_errors(self.root):
            remaining = map(int, numbers)
            for part in iter(lambda: list(islice(remaining, SQL_BATCH)), []):
                marks = sql_marks(part)
                query = f"SELECT id, pack, offset, length, sha256 FROM blob WHERE id IN {marks} ORDER BY id"  # noqa: S608
                yield self._db.execute(query, part).fetchall()

    def read(self, pack: int, offset: int, length: int) -> bytes:
        """The bytes of a body.

        Raises:
            DownloadError: the pack is gone or shorter than the index says.
        """
        return self._reader.read(pack, offset, length)

    def read_into(self, pack: int, offset: int, space: memoryview) -> None:
        """`read`, but into memory that is there already; what a pack lacks at its end is left as it was."""
        self._reader.read_into(pack, offset, space)

    def body(self, source: int, tile: Tile) -> Optional[bytes]:
        """The verified bytes of a tile, None where it has none.

        Raises:
            DownloadError: the stored bytes are no longer what was stored.
        """
        stored = self.get(source, tile)
        if stored is None or stored.state != TileState.PRESENT or stored.blob is None:
            return None
        rows = next(self.body_rows([stored.blob]))
        if not rows:
            return None
        _number, pack, offset, length, sha256 = rows[0]
        content = self.read(pack, offset, length)
        if hashlib.sha256(content).digest() != sha256:
            self.forget_bodies([stored.blob])
            raise DownloadError(f"tile {tile.z}/{tile.x}/{tile.y} in the tile store {self.root} is damaged")
        return content

    def forget_bodies(self, numbers: Sequence[int]) -> int:
        """Forget damaged bodies and the tiles that had them, so that the next run downloads these again."""
        with index_errors(self.root):
            self._db.execute("BEGIN IMMEDIATE")
            count = 0
            for number in numbers:
                count += self._db.execute("DELETE FROM tile WHERE blob = ?", (number,)).rowcount
                self._db.execute("DELETE FROM blob WHERE id = ?", (number,))
            self._db.execute("COMMIT")
        return count

    def writer(self, source: int) -> TileStoreWriter:
        """A writer for one source; close it, or use it as a context."""
        return TileStoreWriter(self._index, self.packs, source)
