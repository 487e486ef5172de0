# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tile server can do wrong: each ends in bounded time, with a typed answer, and stores nothing false."""

from __future__ import annotations

import contextlib
import gzip
import io
import sqlite3
import struct
import time
import traceback
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    BuildCancelledError,
    CoverageIncompleteError,
    DownloadError,
    ExitCode,
    TilePlacementError,
    TileProviderTermsError,
    TileSourceError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import DownloadBatchReport
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_check import TileChecker
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_coverage import check_coverage, failed_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_decoder import TileDecoder
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import DownloadLimits, download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download_curl import CurlTransfers
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_proof import check_download, examine_download
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, TileRun, TileSet
from PIL import Image
from tile_server import Reply, Request, Script, TileServer, good, joined_tile, seed_of, tile_image

TILES = TileSet.from_runs([TileRun(12, y, 100, 104) for y in range(50, 54)])
QUICK = DownloadLimits(
    connect_timeout_s=1.0,
    request_timeout_s=0.5,
    min_rate_window_s=1.0,
    backoff_s=0.02,
    max_refusals=30,
    retry_after_cap_s=0.2,
    stall_s=1.0,
    deadline_s=20.0,
)
KEY = "canary-5up3r-s3cr3t"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TileStore]:
    with TileStore(tmp_path / "tiles") as opened:
        yield opened


SAID: list[str] = []
"""What the downloads of the running test have said: reports and errors, as data and as text."""


@pytest.fixture(autouse=True)
def each_fault_stores_nothing_false_and_tells_no_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """The table's last two columns: after every test here, whatever it was about."""
    SAID.clear()
    yield
    if (tmp_path / "tiles").exists():
        assert_nothing_false(tmp_path / "tiles")
    assert_no_key([*SAID, *capfd.readouterr(), caplog.text], tmp_path)


def assert_nothing_false(root: Path) -> None:
    """Every body in a store, read by hand, is the picture that belongs to its place."""
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as index:
        rows = index.execute(
            "SELECT z, x, y, pack, offset, blob.length FROM tile JOIN blob ON blob.id = tile.blob WHERE state = 0"
        ).fetchall()
    for z, x, y, pack, offset, length in rows:
        body = (root / "packs" / f"{pack:06d}.pack").read_bytes()[offset : offset + length]
        seen = {tile_image(seed_of(f"{folder}/{z}/{x}/{y}.jpg")) for folder in ("", "/new")}
        true = {*seen, joined_tile(x, y), joined_tile(x, (1 << z) - 1 - y)}
        assert body in true, f"{z}/{x}/{y} holds {body[:40]!r}"


def assert_no_key(texts: Sequence[str], folder: Path) -> None:
    assert KEY not in "".join(texts)
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def spec(server: TileServer, **more: object) -> dict[str, object]:
    return {"id": "scripted", "kind": "xyz", "url": server.base + "/{z}/{x}/{y}.jpg", "connections": 4, **more}


def fetch(
    server: TileServer, store: TileStore, *, limits: DownloadLimits = QUICK, key_in: str = "header", **more: object
) -> DownloadBatchReport:
    """Download with a key, which the server gets and nobody else."""
    keyed: dict[str, object] = {"header": {"api_key_header": "X-Key"}, "query": {"api_key_query": "key"}}.get(
        key_in, {}
    )
    if key_in == "path":
        keyed = {"url": server.base + "/{api_key}/{z}/{x}/{y}.jpg"}
    source = open_source({**spec(server, **keyed), **more}, api_key=KEY)
    try:
        report = download_tiles(tiles=TILES, source=source, store=store, limits=limits)
    except Exception as exc:
        SAID.extend([repr(exc), str(getattr(exc, "to_dict", dict)()), "".join(traceback.format_exception(exc))])
        raise
    SAID.extend([repr(report), repr(source)])
    return report


