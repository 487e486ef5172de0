# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client of the flights API against real servers on loopback: the one that we ship, and one that misbehaves."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml
from ansible_collections.gps_denied.preflight.plugins.module_utils import _flights_api
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    FlightFileError,
    FlightNotFoundError,
    FlightRouteError,
    FlightsApiAuthError,
    FlightsApiSchemaError,
    FlightsApiUnreachableError,
    SettingsError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import FlightResolveSource, TakeoffRule
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_file import read_flight_file
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_server import FlightServer
from ansible_collections.gps_denied.preflight.plugins.module_utils._flights_api import fetch_flight, flight_is_unchanged

ROOT = Path(__file__).parents[2]
MISSIONS = ROOT / "tests" / "data" / "missions"
TOKEN = "s3cret-token-of-the-test"
WPL = "QGC WPL 110\n0\t1\t0\t16\t0\t0\t0\t0\t47.3977\t8.5456\t488\t1\n1\t0\t3\t16\t0\t0\t0\t0\t47.3988\t8.5470\t50\t1\n"
FLIGHT = {"id": "f1", "mission": {"content": WPL}}


class Script(ThreadingHTTPServer):
    """Answers each request with the next step of a script; the last step stays."""

    daemon_threads = True

    def __init__(self, steps):
        self.steps = list(steps)
        self.seen = []
        super().__init__(("127.0.0.1", 0), ScriptHandler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class ScriptHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        step = self.server.steps.pop(0) if len(self.server.steps) > 1 else self.server.steps[0]
        if callable(step):
            step(self)
            return
        status, headers, body = step
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


@contextmanager
def scripted(*steps):
    with Script(steps) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def fetch(server, flight_id="f1", **options):
    waits = []
    flight = fetch_flight(server.url, flight_id, token=TOKEN, timeout_s=5, sleep=waits.append, **options)
    return flight, waits


def ok(body=FLIGHT, **headers):
    return 200, headers, body


def hang_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def cut_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"id": "f1"')
    handler.close_connection = True


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 65536)
    except OSError:
        handler.close_connection = True


def dripping(event):
    def step(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while not event.wait(0.02):
                handler.wfile.write(b" ")
        except OSError:
            pass
        handler.close_connection = True

    return step


def test_a_flight_with_its_etag_and_escaped_id():
    with scripted(ok({**FLIGHT, "id": "a/b ü"}, ETag='"r7"')) as server:
        flight, waits = fetch(server, "a/b ü")
    assert flight.flight_id == "a/b ü"
    assert flight.source is FlightResolveSource.FLIGHTS_API
    assert flight.revision == '"r7"'
    assert len(flight.waypoints) == 1
    assert flight.takeoff_origin.rule is TakeoffRule.PLANNED_HOME
    assert waits == []
    path, headers = server.seen[0]
    assert path == "/flights/a%2Fb%20%C3%BC"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Accept-Encoding"] == "identity"


def test_waypoints_and_their_origin():
    body = {
        "id": "f1",
        "revision": "9",
        "waypoints": [{"lat_deg": 47, "lon_deg": 8.5, "alt_m": 60}, {"lat_deg": 47.01, "lon_deg": 8.5}],
        "takeoff_origin": {"lat_deg": 47.001, "lon_deg": 8.501, "alt_m": 430},
        "something_new": True,
    }
    with scripted(ok(body)) as server:
        flight, _waits = fetch(server)
    assert [(v.position.lat, v.position.lon, v.alt_m) for v in flight.waypoints] == [(47, 8.5, 60), (47.01, 8.5, None)]
    assert (flight.takeoff_origin.lat_deg, flight.takeoff_origin.alt_m) == (47.001, 430)
    assert flight.revision == "9"
    assert [part.why for part in flight.parts] == ["departure", "route"]


def test_trouble_of_the_server_is_tried_again_with_random_waits():
    with scripted((503, {"Retry-After": "7"}, {}), hang_up, cut_off, (500, {}, {}), ok()) as server:
        flight, waits = fetch(server)
    assert flight.flight_id == "f1"
    assert len(server.seen) == 5
    assert len(waits) == 4
    assert 7 <= waits[0] <= 8
    assert all(0 <= wait <= 20 for wait in waits)


def test_retry_after_has_a_cap():
    with scripted((503, {"Retry-After": "86400"}, {}), ok()) as server:
        _flight, waits = fetch(server)
    assert waits == [60]


def test_a_server_that_stays_ill_is_unreachable():
    with scripted((502, {}, {})) as server, pytest.raises(FlightsApiUnreachableError, match=r"3 attempts.*HTTP 502"):
        fetch(server, attempts=3)
    assert len(server.seen) == 3


def test_nobody_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(FlightsApiUnreachableError, match="ConnectError") as caught:
            fetch_flight(url, "f1", timeout_s=2, attempts=2, sleep=lambda _s: None)
    assert TOKEN not in json.dumps(caught.value.to_dict())


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (400, FlightsApiSchemaError, "HTTP 400"),
        (401, FlightsApiAuthError, "refused the credentials"),
        (403, FlightsApiAuthError, "refused the credentials"),
        (404, FlightNotFoundError, "knows no flight 'f1'"),
        (410, FlightNotFoundError, "knows no flight 'f1'"),
        (418, FlightsApiSchemaError, "HTTP 418"),
        (429, FlightsApiUnreachableError, "fewer requests"),
        (204, FlightsApiSchemaError, "HTTP 204"),
    ],
)
def test_what_the_server_refuses_is_never_tried_again(status, error, message):
    with scripted((status, {}, b"")) as server, pytest.raises(error, match=message) as caught:
        fetch(server)
    assert len(server.seen) == 1
    assert TOKEN not in json.dumps(caught.value.to_dict())


