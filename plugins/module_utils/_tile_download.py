# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The download phase: fetch what the store lacks, check it, and say exactly what is there afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from ._errors import BuildCancelledError, DownloadError
from ._report import DownloadBatchReport
from ._tile_check import TileChecker
from ._tile_download_http import HttpAnswer, HttpEngine
from ._tile_download_intake import FetchedTile, TileIntake, TileOutcome
from ._tile_download_limits import DownloadLimits
from ._tile_source import HttpTileSource, LocalTileSource, TileRequest, TileSource, WantedTile
from ._tile_store import TileState, TileStore
from ._tiles import Tile, TileRun, TileSet

__all__ = ["DownloadLimits", "DownloadProgress", "count_wanted", "download_tiles"]

PROGRESS_S = 0.2
MAX_ETAG_CHARS = 512
_STATE_REASONS = {TileState.MISSING: "missing", TileState.PLACEHOLDER: "placeholder"}


@dataclass(frozen=True)
class DownloadProgress:
    """Where the download stands; `done` of `total` tiles have an outcome, `size_bytes` came over the wire or disk."""

    done: int
    total: int
    size_bytes: int
    failed: int
    elapsed_s: float


class _Batch:
    """The state of one download."""

    def __init__(
        self,
        *,
        tiles: TileSet,
        source: TileSource,
        store: TileStore,
        number: int,
        limits: DownloadLimits,
        on_progress: Optional[Callable[[DownloadProgress], None]] = None,
        cancelled: Optional[Callable[[], bool]] = None,
        ask_again: bool = False,
    ) -> None:
        self.tiles, self.source, self.store, self.number, self.limits = tiles, source, store, number, limits
        self._on_progress, self._cancelled = on_progress, cancelled
        self.started_s = time.monotonic()
        now_s = time.time()
        refresh_s = limits.refresh_after_s
        self.fresh_since_s = 0 if refresh_s is None else int(now_s - refresh_s)
        self.void_since_s = int(now_s) + 1 if ask_again else int(now_s - limits.void_after_s)
        self.downloaded = self.revalidated = self.done = self.failed = self.size_bytes = 0
        self.reasons: Dict[Tile, str] = {}
        self._told_s = 0.0

    def wanted(self) -> Iterator[WantedTile]:
        """The tiles that the store lacks or that are stale, counting the others on the way."""
        stamped = None
        fresh_since_s = self.fresh_since_s
        if isinstance(self.source, LocalTileSource):
            stamped = self.source.open()
            # Stamps cost nothing and are always compared; an archive without them is another source once it changes.
            fresh_since_s = int(time.time()) + 1 if stamped.stamped else 0
        try:
            for run in self.tiles.runs:
                found = self.store.survey(self.number, run, fresh_since_s=fresh_since_s, void_since_s=self.void_since_s)
                known = {stored.tile.x: stored for stored in found.stale}
                self.done += found.present + len(found.missing) + len(found.placeholder)
                for x in sorted([*found.absent, *known]):
                    tile = Tile(run.z, x, run.y)
                    stored = known.get(x)
                    if stored is None:
                        yield WantedTile(tile)
                    elif stamped is not None and stored.etag == stamped.stamp(tile):
                        self.done += 1
                    else:
                        yield WantedTile(tile, stored.etag, stored.last_modified)
        finally:
            if stamped is not None:
                stamped.close()

    def intake(self) -> TileIntake:
        spec = self.source.spec
        return TileIntake(
            store_root=self.store.root,
            source=self.number,
            checker=TileChecker(
                tile_size_px=spec.tile_size_px,
                image_format=spec.format,
                max_bytes=self.limits.max_body_bytes,
                placeholder_sha256=spec.placeholder_sha256,
                single_colour_is_placeholder=spec.placeholder_single_colour,
            ),
            max_repeats=spec.placeholder_max_repeats,
            threads=self.limits.check_threads,
        )

    def failed_tile(self, tile: Tile, reason: str) -> None:
        self.failed += 1
        self.done += 1
        if len(self.reasons) < self.limits.max_listed:
            self.reasons[tile] = reason

    def stored_tile(self, outcome: TileOutcome) -> None:
        self.done += 1
        self.size_bytes += outcome.size_bytes
        if outcome.still_valid:
            self.revalidated += 1
        elif outcome.state == TileState.PRESENT:
            self.downloaded += 1

    def tick(self) -> None:
        """Progress, cancellation, deadline."""
        now_s = time.monotonic()
        elapsed_s = now_s - self.started_s
        if self._cancelled is not None and self._cancelled():
            raise BuildCancelledError("the download was cancelled", phase=DownloadError.phase)
        if elapsed_s > self.limits.deadline_s:
            raise DownloadError(
                f"the download took longer than its deadline of {self.limits.deadline_s:.0f} s "
                f"({self.done} of {len(self.tiles)} tiles done)"
            )
        if self._on_progress is not None and now_s - self._told_s >= PROGRESS_S:
            self._told_s = now_s
            self.tell(elapsed_s)

    def tell(self, elapsed_s: float) -> None:
        if self._on_progress is not None:
            self._on_progress(DownloadProgress(self.done, len(self.tiles), self.size_bytes, self.failed, elapsed_s))

    def report(self) -> DownloadBatchReport:
        """Read the store again: what is there is what counts, not what was sent."""
        present = missing = placeholder = failed = 0
        holes: List[Dict[str, Any]] = []

        def note(run: TileRun, columns: Tuple[int, ...], reason: str) -> None:
            for x in columns[: max(0, self.limits.max_listed - len(holes))]:
                tile = Tile(run.z, x, run.y)
                holes.append({"z": run.z, "x": x, "y": run.y, "reason": self.reasons.get(tile, reason)})

        for run in self.tiles.runs:
            found = self.store.survey(self.number, run)
            present += found.present
            missing += len(found.missing)
            placeholder += len(found.placeholder)
            failed += len(found.absent)
            note(run, found.missing, "missing")
            note(run, found.placeholder, "placeholder")
            note(run, found.absent, "failed")
        # A stale tile whose provider did not answer is still there: it counts as reused.
        downloaded = min(self.downloaded, present)
        revalidated = min(self.revalidated, present - downloaded)
        return DownloadBatchReport(
            source_id=self.source.id,
            zooms=self.tiles.zooms,
            requested=len(self.tiles),
            downloaded=downloaded,
            reused=present - downloaded - revalidated,
            revalidated=revalidated,
            missing=missing,
            failed=failed,
            placeholder=placeholder,
            bytes=self.size_bytes,
            elapsed_s=round(time.monotonic() - self.started_s, 3),
            failed_tiles=tuple(holes),
        )


