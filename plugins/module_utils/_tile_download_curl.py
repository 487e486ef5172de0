# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Transfers by libcurl's multi interface: handles that are used again and again, bounded in time and size.

libcurl through pycurl keeps level with curl itself where httpx reaches a tenth (docs/performance.md).
"""

from __future__ import annotations

import io
import time
from typing import Any, Dict, List, NamedTuple, Optional

from ._errors import TileSourceError
from ._tile_download_limits import DownloadLimits
from ._tile_source import HttpTileSource, TileRequest

__all__ = ["CurlTransfers", "EndedTransfer"]


class EndedTransfer(NamedTuple):
    """A transfer's end: `job` as it was given, and `failure` in one word where no whole answer came."""

    job: Any
    failure: Optional[str]
    status: int
    body: bytes
    headers: Dict[str, str]
    redirect_url: str


class _Transfer:
    """One reusable libcurl handle."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.job: Any = None
        self.request: Optional[TileRequest] = None
        self.body: List[bytes] = []
        self.headers: List[bytes] = []


class CurlTransfers:
    """As many transfers at a time as the source allows connections.

    Args:
        source: its spec gives connections, protocol and authority; its headers go with each request.
        limits: bounds of time and size.
    """

    def __init__(self, source: HttpTileSource, limits: DownloadLimits) -> None:
        import pycurl

        self._curl = pycurl
        self._source = source
        self._limits = limits
        self._multi = pycurl.CurlMulti()
        connections = source.spec.connections
        if source.spec.http2:
            self._multi.setopt(pycurl.M_PIPELINING, 2)  # CURLPIPE_MULTIPLEX
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, connections)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._all = [_Transfer(self._handle()) for _index in range(connections)]
        self._free = list(self._all)
        self._by_handle = {id(transfer.handle): transfer for transfer in self._all}
        self.active = 0

    def close(self) -> None:
        """Drop all connections."""
        for transfer in self._all:
            if transfer.request is not None:
                self._multi.remove_handle(transfer.handle)
            transfer.handle.close()
        self._all.clear()
        self._multi.close()

    @property
    def free(self) -> bool:
        """Another transfer may start."""
        return bool(self._free)

    def start(self, request: TileRequest, url: str, job: object) -> None:
        """Send a request to `url`; `job` comes back with its end."""
        transfer = self._free.pop()
        transfer.job, transfer.request = job, request
        transfer.body, transfer.headers = [], []
        handle, curl = transfer.handle, self._curl
        handle.setopt(curl.URL, url)
        handle.setopt(curl.WRITEFUNCTION, transfer.body.append)
        handle.setopt(curl.HEADERFUNCTION, transfer.headers.append)
        if request.headers:
            handle.setopt(curl.HTTPHEADER, [*self._source.headers, *request.headers])
        if request.byte_range:
            handle.setopt(curl.RANGE, request.byte_range)
        if request.body is not None:
            # From a function without a seek: libcurl, which else sends a request again by itself where a kept
            # connection died, cannot do that once a part of the body is on its way.
            handle.setopt(curl.UPLOAD, 1)
            handle.setopt(curl.CUSTOMREQUEST, request.method)
            handle.setopt(curl.INFILESIZE_LARGE, len(request.body))
            handle.setopt(curl.READFUNCTION, io.BytesIO(request.body).read)
        self._multi.add_handle(handle)
        self.active += 1

    def ended(self) -> List[EndedTransfer]:
        """Move bytes, and return what has ended.

        Raises:
            TileSourceError: the server's certificate is not valid.
        """
        found: List[EndedTransfer] = []
        self._multi.perform()
        while True:
            queued, good, bad = self._multi.info_read()
            found += [self._end(handle, None) for handle in good]
            found += [self._end(handle, number) for handle, number, _text in bad]
            if not queued:
                return found

    def wait(self, timeout_s: float) -> None:
        """Wait until there is something to move, at most `timeout_s`."""
        if self._multi.select(timeout_s) == -1 and self.active:
            time.sleep(min(timeout_s, 0.005))

    def _end(self, handle: Any, error: Optional[int]) -> EndedTransfer:
        transfer, curl = self._by_handle[id(handle)], self._curl
        job, request = transfer.job, transfer.request
        self._multi.remove_handle(handle)
        transfer.job = transfer.request = None
        self.active -= 1
        self._free.append(transfer)
        if request is not None and request.headers:
            handle.setopt(curl.HTTPHEADER, list(self._source.headers))
        if request is not None and request.byte_range:
            handle.unsetopt(curl.RANGE)
        if request is not None and request.body is not None:
            handle.setopt(curl.HTTPGET, 1)
            handle.unsetopt(curl.CUSTOMREQUEST)
        if error is not None:
            return EndedTransfer(job, self._reason(error), 0, b"", {}, "")
        status = int(handle.getinfo(curl.RESPONSE_CODE))
        redirect_url = (handle.getinfo(curl.REDIRECT_URL) or "") if 300 <= status < 400 else ""
        return EndedTransfer(job, None, status, b"".join(transfer.body), _headers(transfer.headers), redirect_url)

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