WRONG = {
    "not JSON": b"<html>",
    "not UTF-8": b'{"id": "\xff"}',
    "a list": [],
    "another flight": {**FLIGHT, "id": "f2"},
    "no id": {"mission": {"content": WPL}},
    "an id that is a number": {**FLIGHT, "id": 1},
    "no route": {"id": "f1"},
    "two routes": {**FLIGHT, "waypoints": []},
    "a latitude of 91": {"id": "f1", "waypoints": [{"lat_deg": 91, "lon_deg": 0}]},
    "a latitude as text": {"id": "f1", "waypoints": [{"lat_deg": "47", "lon_deg": 0}]},
    "NaN": b'{"id": "f1", "waypoints": [{"lat_deg": NaN, "lon_deg": 0}]}',
    "a repeated key": b'{"id": "f1", "id": "f1", "waypoints": []}',
    "depth": b'{"id": "f1", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a broken mission": {"id": "f1", "mission": {"content": "QGC WPL 110\nrubbish\n"}},
    "broken base64": {"id": "f1", "mission": {"content": "###", "encoding": "base64"}},
    "a broken archive": {"id": "f1", "mission": {"content": "UEsDBAAA", "encoding": "base64"}},
    "an unknown encoding": {"id": "f1", "mission": {"content": "x", "encoding": "rot13"}},
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_nonsense_is_called_nonsense(body):
    with scripted(ok(body)) as server, pytest.raises(FlightsApiSchemaError) as caught:
        fetch(server)
    assert len(server.seen) == 1
    assert "\n" not in caught.value.message
    assert not isinstance(caught.value, FlightFileError)


def test_a_flight_without_waypoints_has_no_route():
    with scripted(ok({"id": "f1", "waypoints": []})) as server, pytest.raises(FlightRouteError):
        fetch(server)


def test_an_endless_answer_is_cut_at_the_limit():
    with scripted(endless) as server, pytest.raises(FlightsApiSchemaError, match="larger than 16,777,216 bytes"):
        fetch(server)


def test_a_dripping_answer_ends_with_the_timeout():
    done = threading.Event()
    with scripted(dripping(done)) as server:
        try:
            with pytest.raises(FlightsApiUnreachableError, match="did not end in time"):
                fetch_flight(server.url, "f1", timeout_s=0.3, attempts=1)
        finally:
            done.set()


def test_a_compressed_answer_is_refused():
    packed = ok(b"\x1f\x8b\x08\x00", **{"Content-Encoding": "gzip"})
    with scripted(packed) as server, pytest.raises(FlightsApiSchemaError, match="compressed"):
        fetch(server)


def test_redirects_within_the_host_are_followed():
    with scripted((302, {"Location": "/v2/flights/f1"}, {}), ok()) as server:
        fetch(server)
    assert [path for path, _headers in server.seen] == ["/flights/f1", "/v2/flights/f1"]


def test_a_redirect_to_another_host_never_sees_the_token():
    with (
        scripted(ok()) as other,
        scripted((302, {"Location": f"{other.url}/flights/f1"}, {})) as server,
        pytest.raises(FlightsApiSchemaError, match="to another host"),
    ):
        fetch(server)
    assert other.seen == []


def test_redirects_in_a_circle_end():
    circle = (307, {"Location": "/flights/f1"}, {})
    with scripted(circle) as server, pytest.raises(FlightsApiSchemaError, match="more than 3 times"):
        fetch(server)
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    ("base_url", "flight_id", "token", "message"),
    [
        ("ftp://host", "f1", None, "not an http or https URL"),
        ("http://user:pw@host", "f1", None, "holds credentials"),
        ("https://host?x=1", "f1", None, "query or fragment"),
        ("http://host:99999", "f1", None, "is not a URL"),
        ("http://flights.example.org", "f1", TOKEN, "in the clear"),
        ("https://host", "..", None, "flight id"),
        ("https://host", " ", None, "flight id"),
        ("https://host", "x" * 201, None, "flight id"),
        ("https://host", "a\nb", None, "flight id"),
        ("https://host", "f1", "two words", "token"),
        ("https://host", "f1", "", "token"),
        ("https://host", "f1", "a\r\nX: y", "token"),
    ],
)
def test_unusable_settings_are_refused_before_any_request(base_url, flight_id, token, message):
    with pytest.raises(SettingsError, match=message) as caught:
        fetch_flight(base_url, flight_id, token=token)
    assert "pw" not in caught.value.message


