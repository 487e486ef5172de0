# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP engine: libcurl's multi interface, one thread, bounded in time, memory, attempts and politeness.

libcurl through pycurl keeps level with curl itself where httpx reaches a tenth (docs/performance.md).
"""

from __future__ import annotations

import heapq
import io
import random
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from ._errors import DownloadError, TileSourceError
from ._tile_download_limits import DownloadLimits
from ._tile_pacing import Pacer, retry_after_s
from ._tile_source import HttpTileSource, TileRequest

__all__ = ["HttpAnswer", "HttpEngine"]

SELECT_S = 0.05
MAX_REDIRECTS = 3
FIRST_FAILURES = 4
"""A provider that has never answered counts as down after so many failures in a row."""


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


class _Transfer:
    """One reusable libcurl handle."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.job: Optional[_Job] = None
        self.body: List[bytes] = []
        self.headers: List[bytes] = []


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
        import pycurl

        self._curl = pycurl
        self._source = source
        self._limits = limits
        self._clock = clock
        self._multi = pycurl.CurlMulti()
        connections = source.spec.connections
        if source.spec.http2:
            self._multi.setopt(pycurl.M_PIPELINING, 2)  # CURLPIPE_MULTIPLEX
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, connections)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._all = [_Transfer(self._handle()) for _index in range(connections)]
        self._free = list(self._all)
        self._by_handle = {id(transfer.handle): transfer for transfer in self._all}
        self.pacer = Pacer(source.spec.requests_per_s, now_s=clock())
        self._delayed: List[Tuple[float, int, _Job]] = []
        self._serial = 0
        self._retries_left = limits.max_retries
        self._in_a_row = 0
        self._succeeded = False
        self._open_until_s = 0.0
        self._probes_failed = 0
        self._probing = False
        self._paced_until_s = 0.0
        self._useless = 0
        self._progress_s = clock()
        self._last_reason = ""
        self.requests_sent = 0
        self._active = 0

    def close(self) -> None:
        """Drop all connections."""
        for transfer in self._all:
            if transfer.job is not None:
                self._multi.remove_handle(transfer.handle)
            transfer.handle.close()
        self._all.clear()
        self._multi.close()

    def __enter__(self) -> "HttpEngine":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def idle(self) -> bool:
        """Nothing is on its way or waits for another attempt."""
        return not self._active and not self._delayed

    @property
    def has_answered(self) -> bool:
        """The provider has given at least one proper answer."""
        return self._succeeded

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
        if self._active:
            self._multi.perform()
            answers += self._collect()
            if not answers and self._multi.select(timeout_s) == -1 and self._active:
                time.sleep(min(timeout_s, 0.005))
        elif not answers:
            time.sleep(min(timeout_s, SELECT_S))
        now_s = self._clock()
        if answers:
            self._progress_s = now_s
        elif now_s - self._progress_s > self._limits.stall_s and not self.idle:
            why = self._last_reason or "no answer"
            raise DownloadError(f"{self._source.host} has given nothing for {self._limits.stall_s:.0f} s ({why})")
        return answers, exhausted

    def _handle(self) -> Any:
        curl, limits, spec = self._curl, self._limits, self._source.spec
        handle = curl.Curl()
        for option, value in (
            (curl.NOSIGNAL, 1),
            (curl.FOLLOWLOCATION, 0),
            (curl.PROTOCOLS, curl.PROTO_HTTP | curl.PROTO_HTTPS),
            (curl.CONNECTTIMEOUT_MS, int(limits.connect_timeout_s * 1000)),
            (curl.TIMEOUT_MS, int(limits.request_timeout_s * 1000)),
            (curl.LOW_SPEED_LIMIT, limits.min_rate_bytes_s),
            (curl.LOW_SPEED_TIME, int(limits.min_rate_window_s)),
            (curl.MAXFILESIZE_LARGE, limits.max_body_bytes),
            (curl.HTTP_CONTENT_DECODING, 0),
            (curl.NETRC, 0),
            (curl.HTTP_VERSION, curl.CURL_HTTP_VERSION_2TLS if spec.http2 else curl.CURL_HTTP_VERSION_1_1),
            # The first requests wait until the first connection tells whether it carries them all as streams.
            (curl.PIPEWAIT, int(spec.http2)),
            (curl.HTTPHEADER, list(self._source.headers)),
            (curl.TCP_NODELAY, 1),
            (curl.BUFFERSIZE, 65536),
        ):
            handle.setopt(option, value)
        if spec.ca_file:
            handle.setopt(curl.CAINFO, spec.ca_file)
        return handle

    def _wait_s(self) -> float:
        now_s = self._clock()
        if not self._free:
            return SELECT_S
        if self._open_until_s:
            return max(0.001, min(SELECT_S, self._open_until_s - now_s))
        due_s = max(self._paced_until_s, self._delayed[0][0] if self._delayed else now_s + SELECT_S)
        if self._paced_until_s > now_s:
            due_s = self._paced_until_s
        return max(0.001, min(SELECT_S, due_s - now_s))

    def _start(self, pending: Iterator[TileRequest], may_start: int, answers: List[HttpAnswer]) -> bool:
        exhausted = False
        now_s = self._clock()
        if self._open_until_s:
            # The breaker is open: after the pause one request probes whether the provider is back.
            if now_s < self._open_until_s or self._active:
                return False
            may_start = min(may_start, 1)
        while self._free and may_start > 0:
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
            self._probing = bool(self._open_until_s)
            self._launch(job)
            may_start -= 1
        return exhausted

    def _launch(self, job: _Job) -> None:
        transfer = self._free.pop()
        transfer.job = job
        transfer.body, transfer.headers = [], []
        handle, curl = transfer.handle, self._curl
        handle.setopt(curl.URL, job.url or job.request.url)
        handle.setopt(curl.WRITEFUNCTION, transfer.body.append)
        handle.setopt(curl.HEADERFUNCTION, transfer.headers.append)
        if job.request.headers:
            handle.setopt(curl.HTTPHEADER, [*self._source.headers, *job.request.headers])
        if job.request.byte_range:
            handle.setopt(curl.RANGE, job.request.byte_range)
        if job.request.body is not None:
            # From a function without a seek: libcurl, which else sends a request again by itself where a kept
            # connection died, cannot do that once a part of the body is on its way.
            handle.setopt(curl.UPLOAD, 1)
            handle.setopt(curl.CUSTOMREQUEST, job.request.method)
            handle.setopt(curl.INFILESIZE_LARGE, len(job.request.body))
            handle.setopt(curl.READFUNCTION, io.BytesIO(job.request.body).read)
        self._multi.add_handle(handle)
        self._active += 1
        self.requests_sent += 1

    def _collect(self) -> List[HttpAnswer]:
        answers: List[HttpAnswer] = []
        while True:
            queued, good, bad = self._multi.info_read()
            for handle in good:
                self._ended(handle, None, answers)
            for handle, number, _text in bad:
                self._ended(handle, number, answers)
            if not queued:
                return answers

    def _ended(self, handle: Any, error: Optional[int], answers: List[HttpAnswer]) -> None:
        transfer = self._by_handle[id(handle)]
        job = transfer.job
        self._multi.remove_handle(handle)
        if job is None:
            return
        if job.request.headers:
            handle.setopt(self._curl.HTTPHEADER, list(self._source.headers))
        if job.request.byte_range:
            handle.unsetopt(self._curl.RANGE)
        if job.request.body is not None:
            handle.setopt(self._curl.HTTPGET, 1)
            handle.unsetopt(self._curl.CUSTOMREQUEST)
        transfer.job = None
        self._active -= 1
        self._free.append(transfer)
        now_s = self._clock()
        if error is not None:
            reason = self._reason(error)
            if reason == "too_large":
                answers.append(HttpAnswer(job.request, 0, b"", {}, reason))
            else:
                self._failed(job, reason, now_s, answers)
            return
        status = int(handle.getinfo(self._curl.RESPONSE_CODE))
        if status in {200, 206} or (status == 201 and job.request.body is not None):
            if job.request.byte_range and status != 206:
                raise TileSourceError(f"{self._source.host} knows no byte ranges: it sent everything")
            self._healthy()
            answers.append(HttpAnswer(job.request, status, b"".join(transfer.body), _headers(transfer.headers)))
            return
        if status in {301, 302, 303, 307, 308}:
            self._redirected(job, handle, now_s, answers)
        else:
            self._answered(job, status, _headers(transfer.headers), answers)

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
            self._in_a_row += 1
            if self._in_a_row >= self._limits.breaker_failures:
                raise TileSourceError(
                    f"{host} refuses tile source {self._source.id} (HTTP 403, {self._in_a_row} times in a row)",
                    remediation="Check the API key, the quota and the terms of the provider.",
                )
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
            self._in_a_row += 1
            self._trip(f"http_{status}", now_s)
            answers.append(HttpAnswer(job.request, status, b"", headers, f"http_{status}"))

    def _redirected(self, job: _Job, handle: Any, now_s: float, answers: List[HttpAnswer]) -> None:
        target = handle.getinfo(self._curl.REDIRECT_URL) or ""
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
        self._last_reason = f"HTTP {status}"
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
        self._in_a_row += 1
        self._trip(reason, now_s)
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
        self._in_a_row = 0
        self._probes_failed = 0
        self._open_until_s = 0.0
        self._succeeded = True

    def useless(self, reason: str) -> None:
        """An answer that looked well was none (a login page, say); a row of these opens the breaker for good."""
        self._useless += 1
        if self._useless >= self._limits.breaker_failures:
            raise DownloadError(
                f"{self._source.host} answers {reason.replace('_', ' ')}, {self._useless} times in a row",
                remediation="A captive portal or an expired plan answers so: open the provider's page in a browser.",
            )

    def useful(self) -> None:
        """An answer was good."""
        self._useless = 0

    def _trip(self, reason: str, now_s: float) -> None:
        self._last_reason = reason
        limits = self._limits
        if self._probing:
            self._probing = False
            self._probes_failed += 1
        elif self._open_until_s or self._in_a_row < (limits.breaker_failures if self._succeeded else FIRST_FAILURES):
            return
        if self._probes_failed >= (limits.breaker_probes if self._succeeded else min(2, limits.breaker_probes)):
            raise DownloadError(
                f"{self._source.host} does not answer: {self._in_a_row} requests in a row failed ({reason})",
                remediation="Check the network and the tile source, then run again: what was downloaded is kept.",
            )
        self._open_until_s = now_s + self._limits.backoff_s * 2**self._probes_failed

    def _reason(self, number: int) -> str:
        curl = self._curl
        names = {
            curl.E_COULDNT_RESOLVE_HOST: "name_not_resolved",
            curl.E_COULDNT_CONNECT: "connection_refused",
            curl.E_OPERATION_TIMEDOUT: "timeout",
            curl.E_PARTIAL_FILE: "cut_short",
            curl.E_RECV_ERROR: "connection_reset",
            curl.E_GOT_NOTHING: "connection_closed",
            curl.E_SEND_FAIL_REWIND: "connection_closed",
            curl.E_FILESIZE_EXCEEDED: "too_large",
            curl.E_SSL_CONNECT_ERROR: "tls_failed",
        }
        if number == curl.E_PEER_FAILED_VERIFICATION:
            raise TileSourceError(
                f"the certificate of {self._source.host} is not valid",
                remediation="Check clock and host; a private authority's certificate goes into the profile's ca_file.",
            )
        return names.get(number, f"curl_{number}")


def _headers(lines: List[bytes]) -> Dict[str, str]:
    found: Dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            found[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    return found
