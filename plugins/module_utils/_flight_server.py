# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A folder of flight files served by the contract of the flights API.

It is the embedded default, and a rehearsal of a real service. Standard library only. It reads, never
writes, and serves nothing but files that lie in the folder itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import os
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import unquote, urlsplit

from ._errors import SettingsError

__all__ = ["FlightServer"]

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_FLIGHTS = 10_000
_SOCKET_TIMEOUT_S = 15.0


class _Reply(NamedTuple):
    status: int
    body: Dict[str, Any]
    etag: Optional[str] = None


class FlightServer:
    """Serves `GET /flights` and `GET /flights/{id}`; a flight's id is its file's name without the last extension.

    Args:
        folder: the folder of mission files.
        host: address to listen on; anything but this machine itself needs a token.
        port: 0 for any free one.
        token: bearer token that requests must carry, or None.
        on_request: called with one line for each request; it never holds the token.

    Use as a context manager to serve from a thread, or call `serve_forever`. Raises SettingsError for a folder
    that cannot be read, an address that cannot be bound, or an open address without a token.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: Optional[str] = None,
        on_request: Optional[Callable[[str], None]] = None,
    ) -> None:
        if not os.path.isdir(folder):
            raise SettingsError(f"there is no folder of flights at {folder}")
        if not token and not _is_loopback(host):
            raise SettingsError(
                f"serving flights on {host} without a token would show them to anyone",
                remediation="Give a token, or serve on 127.0.0.1.",
            )
        self._folder = Path(folder)
        self._token = token
        self._on_request = on_request
        self._thread: Optional[threading.Thread] = None
        try:
            self._http = _Http((host, port), _handler_for(self))
        except (OSError, OverflowError) as error:
            raise SettingsError(f"cannot listen on {host} port {port}: {error}") from None

    @property
    def base_url(self) -> str:
        """The root that clients use as `flights_api_base_url`."""
        host, port = self._http.server_address[:2]
        name = host.decode() if isinstance(host, (bytes, bytearray)) else str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}"

    def serve_forever(self) -> None:
        """Serves until `close` is called from another thread, or an interrupt."""
        self._http.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Ends serving and frees the port."""
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> FlightServer:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
        if self._thread is not None:
            self._thread.join()

    def answer(self, target: str, headers: Dict[str, str]) -> _Reply:
        """The reply to a GET of the target; header names in lower case."""
        if self._token is not None and not self._is_authorised(headers.get("authorization", "")):
            return _Reply(401, {"error": "a valid bearer token is needed"})
        steps = [unquote(step) for step in urlsplit(target).path.split("/") if step]
        if steps == ["flights"]:
            return _Reply(200, {"flights": [{"id": name} for name in sorted(self._by_id())]})
        if len(steps) == 2 and steps[0] == "flights":
            return self._flight(steps[1])
        return _Reply(404, {"error": "there are /flights and /flights/{id} only"})

    def log(self, line: str) -> None:
        if self._on_request is not None:
            self._on_request(line)

    def _is_authorised(self, header: str) -> bool:
        return hmac.compare_digest(header.encode("utf-8", "replace"), f"Bearer {self._token}".encode())

    def _by_id(self) -> Dict[str, List[str]]:
        """File names by flight id. Hidden files, folders and links that leave the folder are no flights."""
        found: Dict[str, List[str]] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                    continue
                found.setdefault(os.path.splitext(entry.name)[0], []).append(entry.name)
                if len(found) >= MAX_FLIGHTS:
                    break
        return found

    def _flight(self, flight_id: str) -> _Reply:
        # The id is looked up among the folder's names and never becomes a path by itself.
        names = self._by_id().get(flight_id, [])
        if not names:
            return _Reply(404, {"error": "there is no such flight"})
        if len(names) > 1:
            return _Reply(409, {"error": f"several files have this id: {', '.join(sorted(names))}"})
        data = _read(self._folder / names[0])
        if data is None:
            return _Reply(500, {"error": f"{names[0]} cannot be read or is too large"})
        try:
            content, encoding = data.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            content, encoding = base64.b64encode(data).decode("ascii"), "base64"
        revision = hashlib.sha256(data).hexdigest()
        mission = {
            "format": os.path.splitext(names[0])[1].lstrip(".") or None,
            "encoding": encoding,
            "content": content,
        }
        body = {"id": flight_id, "name": names[0], "revision": revision, "mission": mission}
        return _Reply(200, body, f'"{revision}"')


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> Optional[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            return None
        return stream.read(MAX_FILE_BYTES)


def _handler_for(server: FlightServer) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "gps-denied-flights"
        sys_version = ""
        timeout = _SOCKET_TIMEOUT_S

        def do_GET(self) -> None:
            self._reply(with_body=True)

        def do_HEAD(self) -> None:
            self._reply(with_body=False)

        def _reply(self, *, with_body: bool) -> None:
            reply = server.answer(self.path, {name.lower(): value for name, value in self.headers.items()})
            status, body = reply.status, json.dumps(reply.body).encode("utf-8")
            if reply.etag is not None and self.headers.get("If-None-Match") == reply.etag:
                status, body = 304, b""
            self.send_response(status)
            for name, value in self._extra_headers(status, reply.etag):
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body and body:
                self.wfile.write(body)

        def _extra_headers(self, status: int, etag: Optional[str]) -> List[Tuple[str, str]]:
            found = [("Content-Type", "application/json"), ("Cache-Control", "no-cache")]
            if etag is not None:
                found.append(("ETag", etag))
            if status == 401:
                found.append(("WWW-Authenticate", 'Bearer realm="flights"'))
            return found

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            # The request line is shown escaped: a client chooses what it says.
            server.log(f"{self.client_address[0]} {(format % args).encode('ascii', 'backslashreplace').decode()}"[:500])

    return Handler