def download_tiles(
    *,
    tiles: TileSet,
    source: TileSource,
    store: TileStore,
    on_progress: Optional[Callable[[DownloadProgress], None]] = None,
    cancelled: Optional[Callable[[], bool]] = None,
    limits: Optional[DownloadLimits] = None,
    ask_again: bool = False,
) -> DownloadBatchReport:
    """Bring every tile of the set into the store, as far as the source has it.

    What the store has is not fetched again. Killed at any moment and run again, it goes on where it was. Tiles that
    could not be had are in the report, not an error: `_tile_coverage` says whether they matter.

    Args:
        tiles: the tiles of the flight.
        source: from `open_source`.
        store: the workstation's store; used in this thread.
        on_progress: called in this thread, at most five times a second and once at the end.
        cancelled: asked several times a second; True ends the download and keeps what has come.
        limits: bounds of time, size and attempts.
        ask_again: ask at once again for tiles that were missing or placeholders the last time.

    Raises:
        DownloadError: the provider is down, keeps refusing or answers nonsense; the disk is full; the deadline is over.
        TileSourceError: the provider refuses the credentials, or the source has no such zooms.
        BuildCancelledError: `cancelled` said so.
    """
    source.check_zooms(tiles.zooms)
    number = store.source_number(source.source_key, attribution=source.spec.attribution)
    if number is None:
        raise DownloadError(f"the tile store {store.root} does not take a new source")
    batch = _Batch(
        tiles=tiles, source=source, store=store, number=number, limits=limits or DownloadLimits(),
        on_progress=on_progress, cancelled=cancelled, ask_again=ask_again,
    )  # fmt: skip
    wanted = batch.wanted()
    first = next(wanted, None)
    if first is not None:
        intake = batch.intake()
        try:
            everything = _chain(first, wanted)
            if isinstance(source, HttpTileSource):
                _fetch_http(batch, source, intake, everything)
            else:
                _read_local(batch, source, intake, everything)
        finally:
            last = intake.close()
        for outcome in last:
            _settle(batch, outcome)
    report = batch.report()
    batch.tell(report.elapsed_s)
    return report