def test_the_wait_between_attempts_can_cancel():
    class CancelledError(Exception):
        pass

    def cancel(_seconds):
        raise CancelledError

    with scripted((503, {}, {})) as server, pytest.raises(CancelledError):
        fetch_flight(server.url, "f1", sleep=cancel)
    assert len(server.seen) == 1


# --- the server that we ship


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "north.plan").write_bytes((MISSIONS / "simple.plan").read_bytes())
    (tmp_path / "south.waypoints").write_text(WPL)
    (tmp_path / "survey.kmz").write_bytes((MISSIONS / "waypoint.kmz").read_bytes())
    (tmp_path / "twin.plan").write_text("{}")
    (tmp_path / "twin.kml").write_text("<kml/>")
    (tmp_path / ".hidden.plan").write_text("{}")
    (tmp_path / "out.plan").symlink_to("/etc/passwd")
    (tmp_path / "nested").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("flight_id", "name"), [("north", "north.plan"), ("south", "south.waypoints"), ("survey", "survey.kmz")]
)
def test_a_served_folder_gives_the_flights_of_its_files(folder, flight_id, name):
    direct = read_flight_file(folder / name)
    with FlightServer(folder, token=TOKEN) as server:
        served = fetch_flight(server.base_url, flight_id, token=TOKEN)
        assert flight_is_unchanged(server.base_url, flight_id, served.revision, token=TOKEN)
        (folder / name).write_text(WPL.replace("47.3988", "47.3999"))
        assert not flight_is_unchanged(server.base_url, flight_id, served.revision, token=TOKEN)
    assert served.fingerprint == direct.fingerprint
    assert served.revision == f'"{direct.revision}"'


@pytest.mark.parametrize("flight_id", ["absent", ".hidden", "out", "nested", "../north", "/etc/passwd", "north.plan"])
def test_nothing_but_the_folders_own_files_is_served(folder, flight_id):
    lines = []
    with FlightServer(folder, on_request=lines.append) as server, pytest.raises(FlightNotFoundError):
        fetch_flight(server.base_url, flight_id)
    assert len(lines) == 1


def test_an_ambiguous_id_is_not_guessed(folder):
    with FlightServer(folder) as server, pytest.raises(FlightsApiSchemaError, match="HTTP 409"):
        fetch_flight(server.base_url, "twin")


@pytest.mark.parametrize("token", [None, "wrong"])
def test_the_server_wants_its_token(folder, token):
    with FlightServer(folder, token=TOKEN) as server, pytest.raises(FlightsApiAuthError):
        fetch_flight(server.base_url, "north", token=token)


def test_an_open_address_needs_a_token(folder):
    with pytest.raises(SettingsError, match="without a token"):
        FlightServer(folder, host="0.0.0.0")
    with pytest.raises(SettingsError, match="no folder"):
        FlightServer(folder / "absent")


def test_the_openapi_document_says_what_the_client_accepts():
    document = yaml.safe_load((ROOT / "docs" / "reference" / "flights-api.openapi.yaml").read_text())
    examples = document["paths"]["/flights/{id}"]["get"]["responses"]["200"]["content"]["application/json"]["examples"]
    assert examples
    for example in examples.values():
        with scripted(ok(example["value"])) as server:
            flight, _waits = fetch(server, example["value"]["id"])
        assert flight.waypoints
    text = document["info"]["description"]
    assert f"over {_flights_api.MAX_RESPONSE_BYTES >> 20} MiB" in text
    assert f"up to {_flights_api.MAX_RETRY_AFTER_S:.0f} s" in text


def test_the_list_of_flights_and_what_is_no_flight(folder):
    lines = []
    (folder / "big.plan").write_bytes(b" " * (9 << 20))
    with FlightServer(folder, host="localhost", on_request=lines.append) as server, httpx.Client() as client:
        listed = client.get(f"{server.base_url}/flights").json()
        assert [flight["id"] for flight in listed["flights"]] == ["big", "north", "south", "survey", "twin"]
        assert client.get(f"{server.base_url}/elsewhere").status_code == 404
        assert client.get(f"{server.base_url}/flights/big").status_code == 500
        head = client.head(f"{server.base_url}/flights/north")
        assert (head.status_code, head.content) == (200, b"")
        assert (
            client.get(f"{server.base_url}/flights/north", headers={"If-None-Match": head.headers["etag"]}).status_code
            == 304
        )
        assert client.post(f"{server.base_url}/flights/north").status_code == 501
        with pytest.raises(SettingsError, match="cannot listen"):
            FlightServer(folder, port=int(server.base_url.rpartition(":")[2]))
    assert len(lines) >= 6


def test_a_token_that_is_shown_nowhere(folder):
    lines = []
    with FlightServer(folder, token=TOKEN, on_request=lines.append) as server:
        fetch_flight(server.base_url, "north", token=TOKEN)
    assert lines
    assert TOKEN not in "".join(lines)
