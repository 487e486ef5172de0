# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a fetched body to a durable tile: check threads, and one thread that stores in batches.

The network thread hands bodies in and takes outcomes out; hashing and waiting for the disk happen beside it, and each
check thread has a process that decodes.
"""

from __future__ import annotations

import enum
import os
import queue
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Deque, List, NamedTuple, Optional, Set, Tuple, Union

from ._tile_check import MAX_BATCH, ReceivedBody, TileChecker
from ._tile_decoder import TileDecoder
from ._tile_store import TileState, TileStore
from ._tile_store_writer import TileRecord
from ._tiles import Tile

__all__ = ["FetchedTile", "TileIntake", "TileOutcome"]

MAX_BACKLOG = 2048
MAX_BACKLOG_BYTES = 1 << 26
BATCH_TILES = MAX_BACKLOG // 4
"""A part of what may wait: while a batch goes to the disk, the next ones are fetched and checked."""
BATCH_WAIT_S = 0.25
CHECK_TILES = MAX_BATCH // 4
CHECK_BYTES = 1 << 20
"""A batch for one decoder: large enough to be worth handing over, small enough to leave the others something."""
_Checked = Tuple[TileRecord, Optional[str], int]


class _Signal(enum.Enum):
    FLUSH = enum.auto()
    END = enum.auto()


class FetchedTile(NamedTuple):
    """What a source gave for a tile; `state` other than PRESENT needs no body, `still_valid` is a 304."""

    tile: Tile
    body: Optional[bytes]
    content_type: Optional[str] = None
    etag: Optional[str] = None
    last_modified: Optional[str] = None
    imagery_date: Optional[str] = None
    state: int = TileState.PRESENT
    still_valid: bool = False


class TileOutcome(NamedTuple):
    """`stored`: durable in the store in that state; else `reason` says why the body was refused."""

    tile: Tile
    stored: bool
    state: int
    reason: Optional[str]
    size_bytes: int
    still_valid: bool


class TileIntake:
    """Checks and stores tiles beside the calling thread; errors of its threads surface in `outcomes` and `close`."""

    def __init__(
        self, *, store_root: Path, source: int, checker: TileChecker, max_repeats: int, threads: Optional[int] = None
    ) -> None:
        self._root = store_root
        self._source = source
        self._checker = checker
        self._max_repeats = max_repeats
        self._fetched: "queue.SimpleQueue[Optional[FetchedTile]]" = queue.SimpleQueue()
        self._checked: "queue.SimpleQueue[Union[_Checked, _Signal]]" = queue.SimpleQueue()
        self._outcomes: Deque[TileOutcome] = deque()
        self._error: Optional[BaseException] = None
        self._taken = self._given = self._waiting_bytes = 0
        count = threads or min(8, len(os.sched_getaffinity(0)))
        self._checkers = [threading.Thread(target=self._check_loop, daemon=True) for _index in range(count)]
        self._storer = threading.Thread(target=self._store_loop, daemon=True)
        for thread in [*self._checkers, self._storer]:
            thread.start()

    @property
    def backlog(self) -> int:
        """Tiles handed in whose outcome was not taken out yet."""
        return self._taken - self._given

    @property
    def room(self) -> int:
        """How many more tiles may be handed in; none while too many bytes wait."""
        return MAX_BACKLOG - self.backlog if self._waiting_bytes < MAX_BACKLOG_BYTES else 0

    def submit(self, fetched: FetchedTile) -> None:
        """Hand a tile in."""
        self._taken += 1
        if fetched.body is None:
            state, still_valid = fetched.state, fetched.still_valid
            self._checked.put((TileRecord(fetched.tile, state, still_valid=still_valid), None, 0))
        else:
            self._waiting_bytes += len(fetched.body)
            self._fetched.put(fetched)

    def flush(self) -> None:
        """Store what was checked so far without waiting for more."""
        self._checked.put(_Signal.FLUSH)

    def outcomes(self) -> List[TileOutcome]:
        """The outcomes since the last call; raises what stopped a thread."""
        if self._error is not None:
            raise self._error
        found: List[TileOutcome] = []
        while self._outcomes:
            found.append(self._outcomes.popleft())
        self._given += len(found)
        self._waiting_bytes -= sum(outcome.size_bytes for outcome in found)
        return found

    def close(self) -> List[TileOutcome]:
        """Finish what was handed in, make it durable, and end the threads; the last outcomes."""
        for _thread in self._checkers:
            self._fetched.put(None)
        for thread in self._checkers:
            thread.join()
        self._checked.put(_Signal.END)
        self._storer.join()
        return self.outcomes()

    def _check_loop(self) -> None:
        try:
            with TileDecoder() as decoder:
                ended = False
                while not ended:
                    batch, ended = self._next_to_check()
                    if batch:
                        self._check(batch, decoder)
        except BaseException as exc:  # noqa: BLE001 - handed to the caller's thread, which raises it
            self._error = exc

    def _next_to_check(self) -> Tuple[List[FetchedTile], bool]:
        """What waits, at least one tile; and whether that was the end."""
        batch: List[FetchedTile] = []
        size_bytes = 0
        while len(batch) < CHECK_TILES and size_bytes < CHECK_BYTES:
            try:
                fetched = self._fetched.get(block=not batch)
            except queue.Empty:
                break
            if fetched is None:
                return batch, True
            batch.append(fetched)
            size_bytes += len(fetched.body or b"")
        return batch, False

    def _check(self, batch: List[FetchedTile], decoder: TileDecoder) -> None:
        received = [ReceivedBody(fetched.body or b"", fetched.content_type) for fetched in batch]
        for fetched, (body, _type), verdict in zip(batch, received, self._checker.check(received, decoder=decoder)):
            if verdict.placeholder:
                self._checked.put((TileRecord(fetched.tile, TileState.PLACEHOLDER), None, len(body)))
            elif verdict.reason is not None:
                self._checked.put((TileRecord(fetched.tile, TileState.PRESENT), verdict.reason, len(body)))
            else:
                record = TileRecord(fetched.tile, TileState.PRESENT, body, verdict.sha256, fetched.etag,
                                    fetched.last_modified, fetched.imagery_date)  # fmt: skip
                self._checked.put((record, None, len(body)))

    def _store_loop(self) -> None:
        try:
            with TileStore(self._root) as store, store.writer(self._source) as writer:
                repeats: "Counter[bytes]" = Counter()
                ended = False
                while not ended:
                    batch, ended = self._next_batch()
                    accepted = [record for record, reason, _size in batch if reason is None]
                    accepted = [_as_placeholder(record, writer.placeholder_sha256) for record in accepted]
                    if accepted:
                        repeats.update(writer.add(accepted))
                    if self._max_repeats:
                        for sha256 in [digest for digest, count in repeats.items() if count >= self._max_repeats]:
                            writer.mark_placeholder(sha256)
                            del repeats[sha256]
                    states = {record.tile: record.state for record in accepted}
                    for record, reason, size_bytes in batch:
                        state = states.get(record.tile, record.state)
                        self._outcomes.append(
                            TileOutcome(record.tile, reason is None, state, reason, size_bytes, record.still_valid)
                        )
        except BaseException as exc:  # noqa: BLE001 - handed to the caller's thread, which raises it
            self._error = exc

    def _next_batch(self) -> Tuple[List[_Checked], bool]:
        batch: List[_Checked] = []
        timeout_s: Optional[float] = None
        due_s = 0.0
        while len(batch) < BATCH_TILES:
            try:
                item = self._checked.get(timeout=timeout_s)
            except queue.Empty:
                return batch, False
            if isinstance(item, _Signal):
                return batch, item is _Signal.END
            batch.append(item)
            # The first tile waits for company: a batch is one durable point, and that costs the same for any size.
            now_s = time.monotonic()
            due_s = now_s + BATCH_WAIT_S if len(batch) == 1 else due_s
            timeout_s = max(0.0, due_s - now_s)
        return batch, False


def _as_placeholder(record: TileRecord, known: Set[bytes]) -> TileRecord:
    if record.sha256 is not None and record.sha256 in known:
        return TileRecord(record.tile, TileState.PLACEHOLDER)
    return record
