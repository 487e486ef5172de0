# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Upload recordings: ask the provider what it has, send the rest once, believe receipts alone.

A tile is done when the ledger has it on the disk. What the ledger does not have is asked for by its hash before it is
sent, and again after every failure that leaves open whether it arrived: so whatever dies at whatever moment, here or
there, nothing is sent that the provider has.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, Iterator, List, Set

from ._config import PreflightConfig
from ._errors import DownloadError, TileSourceError, TileUploadError, TileUploadRejectedError
from ._landing_archive import FetchedRecording, read_tile
from ._landing_ledger import TileKey, UploadLedger
from ._landing_spool import RecordedTile
from ._landing_target import MAX_ASKED, UploadTarget
from ._tile_download_http import HttpAnswer, HttpEngine
from ._tile_download_limits import DownloadLimits
from ._tile_source import TileRequest

__all__ = ["UploadResult", "upload_limits", "upload_recordings"]

ROUNDS = 4
"""How often a tile is sent whose end stayed open and which the provider then did not have."""
MAX_LISTED = 100
MAX_ANSWER_BYTES = 1024 * 1024


def upload_limits(config: PreflightConfig) -> DownloadLimits:
    """Bounds of one run's upload."""
    return DownloadLimits(deadline_s=config.landing_upload_timeout_s, max_body_bytes=MAX_ANSWER_BYTES)


@dataclass
class UploadResult:
    """What became of one recording's tiles; `refused` and `failed` name tiles with reasons, at most the first 100.

    `tiles = known + found + sent + rejected + failed + damaged` once the recording was worked through.
    """

    tiles: int
    damaged: int
    known: int = 0
    found: int = 0
    sent: int = 0
    rejected: int = 0
    failed: int = 0
    bytes_sent: int = 0
    listed: Dict[str, str] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """Tiles that the provider has."""
        return self.known + self.found + self.sent

    @property
    def complete(self) -> bool:
        """Whether the provider has every tile of the recording."""
        return self.accepted == self.tiles

    def note(self, path: str, reason: str) -> None:
        if len(self.listed) < MAX_LISTED:
            self.listed[path] = reason