def once(first: Reply) -> Script:
    """Two columns of five are answered wrongly once and well from then on."""
    return lambda request, attempt: (
        first if attempt == 1 and request.path.startswith(("/12/100/", "/12/102/")) else good(request, attempt)
    )


def first_tile(reply: Reply) -> Script:
    """One tile is always answered so, the others well."""
    return lambda request, attempt: reply if request.path.startswith("/12/100/50.jpg") else good(request, attempt)


def holes(report: DownloadBatchReport) -> list[tuple[int, str]]:
    return [(hole["x"], hole["reason"]) for hole in report.failed_tiles]


GOOD = tile_image(1)
PASSING = {
    "reset before a byte": Reply(body=GOOD, cut_at=0),
    "reset in the headers of the picture": Reply(body=GOOD, cut_at=3),
    "reset in the middle": Reply(body=GOOD, cut_at=len(GOOD) // 2),
    "reset before the last byte": Reply(body=GOOD, cut_at=len(GOOD) - 1),
    "short and a length that agrees": Reply(body=GOOD[: len(GOOD) // 2]),
    "short and no length": Reply(body=GOOD[: len(GOOD) // 2], content_length=None),
    "longer length than body": Reply(body=GOOD, content_length=len(GOOD) + 10, cut_at=len(GOOD)),
    "nothing at all": Reply(body=b""),
    "server error": Reply(status=500),
    "gateway error": Reply(status=502),
    "hang after the headers": Reply(body=GOOD, hang="after_headers"),
    "hang in the headers": Reply(hang="in_headers"),
    "endless headers": Reply(hang="endless_headers"),
    "html once": Reply(body=b"<html>hello</html>", headers={"Content-Type": "text/html"}),
    "too many requests": Reply(status=429),
    "retry-after far away": Reply(status=503, headers={"Retry-After": "1000000000"}),
    "retry-after long ago": Reply(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "retry-after nonsense": Reply(status=429, headers={"Retry-After": "soon"}),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_costs_a_retry_and_nothing_else(name: str, store: TileStore) -> None:
    with TileServer(once(PASSING[name])) as server:
        source = open_source(spec(server))
        report = fetch(server, store)
        assert (report.downloaded, report.failed, report.missing, report.placeholder) == (20, 0, 0, 0)
        number = store.source_number(source.source_key)
        assert number is not None
        for tile in TILES:
            assert store.body(number, tile) == tile_image(seed_of(f"/{tile.z}/{tile.x}/{tile.y}.jpg"))


def test_a_tile_cut_at_every_sixtyfourth_is_fetched_again_and_stored_whole(store: TileStore) -> None:
    tiles = TileSet.from_runs([TileRun(12, y, 100, 107) for y in range(50, 58)])
    order = {f"/{tile.z}/{tile.x}/{tile.y}.jpg": index for index, tile in enumerate(tiles)}

    def script(request: Request, attempt: int) -> Reply:
        whole = good(request, attempt).body
        cut_at = len(whole) * order[request.path] // 64 if attempt == 1 else None
        return Reply(body=whole, cut_at=cut_at)

    patient = replace(QUICK, breaker_failures=1000)
    with TileServer(script) as server:
        report = download_tiles(tiles=tiles, source=open_source(spec(server)), store=store, limits=patient)
        assert (report.downloaded, report.failed) == (64, 0)
        assert len(server.requests) == 128


def png_bomb(edge_px: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", edge_px, edge_px, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def animated_png() -> bytes:
    out = io.BytesIO()
    frames = [Image.open(io.BytesIO(tile_image(seed))) for seed in (1, 2)]
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:])
    return out.getvalue()


def one_colour() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (256, 256), (12, 34, 56)).save(out, "PNG")
    return out.getvalue()


LASTING = {
    "endless body": (Reply(endless=True, content_length=None), "too_large"),
    "length of 10 GiB": (Reply(content_length=10 << 30, cut_at=0), "too_large"),
    "image bomb": (Reply(body=png_bomb(60000)), "size_60000x60000"),
    "damaged chunk": (Reply(body=png_bomb(256)), "undecodable"),
    "gzip bomb": (Reply(body=gzip.compress(b"\0" * (1 << 24)), headers={"Content-Encoding": "gzip"}), "not_an_image"),
    "animated": (Reply(body=animated_png()), "animated"),
    "tile of another size": (Reply(body=tile_image(5, 512)), "size_512x512"),
    "one colour": (Reply(body=one_colour()), "placeholder"),
    "truncated for good": (Reply(body=GOOD[: len(GOOD) // 2]), "truncated"),
    "json error": (
        Reply(body=b'{"error": "quota"}', headers={"Content-Type": "application/json"}),
        "not_an_image_but_text",
    ),
    "slow drip": (Reply(body=GOOD, drip_s=0.05), "timeout"),
    "hang before headers": (Reply(hang="before"), "timeout"),
    "forbidden": (Reply(status=403), "http_403"),
    "teapot": (Reply(status=418), "http_418"),
    "missing": (Reply(status=404), "missing"),
    "no content": (Reply(status=204), "missing"),
    "gone": (Reply(status=410), "missing"),
    "redirect loop": (Reply(status=302, headers={"Location": "/12/100/50.jpg"}), "redirect_loop"),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_of_one_tile_is_a_hole_in_the_report(name: str, store: TileStore) -> None:
    reply, reason = LASTING[name]
    started_s = time.monotonic()
    with TileServer(first_tile(reply)) as server:
        report = fetch(server, store)
        assert holes(report) == [(100, reason)]
        assert report.present == 19
        assert time.monotonic() - started_s < 10
        with pytest.raises(CoverageIncompleteError, match="1 of 20 tiles are not there") as caught:
            check_coverage(report, tolerance_ratio=0.0)
        assert caught.value.code is ExitCode.COVERAGE_INCOMPLETE
        assert caught.value.details["holes"] == [{"z": 12, "x": 100, "y": 50, "reason": reason}]
        check_coverage(report, tolerance_ratio=0.05)
        # The provider mends itself: only the hole is asked for.
        server.script = good
        server.requests.clear()
        again = download_tiles(
            tiles=failed_tiles(report.failed_tiles),
            source=open_source(spec(server)),
            store=store,
            limits=QUICK,
            ask_again=True,
        )
        assert again.downloaded == 1
        assert [request.path for request in server.requests] == ["/12/100/50.jpg"]


def test_a_known_void_is_not_asked_again_at_once(store: TileStore) -> None:
    with TileServer(first_tile(Reply(status=404))) as server:
        fetch(server, store)
        server.requests.clear()
        report = fetch(server, store)
        assert (report.reused, report.missing, server.requests) == (19, 1, [])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(status=500), "does not answer: .* in a row failed .http_500."),
        (Reply(body=GOOD, cut_at=5), "does not answer"),
        (Reply(hang="before"), "does not answer: .*timeout"),
        (Reply(status=429), "has given nothing for 1 s .HTTP 429."),
        (Reply(body=b"<html>Log in", headers={"Content-Type": "text/html"}), "answers not an image but text, 16 times"),
    ],
)
def test_a_provider_that_is_down_ends_the_download_in_seconds(reply: Reply, message: str, store: TileStore) -> None:
    started_s = time.monotonic()
    with TileServer(lambda _request, _attempt: reply) as server, pytest.raises(DownloadError, match=message) as caught:
        fetch(server, store)
    assert "127.0.0.1" in caught.value.message
    assert caught.value.code is ExitCode.DOWNLOAD_FAILED
    assert time.monotonic() - started_s < 8


def test_a_provider_that_is_not_there_ends_the_download_in_seconds(store: TileStore) -> None:
    with TileServer() as server:
        gone = spec(server)
    started_s = time.monotonic()
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 does not answer: .*connection_refused"):
        download_tiles(tiles=TILES, source=open_source(gone), store=store, limits=QUICK)
    assert time.monotonic() - started_s < 3


def test_a_provider_that_goes_and_comes_back_is_waited_for(store: TileStore) -> None:
    answered = 0

    def script(request: Request, attempt: int) -> Reply:
        nonlocal answered
        answered += 1
        return Reply(status=500) if 8 < answered <= 26 else good(request, attempt)

    with TileServer(script) as server:
        assert fetch(server, store).downloaded == 20


@pytest.mark.parametrize("status", [401, 407])
def test_refused_credentials_end_the_download_at_once(status: int, store: TileStore) -> None:
    with (
        TileServer(lambda _request, _attempt: Reply(status=status)) as server,
        pytest.raises(TileSourceError, match="refused the credentials"),
    ):
        fetch(server, store)
    assert len(server.requests) <= 4


def test_a_provider_that_forbids_everything_ends_the_download(store: TileStore) -> None:
    with (
        TileServer(lambda _request, _attempt: Reply(status=403)) as server,
        pytest.raises(TileSourceError, match="HTTP 403, 16 times in a row"),
    ):
        fetch(server, store)


def test_a_redirect_to_another_server_is_not_followed_and_the_key_stays_here(store: TileStore) -> None:
    with TileServer() as other:
        away = Reply(status=302, headers={"Location": other.base + "/login"})
        with TileServer(lambda _request, _attempt: away) as server:
            source = open_source(spec(server, api_key_header="X-Api-Key"), api_key=KEY)
            with pytest.raises(TileSourceError, match="sends us to another server") as caught:
                download_tiles(tiles=TILES, source=source, store=store, limits=QUICK)
        assert other.requests == []
    assert KEY not in str(caught.value.to_dict())


def test_a_redirect_to_what_is_no_url_is_one_sentence(store: TileStore) -> None:
    nowhere = Reply(status=302, headers={"Location": "http://[::1/12/100/50.jpg"})
    with (
        TileServer(lambda _request, _attempt: nowhere) as server,
        pytest.raises(TileSourceError, match="sends us to an address that is no URL"),
    ):
        fetch(server, store)


def test_a_redirect_on_the_same_server_is_followed(store: TileStore) -> None:
    def script(request: Request, attempt: int) -> Reply:
        if request.path.startswith("/new"):
            return good(request, attempt)
        return Reply(status=301, headers={"Location": "/new" + request.path})

    with TileServer(script) as server:
        assert fetch(server, store).downloaded == 20


DOWN = {
    "server error": Reply(status=500),
    "cut": Reply(body=GOOD, cut_at=5),
    "silence": Reply(hang="before"),
    "storm of 429": Reply(status=429),
    "captive portal": Reply(body=b"<html>Log in", headers={"Content-Type": "text/html"}),
    "captive portal elsewhere": Reply(status=302, headers={"Location": f"http://login.example/?back={KEY}"}),
    "credentials refused": Reply(status=401),
    "forbidden": Reply(status=403, body=KEY.encode()),
}


@pytest.mark.parametrize("key_in", ["query", "path"])
@pytest.mark.parametrize("name", DOWN)
def test_a_key_in_the_url_is_in_no_error(name: str, key_in: str, store: TileStore) -> None:
    started_s = time.monotonic()
    with TileServer(lambda _request, _attempt: DOWN[name]) as server:
        with pytest.raises(DownloadError):
            fetch(server, store, key_in=key_in)
        assert server.requests and all(KEY in request.path for request in server.requests)
    assert time.monotonic() - started_s < 20
    assert len(SAID) == 3


@pytest.mark.parametrize("name", ["json error", "one colour", "tile of another size", "truncated for good"])
def test_control_a_check_that_takes_everything_stores_what_is_false(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positive control: without the check, the same question convicts."""
    monkeypatch.setattr(TileChecker, "_fault", lambda *_args: None)
    monkeypatch.setattr(TileDecoder, "begin", lambda self, tasks, **_more: setattr(self, "_tasks", tasks))
    monkeypatch.setattr(TileDecoder, "faults", lambda self: [None] * len(self._tasks))
    with TileServer(first_tile(LASTING[name][0])) as server, TileStore(tmp_path / "control") as unchecked:
        assert fetch(server, unchecked).downloaded == 20
    with pytest.raises(AssertionError, match="12/100/50 holds"):
        assert_nothing_false(tmp_path / "control")


def test_control_an_error_that_shows_the_url_tells_the_key(
    store: TileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positive control: an error with the URL in it is convicted."""
    monkeypatch.setattr(CurlTransfers, "_reason", lambda self, _number: self._source.url(Tile(12, 100, 50)))
    with TileServer(lambda _request, _attempt: DOWN["cut"]) as server, pytest.raises(DownloadError):
        fetch(server, store, key_in="query")
    with pytest.raises(AssertionError):
        assert_no_key(SAID, tmp_path)
    SAID.clear()


@pytest.mark.parametrize("where", ["api_key_header", "api_key_query"])
def test_the_key_reaches_the_provider_and_no_output(
    where: str, store: TileStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with TileServer(first_tile(Reply(status=500))) as server:
        source = open_source(spec(server, **{where: "X-Key"}), api_key=KEY)
        report = download_tiles(tiles=TILES, source=source, store=store, limits=QUICK)
        assert report.downloaded == 19
        for request in server.requests:
            assert request.headers.get("x-key") == KEY or request.path.endswith("?X-Key=" + KEY)
    assert KEY not in repr(report) + repr(source) + "".join(capfd.readouterr())
    for path in (tmp_path / "tiles").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


def test_a_picture_that_says_no_imagery_at_many_places_is_a_placeholder(store: TileStore) -> None:
    def script(request: Request, attempt: int) -> Reply:
        return (
            Reply(body=tile_image(7)) if "/10" in request.path and request.path < "/12/103" else good(request, attempt)
        )

    with TileServer(script) as server:
        report = fetch(server, store)
        assert (report.placeholder, report.downloaded) == (12, 8)
        server.requests.clear()
        report = fetch(server, store)
        assert (report.placeholder, report.reused, server.requests) == (12, 8, [])


def test_a_placeholder_is_known_by_its_hash_or_header(store: TileStore) -> None:
    import hashlib

    digest = hashlib.sha256(tile_image(seed_of("/12/100/50.jpg"))).hexdigest()

    def script(request: Request, attempt: int) -> Reply:
        reply = good(request, attempt)
        return Reply(body=reply.body, headers={"X-VE-Tile-Info": "no-tile"}) if "/101/50" in request.path else reply

    with TileServer(script) as server:
        report = fetch(server, store, placeholder_sha256=[digest], placeholder_headers={"X-VE-Tile-Info": "no-tile"})
    assert holes(report) == [(100, "placeholder"), (101, "placeholder")]


def test_a_stale_tile_costs_a_304(store: TileStore) -> None:
    def script(request: Request, attempt: int) -> Reply:
        if request.headers.get("if-none-match") == '"v1"':
            return Reply(status=304)
        reply = good(request, attempt)
        return Reply(body=reply.body, headers={"ETag": '"v1"'})

    with TileServer(script) as server:
        assert fetch(server, store).downloaded == 20
        stale = DownloadLimits(refresh_after_s=-5, connect_timeout_s=1.0)
        report = fetch(server, store, limits=stale)
        assert (report.revalidated, report.downloaded, report.bytes) == (20, 0, 0)


def test_a_stale_tile_whose_provider_is_broken_stays(store: TileStore) -> None:
    with TileServer() as server:
        fetch(server, store)
        server.script = first_tile(Reply(status=418))
        report = fetch(server, store, limits=DownloadLimits(refresh_after_s=-5))
        assert (report.present, report.failed) == (20, 0)


def test_a_storm_of_429_is_waited_out(store: TileStore) -> None:
    sent: list[float] = []

    def script(request: Request, attempt: int) -> Reply:
        sent.append(request.at_s)
        recent = [at_s for at_s in sent if at_s > request.at_s - 0.2]
        return Reply(status=429) if len(recent) > 10 else good(request, attempt)

    with TileServer(script) as server:
        assert fetch(server, store).downloaded == 20


def from_the_south() -> Script:
    """A country of joined tiles whose rows count from the south, as TMS has it."""

    def script(request: Request, _attempt: int) -> Reply:
        z, x, y = (int(part) for part in request.path.removesuffix(".jpg").split("/")[1:])
        return Reply(body=joined_tile(x, (1 << z) - 1 - y))

    return script


@pytest.mark.parametrize(("kind", "verdict"), [("xyz", "rows_flipped"), ("tms", "as_said")])
def test_rows_counted_from_the_other_end_are_found_and_nothing_is_built_of_them(
    kind: str, verdict: str, store: TileStore
) -> None:
    with TileServer(from_the_south()) as server:
        source = open_source(spec(server, kind=kind))
        report = download_tiles(tiles=TILES, source=source, store=store, limits=QUICK)
        report = examine_download(report, tiles=TILES, source=source, store=store, flight=None)
    assert report.placement is not None and report.placement["verdict"] == verdict
    assert report.downloaded == 20
    if kind == "tms":
        check_download(report, source=source, tolerance_ratio=0.0)
    else:
        with pytest.raises(TilePlacementError, match="count their rows from the other end"):
            check_download(report, source=source, tolerance_ratio=1.0)


def test_imagery_of_two_epochs_is_a_warning_and_no_failure(store: TileStore) -> None:
    def script(request: Request, attempt: int) -> Reply:
        year = "2019" if request.path.startswith("/12/100/") else "2024"
        return Reply(body=good(request, attempt).body, headers={"X-Imagery-Date": f"{year}-07-15"})

    with TileServer(script) as server:
        source = open_source(spec(server, imagery_date_header="X-Imagery-Date"))
        report = download_tiles(tiles=TILES, source=source, store=store, limits=QUICK)
        report = examine_download(report, tiles=TILES, source=source, store=store, flight=None)
    assert report.imagery is not None
    assert (report.imagery["oldest"], report.imagery["newest"]) == ("2019-07-15", "2024-07-15")
    (warning,) = report.warnings
    assert "different dates: from 2019-07-15 to 2024-07-15 (20 of 20 tiles tell)" in warning
    check_download(report, source=source, tolerance_ratio=0.0)


def test_the_deadline_holds(store: TileStore) -> None:
    limits = DownloadLimits(deadline_s=0.5, request_timeout_s=0.3, backoff_s=1.0)
    with (
        TileServer(first_tile(Reply(hang="before"))) as server,
        pytest.raises(DownloadError, match=r"longer than its deadline of 0 s .\d+ of 20 tiles done"),
    ):
        fetch(server, store, limits=limits)


def test_cancelling_keeps_what_has_come(store: TileStore) -> None:
    with TileServer(first_tile(Reply(hang="before"))) as server:
        source = open_source(spec(server))
        with pytest.raises(BuildCancelledError):
            download_tiles(
                tiles=TILES, source=source, store=store, limits=QUICK, cancelled=lambda: len(server.requests) >= 20
            )
        server.script = good
        report = fetch(server, store)
        assert report.reused >= 10
        assert report.present == 20


@pytest.mark.parametrize("host", ["tile.openstreetmap.org", "a.tile.openstreetmap.org", "TILE.openstreetmap.org."])
def test_servers_that_forbid_bulk_download_are_refused(host: str) -> None:
    with pytest.raises(TileProviderTermsError, match="cannot be used") as caught:
        open_source({"id": "osm", "kind": "xyz", "url": f"https://{host}/{{z}}/{{x}}/{{y}}.png"})
    assert caught.value.code is ExitCode.PROVIDER_TERMS
