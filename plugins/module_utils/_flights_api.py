# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Client of the flights API: `GET {base_url}/flights/{id}`; contract in docs/reference/flights-api.openapi.yaml.

The token lives in this process and in the Authorization header, and in no message, log or detail.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import random
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, NamedTuple, Optional
from urllib.parse import quote, urljoin, urlsplit

from ._errors import (
    FlightFileError,
    FlightNotFoundError,
    FlightsApiAuthError,
    FlightsApiSchemaError,
    FlightsApiUnreachableError,
    SettingsError,
)
from ._flight import Flight, FlightResolveSource, RouteKind, RoutePart, TakeoffOrigin, TakeoffRule, Waypoint
from ._flight_file import mission_from_bytes
from ._geo import LonLat
from ._mission import Mission, MissionHome
from ._mission_json import load_json
from ._mission_route import flight_from_mission

if TYPE_CHECKING:
    import httpx

    from ._flights_api_schema import FlightDocument

__all__ = ["MAX_RESPONSE_BYTES", "fetch_flight", "flight_is_unchanged"]

MAX_RESPONSE_BYTES = 16 * 1024 * 1024
MAX_REDIRECTS = 3
MAX_RETRY_AFTER_S = 60.0
_BACKOFF_BASE_S = 0.5
_BACKOFF_CAP_S = 20.0


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def fetch_flight(
    base_url: str,
    flight_id: str,
    *,
    token: Optional[str] = None,
    timeout_s: float = 30.0,
    attempts: int = 5,
    origin: Optional[TakeoffOrigin] = None,
    allow_plain_http: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Flight:
    """The flight of the id.

    Args:
        base_url: root of the API, `https://host/path`; plain http only to this machine or with `allow_plain_http`.
        flight_id: the flight's id; sent as one escaped path segment.
        token: bearer token, or None.
        timeout_s: seconds for one attempt as a whole.
        attempts: how often a 5xx or a broken connection is tried in all; a 4xx never twice.
        origin: the operator's own take-off origin, stronger than the API's.
        allow_plain_http: send the token in the clear to another machine, knowingly.
        sleep: waits between attempts; may raise to cancel.

    Raises:
        FlightNotFoundError, FlightsApiAuthError, FlightsApiUnreachableError, FlightsApiSchemaError,
        FlightRouteError: as their names say. SettingsError: an unusable base URL, id or token.
    """
    url = _url(base_url, flight_id, token=token, allow_plain_http=allow_plain_http)
    answer = _get(url, _headers(token), timeout_s=timeout_s, attempts=attempts, sleep=sleep)
    _check_status(answer, flight_id)
    document = _document(answer, flight_id)
    return _flight(document, answer.headers.get("etag") or document.revision, origin)


def flight_is_unchanged(
    base_url: str,
    flight_id: str,
    revision: str,
    *,
    token: Optional[str] = None,
    timeout_s: float = 30.0,
    attempts: int = 5,
    allow_plain_http: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """True where the flight still has the revision that `fetch_flight` gave; asked again before activation."""
    url = _url(base_url, flight_id, token=token, allow_plain_http=allow_plain_http)
    headers = _headers(token)
    if revision.startswith(('"', 'W/"')):
        headers["If-None-Match"] = revision
    answer = _get(url, headers, timeout_s=timeout_s, attempts=attempts, sleep=sleep)
    if answer.status == 304:
        return True
    _check_status(answer, flight_id)
    return (answer.headers.get("etag") or _document(answer, flight_id).revision) == revision


def _headers(token: Optional[str]) -> Dict[str, str]:
    # No compression: a small answer must not unfold into a large one.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "gps-denied-preflight"}
    if token is not None:
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise SettingsError("the flights API token is empty or holds characters that no token has")
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _url(base_url: str, flight_id: str, *, token: Optional[str], allow_plain_http: bool) -> str:
    try:
        parts = urlsplit(base_url)
        host = parts.hostname
        _port = parts.port
    except ValueError:
        raise SettingsError(f"flights_api_base_url is not a URL: {base_url[:200]!r}") from None
    if parts.username or parts.password:
        raise SettingsError("flights_api_base_url holds credentials: give the token apart")
    if parts.scheme not in ("http", "https") or not host:
        raise SettingsError(f"flights_api_base_url is not an http or https URL: {base_url[:200]!r}")
    if parts.query or parts.fragment:
        raise SettingsError("flights_api_base_url holds a query or fragment: give the root of the API")
    if parts.scheme == "http" and token and not allow_plain_http and not _is_this_machine(host):
        raise SettingsError(
            "flights_api_base_url is plain http: the token would travel in the clear",
            remediation="Use https, or set allow_plain_http knowingly.",
        )
    if not flight_id.strip() or flight_id in (".", "..") or len(flight_id) > 200 or not flight_id.isprintable():
        raise SettingsError(f"the flight id {flight_id[:60]!r} is empty, too long, or not printable")
    return f"{base_url.rstrip('/')}/flights/{quote(flight_id, safe='')}"


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _get(
    url: str,
    headers: Dict[str, str],
    *,
    timeout_s: float,
    attempts: int,
    sleep: Callable[[float], None],
) -> _Answer:
    """The last answer; 5xx and broken connections are tried again after a random wait (full jitter)."""
    import httpx

    host = urlsplit(url).netloc
    failure = "no attempt was made"
    jitter = random.SystemRandom()
    with httpx.Client(timeout=httpx.Timeout(timeout_s), follow_redirects=False) as client:
        for attempt in range(1, max(1, attempts) + 1):
            wait_s = jitter.uniform(0, min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**attempt))
            try:
                answer = _follow(client, url, headers, timeout_s)
            except httpx.TransportError as error:
                failure = f"{type(error).__name__}: {str(error)[:200] or 'no answer'}"
            except httpx.InvalidURL:
                raise SettingsError(f"flights_api_base_url is not a usable URL: {url[:200]!r}") from None
            else:
                if answer.status < 500:
                    return answer
                failure = f"HTTP {answer.status}"
                wait_s = max(wait_s, _retry_after_s(answer.headers))
            if attempt < attempts:
                sleep(wait_s)
    raise FlightsApiUnreachableError(
        f"the flights API at {host} gave no answer in {max(1, attempts)} attempts; the last: {failure}",
        details={"host": host, "attempts": max(1, attempts)},
    )


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks for, up to the cap; the form with a date is taken as no wish."""
    text = headers.get("retry-after", "").strip()
    return min(float(text), MAX_RETRY_AFTER_S) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def _follow(client: httpx.Client, url: str, headers: Dict[str, str], timeout_s: float) -> _Answer:
    """One GET; redirects are followed only within the same scheme, host and port, so that the token stays there."""
    deadline = time.monotonic() + timeout_s
    home = urlsplit(url)[:2]
    for _hop in range(MAX_REDIRECTS + 1):
        answer = _once(client, url, headers, deadline)
        if answer.status not in (301, 302, 303, 307, 308):
            return answer
        target = urljoin(url, answer.headers.get("location", ""))
        if urlsplit(target)[:2] != home:
            raise FlightsApiSchemaError(
                f"the flights API redirects from {home[1]} to another host ({urlsplit(target).hostname}): not followed",
                remediation="Set flights_api_base_url to the API's own address.",
            )
        url = target
    raise FlightsApiSchemaError(f"the flights API redirects more than {MAX_REDIRECTS} times")


def _once(client: httpx.Client, url: str, headers: Dict[str, str], deadline: float) -> _Answer:
    import httpx

    with client.stream("GET", url, headers=headers) as response:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise FlightsApiSchemaError("the flights API answers compressed although it was asked not to")
        pieces: List[bytes] = []
        size = 0
        for piece in response.iter_raw():
            size += len(piece)
            if size > MAX_RESPONSE_BYTES:
                raise FlightsApiSchemaError(f"the flights API's answer is larger than {MAX_RESPONSE_BYTES:,} bytes")
            if time.monotonic() > deadline:
                # A server that drips bytes never trips the timeout of a single read.
                raise httpx.ReadTimeout("the answer did not end in time")
            pieces.append(piece)
        return _Answer(response.status_code, dict(response.headers), b"".join(pieces))


def _check_status(answer: _Answer, flight_id: str) -> None:
    details = {"status": answer.status}
    if answer.status == 200:
        return
    if answer.status in (404, 410):
        raise FlightNotFoundError(f"the flights API knows no flight {flight_id!r}", details=details)
    if answer.status in (401, 403):
        raise FlightsApiAuthError(f"the flights API refused the credentials (HTTP {answer.status})", details=details)
    if answer.status == 429:
        raise FlightsApiUnreachableError("the flights API asks for fewer requests (HTTP 429)", details=details)
    raise FlightsApiSchemaError(f"the flights API answered HTTP {answer.status}, not a flight", details=details)


def _document(answer: _Answer, flight_id: str) -> FlightDocument:
    from ._flights_api_schema import parse_flight_document

    try:
        body: Any = load_json(answer.body.decode("utf-8"))
    except UnicodeDecodeError:
        raise FlightsApiSchemaError("the flights API's answer is not UTF-8") from None
    except FlightFileError as error:
        raise FlightsApiSchemaError(f"the flights API's answer: {error.message}") from None
    document = parse_flight_document(body)
    if document.id != flight_id:
        raise FlightsApiSchemaError(
            f"the flights API answered with flight {document.id[:60]!r} when {flight_id!r} was asked for"
        )
    return document


def _flight(document: FlightDocument, revision: Optional[str], option: Optional[TakeoffOrigin]) -> Flight:
    try:
        mission = _mission(document)
        if document.takeoff_origin is not None:
            at = document.takeoff_origin
            mission.home = MissionHome(
                LonLat(lon=at.lon_deg, lat=at.lat_deg), at.alt_m, TakeoffRule.PLANNED_HOME, "takeoff_origin"
            )
        return flight_from_mission(
            mission,
            flight_id=document.id,
            source=FlightResolveSource.FLIGHTS_API,
            revision=revision,
            origin=option,
            name=document.name,
        )
    except FlightFileError as error:
        raise FlightsApiSchemaError(
            f"the mission of flight {document.id!r} from the flights API: {error.message}", details=error.details
        ) from None


def _mission(document: FlightDocument) -> Mission:
    if document.mission is not None:
        content = document.mission.content
        if document.mission.encoding == "base64":
            try:
                return mission_from_bytes(base64.b64decode(content, validate=True))
            except (binascii.Error, ValueError):
                raise FlightFileError("content is not base64") from None
        return mission_from_bytes(content.encode("utf-8"))
    vertices = tuple(
        Waypoint(LonLat(lon=at.lon_deg, lat=at.lat_deg), at.alt_m, source=f"waypoints[{index}]")
        for index, at in enumerate(document.waypoints or ())
    )
    mission = Mission(format="flights-api-waypoints")
    if vertices:
        kind = RouteKind.LINE if len(vertices) > 1 else RouteKind.POINT
        mission.elements.append(RoutePart(kind, vertices))
    return mission
