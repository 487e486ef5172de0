# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One document of a tile provider (WMTS capabilities, the directories of a remote archive), fetched and waited for."""

from __future__ import annotations

import random
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from ._errors import DownloadError, TileSourceError

__all__ = ["Document", "fetch_document"]

ATTEMPTS = 3
CONNECT_TIMEOUT_S = 5.0
TIMEOUT_S = 60.0
MIN_RATE_BYTES_S = 1024
MIN_RATE_WINDOW_S = 10


class Document(NamedTuple):
    """A document with its headers, names in lower case."""

    status: int
    body: bytes
    headers: Dict[str, str]


def fetch_document(
    url: str,
    *,
    host: str,
    headers: Sequence[str],
    max_bytes: int,
    byte_range: Optional[str] = None,
    ca_file: Optional[str] = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Document:
    """GET with at most three attempts; `url` and `headers` may hold a key and appear in no error.

    Args:
        url: what to get.
        host: how errors name the provider.
        headers: header lines.
        max_bytes: a larger body is refused while it is read.
        byte_range: as `0-16383`; then the answer must be that range.
        ca_file: certificates of a private authority.
        sleep: waits between attempts.

    Raises:
        DownloadError: the provider does not answer.
        TileSourceError: it answers that this does not exist or is not for us, or knows no ranges.
    """
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(random.uniform(0.0, 0.5 * 2**attempt))  # noqa: S311 - jitter, no secret
        document, reason = _attempt(url, headers, max_bytes, byte_range, ca_file)
        if document is None:
            continue
        if document.status in {200, 206}:
            if byte_range and document.status != 206:
                raise TileSourceError(f"{host} knows no byte ranges, so this archive cannot be read from there")
            return document
        reason = f"HTTP {document.status}"
        if document.status < 500 and document.status not in {408, 425, 429}:
            raise TileSourceError(f"{host} refuses the tile source's description ({reason})")
    raise DownloadError(f"{host} does not answer: {ATTEMPTS} requests failed ({reason})")


def _attempt(
    url: str, headers: Sequence[str], max_bytes: int, byte_range: Optional[str], ca_file: Optional[str]
) -> "tuple[Optional[Document], str]":
    import pycurl

    body: List[bytes] = []
    lines: List[bytes] = []
    handle: Any = pycurl.Curl()
    try:
        for option, value in (
            (pycurl.URL, url),
            (pycurl.NOSIGNAL, 1),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.CONNECTTIMEOUT_MS, int(CONNECT_TIMEOUT_S * 1000)),
            (pycurl.TIMEOUT_MS, int(TIMEOUT_S * 1000)),
            (pycurl.LOW_SPEED_LIMIT, MIN_RATE_BYTES_S),
            (pycurl.LOW_SPEED_TIME, MIN_RATE_WINDOW_S),
            (pycurl.MAXFILESIZE_LARGE, max_bytes),
            (pycurl.HTTPHEADER, list(headers)),
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.WRITEFUNCTION, body.append),
            (pycurl.HEADERFUNCTION, lines.append),
        ):
            handle.setopt(option, value)
        if byte_range:
            handle.setopt(pycurl.RANGE, byte_range)
        if ca_file:
            handle.setopt(pycurl.CAINFO, ca_file)
        handle.perform()
        status = int(handle.getinfo(pycurl.RESPONSE_CODE))
    except pycurl.error as exc:
        return None, f"curl error {exc.args[0]}"
    finally:
        handle.close()
    found: Dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            found[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    return Document(status, b"".join(body), found), ""
