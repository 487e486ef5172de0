# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP engine: what to send next, and what an answer means; one thread, bounded in attempts and politeness."""

from __future__ import annotations

import heapq
import random
import time
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from ._errors import DownloadError, TileSourceError
from ._tile_download_breaker import Breaker
from ._tile_download_curl import CurlTransfers, EndedTransfer
from ._tile_download_limits import DownloadLimits
from ._tile_pacing import Pacer, retry_after_s
from ._tile_source import HttpTileSource, TileRequest

__all__ = ["HttpAnswer", "HttpEngine"]

SELECT_S = 0.05
MAX_REDIRECTS = 3


class HttpAnswer(NamedTuple):
    """The end of a request: `status` 0 and `reason` where no usable answer came within the attempts."""

    request: TileRequest
    status: int
    body: bytes
    headers: Dict[str, str]
    reason: Optional[str] = None


@dataclass
class _Job:
    request: TileRequest
    attempts: int = 0
    refusals: int = 0
    redirects: int = 0
    url: Optional[str] = None


class HttpEngine:
    """Runs requests against one source and yields their answers in the order of completion.

    Args:
        source: the source; its spec gives connections and rate.
        limits: bounds of time, size and attempts.
        clock: monotonic time in seconds.
    """

    def __init__(
        self, source: HttpTileSource, limits: DownloadLimits, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._limits = limits
        self._clock = clock
        self._transfers = CurlTransfers(source, limits)
        self._breaker = Breaker(source.host, source.id, limits)
        self.pacer = Pacer(source.spec.requests_per_s, now_s=clock())
        self._delayed: List[Tuple[float, int, _Job]] = []
        self._serial = 0
        self._retries_left = limits.max_retries
        self._paced_until_s = 0.0
        self._progress_s = clock()
        self.requests_sent = 0

    def close(self) -> None:
        """Drop all connections."""
        self._transfers.close()

    def __enter__(self) -> "HttpEngine":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def idle(self) -> bool:
        """Nothing is on its way or waits for another attempt."""
        return not self._transfers.active and not self._delayed

    @property
    def has_answered(self) -> bool:
        """The provider has given at least one proper answer."""
        return self._breaker.has_answered

    def put_back(self, request: TileRequest, attempts: int) -> bool:
        """Ask again for a request whose body was no good; False where its attempts are used up."""
        job = _Job(request, attempts=attempts)
        return self._retry(job, self._clock())

    def step(self, pending: Iterator[TileRequest], *, may_start: int) -> Tuple[List[HttpAnswer], bool]:
        """Start what may be started, wait a moment, and return what has ended and whether `pending` is exhausted.

        Raises:
            DownloadError: the provider is down, keeps refusing, or answers nothing useful.
            TileSourceError: the provider refuses the credentials, or sends us elsewhere.
        """
        answers: List[HttpAnswer] = []
        exhausted = self._start(pending, may_start, answers)
        timeout_s = 0.0 if answers else self._wait_s()
        if self._transfers.active:
            for ended in self._transfers.ended():
                self._ended(ended, answers)
            if not answers:
                self._transfers.wait(timeout_s)
        elif not answers:
            time.sleep(min(timeout_s, SELECT_S))
        now_s = self._clock()
        if answers:
            self._progress_s = now_s
        elif now_s - self._progress_s > self._limits.stall_s and not self.idle:
            why = self._breaker.last_reason or "no answer"
            raise DownloadError(f"{self._source.host} has given nothing for {self._limits.stall_s:.0f} s ({why})")
        return answers, exhausted

    def _wait_s(self) -> float:
        now_s = self._clock()
        if not self._transfers.free:
            return SELECT_S
        if self._breaker.open_until_s:
            return max(0.001, min(SELECT_S, self._breaker.open_until_s - now_s))
        due_s = max(self._paced_until_s, self._delayed[0][0] if self._delayed else now_s + SELECT_S)
        if self._paced_until_s > now_s:
            due_s = self._paced_until_s
        return max(0.001, min(SELECT_S, due_s - now_s))

    def _start(self, pending: Iterator[TileRequest], may_start: int, answers: List[HttpAnswer]) -> bool:
        exhausted = False
        now_s = self._clock()
        if self._breaker.open_until_s:
            # After the pause one request probes whether the provider is back.
            if now_s < self._breaker.open_until_s or self._transfers.active:
                return False
            may_start = min(may_start, 1)
        while self._transfers.free and may_start > 0:
            due = self._delayed and self._delayed[0][0] <= now_s
            job: Optional[_Job] = None
            if not due:
                request = next(pending, None)
                if request is None:
                    exhausted = True
                    break
                if request.known_status is not None:
                    answers.append(HttpAnswer(request, request.known_status, b"", {}))
                    may_start -= 1
                    continue
                job = _Job(request)
            wait_s = self.pacer.wait_s(now_s)
            if wait_s > 0:
                self._paced_until_s = now_s + wait_s
                if job is not None:
                    self._delay(job, now_s)
                break
            if job is None:
                job = heapq.heappop(self._delayed)[2]
            self._breaker.launched()
            self._transfers.start(job.request, job.url or job.request.url, job)
            self.requests_sent += 1
            may_start -= 1
        return exhausted

    def _ended(self, ended: EndedTransfer, answers: List[HttpAnswer]) -> None:
        job: _Job = ended.job
        if ended.failure == "too_large":
            answers.append(HttpAnswer(job.request, 0, b"", {}, ended.failure))
        elif ended.failure is not None:
            self._failed(job, ended.failure, self._clock(), answers)
        elif ended.status in {200, 206} or (ended.status == 201 and job.request.body is not None):
            if job.request.byte_range and ended.status != 206:
                raise TileSourceError(f"{self._source.host} knows no byte ranges: it sent everything")
            self._healthy()
            answers.append(HttpAnswer(job.request, ended.status, ended.body, ended.headers))
        elif ended.status in {301, 302, 303, 307, 308}:
            self._redirected(job, ended.redirect_url, self._clock(), answers)
        else:
            self._answered(job, ended.status, ended.headers, answers)

    def _answered(self, job: _Job, status: int, headers: Dict[str, str], answers: List[HttpAnswer]) -> None:
        host, now_s = self._source.host, self._clock()
        if status in (304, *self._source.spec.missing_statuses):
            self._healthy()
            answers.append(HttpAnswer(job.request, status, b"", headers))
        elif status in (429, 503) and (status == 429 or "retry-after" in headers):
            self._refused(job, status, headers, answers)
        elif status in {401, 407}:
            raise TileSourceError(
                f"{host} refused the credentials of tile source {self._source.id} (HTTP {status})",
                remediation="Renew the provider's API key.",
            )
        elif status == 403:
            self._breaker.forbidden()
            answers.append(HttpAnswer(job.request, status, b"", headers, "http_403"))
        elif status == 412:
            raise TileSourceError(
                f"the archive at {host} changed while tiles were read from it", remediation="Run again."
            )
        elif status >= 500 or status in (408, 425):
            self._failed(job, f"http_{status}", now_s, answers)
        elif job.request.body is not None:
            self._healthy()  # it looked at what was sent and said no
            answers.append(HttpAnswer(job.request, status, b"", headers, f"http_{status}"))
        else:
            self._breaker.failed(f"http_{status}", now_s)
            answers.append(HttpAnswer(job.request, status, b"", headers, f"http_{status}"))

    def _redirected(self, job: _Job, target: str, now_s: float, answers: List[HttpAnswer]) -> None:
        try:
            here, there = urlsplit(job.request.url), urlsplit(target)
        except ValueError:
            raise TileSourceError(f"{self._source.host} sends us to an address that is no URL") from None
        if (here.scheme, here.netloc) != (there.scheme, there.netloc) or job.request.body is not None:
            raise TileSourceError(
                f"{self._source.host} sends us to another server ({there.hostname or 'unnamed'}); this is not followed",
                remediation="A captive portal answers so too: log in to the network, or correct the source's url.",
            )
        job.redirects += 1
        if job.redirects > MAX_REDIRECTS:
            answers.append(HttpAnswer(job.request, 0, b"", {}, "redirect_loop"))
            return
        job.url = target
        self._delay(job, now_s)

    def _refused(self, job: _Job, status: int, headers: Dict[str, str], answers: List[HttpAnswer]) -> None:
        now_s, cap_s = self._clock(), self._limits.retry_after_cap_s
        self.pacer.refuse(now_s)
        self._breaker.last_reason = f"HTTP {status}"
        job.refusals += 1
        # 429 comes before the request is looked at; what a 503 has done nobody knows.
        is_open = status != 429 and not job.request.repeatable
        if is_open or job.refusals > self._limits.max_refusals:
            answers.append(HttpAnswer(job.request, status, b"", headers, f"http_{status}"))
            return
        asked_s = retry_after_s(headers.get("retry-after"), cap_s=cap_s, now_epoch_s=time.time())
        backoff_s = asked_s if asked_s is not None else random.uniform(0.1, 0.5 * 2 ** min(job.refusals, 6))  # noqa: S311
        self._delay(job, now_s + backoff_s)

    def _failed(self, job: _Job, reason: str, now_s: float, answers: List[HttpAnswer]) -> None:
        self._breaker.failed(reason, now_s)
        job.attempts += 1
        self._progress_s = now_s  # attempts are counted and bounded; only refusals and silence can stall
        if not self._retry(job, now_s):
            answers.append(HttpAnswer(job.request, 0, b"", {}, reason))

    def _retry(self, job: _Job, now_s: float) -> bool:
        if not job.request.repeatable or job.attempts >= self._limits.max_attempts or self._retries_left <= 0:
            return False
        self._retries_left -= 1
        # Full jitter (Brooker, "Exponential Backoff And Jitter", 2015).
        self._delay(job, now_s + random.uniform(0.0, self._limits.backoff_s * 2**job.attempts))  # noqa: S311
        return True

    def _delay(self, job: _Job, due_s: float) -> None:
        self._serial += 1
        heapq.heappush(self._delayed, (due_s, self._serial, job))

    def _healthy(self) -> None:
        self.pacer.accept()
        self._breaker.healthy()

    def useless(self, reason: str) -> None:
        """An answer that looked well was none (a login page, say); a row of these ends the download."""
        self._breaker.useless(reason)

    def useful(self) -> None:
        """An answer was good."""
        self._breaker.useful()