def count_wanted(
    *, tiles: TileSet, source: TileSource, store: TileStore, limits: Optional[DownloadLimits] = None
) -> int:
    """How many tiles `download_tiles` would ask the source for; asks nobody and changes nothing.

    Raises:
        TileSourceError: the source has no such zooms.
    """
    source.check_zooms(tiles.zooms)
    number = store.source_number(source.source_key)
    if number is None:
        return len(tiles)
    batch = _Batch(tiles=tiles, source=source, store=store, number=number, limits=limits or DownloadLimits())
    return sum(1 for _tile in batch.wanted())


def _chain(first: WantedTile, others: Iterator[WantedTile]) -> Iterator[WantedTile]:
    yield first
    yield from others


def _settle(batch: _Batch, outcome: TileOutcome) -> bool:
    """Count an outcome; False where its body was refused."""
    if outcome.stored:
        batch.stored_tile(outcome)
    else:
        batch.failed_tile(outcome.tile, outcome.reason or "refused")
    return outcome.stored


def _read_local(batch: _Batch, source: LocalTileSource, intake: TileIntake, wanted: Iterator[WantedTile]) -> None:
    with source.open() as local:
        for tile, _etag, _modified in wanted:
            found = local.read(tile)
            if found is None:
                intake.submit(FetchedTile(tile, None, state=TileState.MISSING))
            else:
                intake.submit(FetchedTile(tile, found.body, etag=found.stamp))
            while True:
                for outcome in intake.outcomes():
                    _settle(batch, outcome)
                batch.tick()
                if intake.room > 0:
                    break
                time.sleep(0.002)


def _fetch_http(batch: _Batch, source: HttpTileSource, intake: TileIntake, wanted: Iterator[WantedTile]) -> None:
    with HttpEngine(source, batch.limits) as engine:
        requests = source.requests(wanted)
        attempts: Dict[Tile, int] = {}
        exhausted = False
        while not (exhausted and engine.idle and not intake.backlog):
            answers: List[HttpAnswer] = []
            if exhausted and engine.idle:
                intake.flush()
                time.sleep(0.005)
            else:
                answers, ended = engine.step(requests, may_start=intake.room)
                exhausted = exhausted or ended
            for answer in answers:
                _take(batch, source, intake, answer)
            for outcome in intake.outcomes():
                if outcome.stored:
                    engine.useful()
                    batch.stored_tile(outcome)
                    continue
                reason = outcome.reason or "refused"
                engine.useless(reason)
                tried = attempts[outcome.tile] = attempts.get(outcome.tile, 0) + 1
                # A damaged body may have been an accident of the way; a wrong size or kind will be so again.
                again = reason in _WORTH_ANOTHER and tried < 3
                if not (again and engine.put_back(_single(source, outcome.tile), attempts=tried)):
                    batch.failed_tile(outcome.tile, reason)
            batch.tick()
        if batch.failed and not engine.has_answered:
            raise DownloadError(
                f"{source.host} gave none of {batch.failed} tiles ({next(iter(batch.reasons.values()), 'no answer')})"
            )


_WORTH_ANOTHER = frozenset(["empty", "truncated", "damaged", "undecodable", "not_an_image", "not_an_image_but_text"])


def _single(source: HttpTileSource, tile: Tile) -> TileRequest:
    return next(source.requests([WantedTile(tile)]))


def _take(batch: _Batch, source: HttpTileSource, intake: TileIntake, answer: HttpAnswer) -> None:
    spec, headers = source.spec, answer.headers
    if answer.reason is not None:
        for tile in answer.request.tiles:
            batch.failed_tile(tile, answer.reason)
        return
    if answer.status == 304:
        for tile in answer.request.tiles:
            intake.submit(FetchedTile(tile, None, still_valid=True))
        return
    if answer.status in spec.missing_statuses or answer.request.known_status == 404:
        for tile in answer.request.tiles:
            intake.submit(FetchedTile(tile, None, state=TileState.MISSING))
        return
    if any(headers.get(name.lower()) == value for name, value in spec.placeholder_headers.items()):
        for tile in answer.request.tiles:
            intake.submit(FetchedTile(tile, None, state=TileState.PLACEHOLDER))
        return
    parts = answer.request.parts or ((0, len(answer.body)),)
    for tile, (offset, length) in zip(answer.request.tiles, parts):
        intake.submit(
            FetchedTile(
                tile,
                answer.body if length == len(answer.body) else answer.body[offset : offset + length],
                headers.get("content-type"),
                headers.get("etag", "")[:MAX_ETAG_CHARS] or None,
                headers.get("last-modified", "")[:MAX_ETAG_CHARS] or None,
                headers.get(spec.imagery_date_header.lower()) if spec.imagery_date_header else None,
            )
        )