class _Uploader:
    def __init__(
        self,
        target: UploadTarget,
        ledger: UploadLedger,
        limits: DownloadLimits,
        clock: Callable[[], float],
        on_progress: Callable[[int], None],
    ) -> None:
        self._target, self._ledger, self._clock, self._on_progress = target, ledger, clock, on_progress
        self._finished = 0
        self._deadline_s = clock() + limits.deadline_s
        self._limits = limits
        self._engine = HttpEngine(target.source, limits, clock=clock)

    def close(self) -> None:
        self._engine.close()

    def _run(self, requests: Iterator[TileRequest]) -> Iterator[List[HttpAnswer]]:
        """The answers to the requests, as they come."""
        exhausted = False
        while not (exhausted and self._engine.idle):
            if self._clock() > self._deadline_s:
                raise TileUploadError(f"the upload took longer than {self._limits.deadline_s:.0f} s")
            answers, exhausted = self._engine.step(requests, may_start=self._target.source.spec.connections)
            if answers:
                yield answers

    def ask(self, keys: List[TileKey]) -> Set[TileKey]:
        """Those that the provider has, which the ledger then has too."""
        if not keys:
            return set()
        found: Set[TileKey] = set()
        for answers in self._run(iter([self._target.ask(keys)])):
            for answer in answers:
                if answer.status != 200:
                    why = answer.reason or f"HTTP {answer.status}"
                    raise TileUploadError(f"{self._target.source.host} does not say which tiles it has ({why})")
                found = self._target.answered(answer.body, keys)
        self._ledger.accept(found)
        return found

    def send(
        self, recording: FetchedRecording, wanted: Dict[TileKey, RecordedTile], result: UploadResult
    ) -> Dict[TileKey, str]:
        """Send each once; returns those whose end stayed open, with the reason."""
        unsure: Dict[TileKey, str] = {}
        with open(recording.archive_path, "rb") as stream:
            by_url: Dict[str, TileKey] = {}

            def requests() -> Iterator[TileRequest]:
                for key, tile in wanted.items():
                    body = read_tile(recording, stream, tile)
                    request = self._target.put(key, body, media_type=tile.media_type)
                    by_url[request.url] = key
                    yield request

            for answers in self._run(requests()):
                accepted: List[TileKey] = []
                for answer in answers:
                    key = by_url[answer.request.url]
                    tile = wanted[key]
                    if answer.status in {200, 201} and self._target.is_receipt(answer.body, key):
                        self._engine.useful()
                        accepted.append(key)
                        result.sent += 1
                        result.bytes_sent += tile.size_bytes
                    elif answer.status in {200, 201}:
                        self._engine.useless("without a receipt")
                        unsure[key] = "no receipt"
                    elif 400 <= answer.status < 500 and answer.status != 429:
                        result.rejected += 1
                        result.note(tile.path, f"rejected with HTTP {answer.status}")
                    else:
                        unsure[key] = answer.reason or f"HTTP {answer.status}"
                self._ledger.accept(accepted)
                self._on_progress(self._finished + result.accepted)
        return unsure

    def finish(self, result: UploadResult) -> None:
        """A recording was worked through, or as far as it went."""
        self._finished += result.accepted
        self._on_progress(self._finished)

    def batch(self, recording: FetchedRecording, tiles: List[RecordedTile], result: UploadResult) -> None:
        """Bring up to `MAX_ASKED` tiles of a recording to their end."""
        wanted = {TileKey(tile.zoom, tile.column, tile.row, tile.sha256): tile for tile in tiles}
        known = self._ledger.accepted(wanted)
        result.known += len(known) + len(tiles) - len(wanted)
        left = {key: tile for key, tile in wanted.items() if key not in known}
        found = self.ask(list(left))
        result.found += len(found)
        left = {key: tile for key, tile in left.items() if key not in found}
        unsure: Dict[TileKey, str] = {}
        for _round in range(ROUNDS):
            if not left:
                break
            unsure = self.send(recording, left, result)
            arrived = self.ask(list(unsure))
            result.sent += len(arrived)
            result.bytes_sent += sum(left[key].size_bytes for key in arrived)
            left = {key: left[key] for key in unsure if key not in arrived}
        for key, tile in left.items():
            result.failed += 1
            result.note(tile.path, unsure[key])


def _batches(tiles: Iterable[RecordedTile]) -> Iterator[List[RecordedTile]]:
    batch: List[RecordedTile] = []
    for tile in tiles:
        batch.append(tile)
        if len(batch) == MAX_ASKED:
            yield batch
            batch = []
    if batch:
        yield batch


def upload_recordings(
    recordings: Iterable[FetchedRecording],
    *,
    target: UploadTarget,
    ledger: UploadLedger,
    on_result: Callable[[FetchedRecording, UploadResult], None],
    on_progress: Callable[[int], None] = lambda _accepted: None,
    limits: DownloadLimits,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Bring every sound tile of the recordings to the provider.

    Args:
        on_result: called once for each recording that was begun, also where the upload then ends with an error.
        on_progress: called with the number of tiles that the provider has, all recordings together.
        limits: bounds of time, attempts and politeness.

    Raises:
        TileUploadError: the provider is down or does not speak the contract, or the deadline has passed.
        TileUploadRejectedError: the provider refuses the credentials, or sends us elsewhere.
    """
    uploader = _Uploader(target, ledger, limits, clock, on_progress)
    try:
        for recording in recordings:
            result = UploadResult(tiles=len(recording.tiles), damaged=len(recording.damaged))
            for path, reason in recording.damaged.items():
                result.note(path, reason)
            try:
                for tiles in _batches(tile for tile in recording.tiles if tile.path in recording.offsets):
                    uploader.batch(recording, tiles, result)
            finally:
                uploader.finish(result)
                on_result(recording, result)
    except TileSourceError as exc:
        raise TileUploadRejectedError(exc.message, remediation=exc.remediation) from None
    except DownloadError as exc:
        raise TileUploadError(exc.message) from None
    finally:
        uploader.close()
