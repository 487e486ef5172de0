# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of source gives the same tiles."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import mercantile
import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import TileSourceError
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_archive import cut_archive
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import DownloadLimits, download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, TileRun, TileSet
from tile_server import Reply, Request, Script, TileServer, tile_image

TILES = TileSet.from_runs([TileRun(z, y, 300, 309) for z in (9, 10) for y in range(200, 206)])
HOLE = Tile(10, 305, 203)
LIMITS = DownloadLimits(connect_timeout_s=1.0, backoff_s=0.02)


def body_of(tile: Tile) -> bytes:
    # Rows repeat, so that archives have something to share.
    return tile_image(tile.z * 1000 + tile.x)


def present() -> Iterator[Tile]:
    return (tile for tile in TILES if tile != HOLE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TileStore]:
    with TileStore(tmp_path / "tiles") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for tile in present():
        path = root / str(tile.z) / str(tile.x) / f"{tile.y}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body_of(tile))
    return root


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "archive.pmtiles"
    source = open_source({"id": "folder", "kind": "folder", "path": str(folder), "placeholder_max_repeats": 0})
    with TileStore(tmp_path / "other") as store:
        download_tiles(tiles=TILES, source=source, store=store)
        cut_archive(tiles=TILES, store=store, source=source, path=path)
    return path


@pytest.fixture
def mbtiles(tmp_path: Path) -> Path:
    path = tmp_path / "with space & ?.mbtiles"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE tiles (zoom_level INT, tile_column INT, tile_row INT, tile_data BLOB)")
        rows = [(tile.z, tile.x, (1 << tile.z) - 1 - tile.y, body_of(tile)) for tile in present()]
        database.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?)", rows)
    database.close()
    return path


def ranges_of(path: Path, *, etag: str = '"v1"') -> Script:
    content = path.read_bytes()

    def script(request: Request, _attempt: int) -> Reply:
        if request.headers.get("if-match", etag) != etag:
            return Reply(status=412)
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["range"])
        assert match
        part = content[int(match[1]) : int(match[2]) + 1]
        return Reply(status=206, body=part, headers={"ETag": etag, "Content-Type": "application/octet-stream"})

    return script


def by_name(pattern: str, tile_of: Callable[[re.Match[str]], Tile]) -> Script:
    def script(request: Request, _attempt: int) -> Reply:
        match = re.fullmatch(pattern, request.path)
        assert match, request.path
        tile = tile_of(match)
        return Reply(status=404) if tile == HOLE else Reply(body=body_of(tile))

    return script


def assert_all_there(spec: dict[str, object], store: TileStore) -> None:
    source = open_source({"id": "any", "placeholder_max_repeats": 0, **spec})
    report = download_tiles(tiles=TILES, source=source, store=store, limits=LIMITS)
    assert (report.downloaded, report.missing, report.failed) == (119, 1, 0)
    number = store.source_number(source.source_key)
    assert number is not None
    assert all(store.body(number, tile) == body_of(tile) for tile in present())
    again = download_tiles(tiles=TILES, source=source, store=store, limits=LIMITS)
    assert (again.reused, again.missing, again.bytes) == (119, 1, 0)


def test_folder(folder: Path, store: TileStore) -> None:
    assert_all_there({"kind": "folder", "path": str(folder)}, store)


def test_a_folder_whose_rows_count_from_the_south(folder: Path, store: TileStore) -> None:
    for path in sorted(folder.glob("*/*/*.jpg")):
        row = (1 << int(path.parts[-3])) - 1 - int(path.stem)
        path.rename(path.with_name(f"{row}.jpg.new"))
    for path in folder.glob("*/*/*.new"):
        path.rename(path.with_suffix(""))
    assert_all_there({"kind": "folder_tms", "path": str(folder)}, store)


def test_a_tile_that_changes_in_a_folder_is_read_again(folder: Path, store: TileStore) -> None:
    assert_all_there({"kind": "folder", "path": str(folder)}, store)
    changed = folder / "9" / "300" / "200.jpg"
    changed.write_bytes(tile_image(4711))
    os.utime(changed, ns=(1, 1))
    source = open_source({"id": "any", "kind": "folder", "path": str(folder), "placeholder_max_repeats": 0})
    report = download_tiles(tiles=TILES, source=source, store=store)
    assert (report.downloaded, report.reused) == (1, 118)


def test_pmtiles(archive: Path, store: TileStore) -> None:
    assert_all_there({"kind": "pmtiles", "path": str(archive)}, store)


def test_mbtiles(mbtiles: Path, store: TileStore) -> None:
    assert_all_there({"kind": "mbtiles", "path": str(mbtiles)}, store)


def test_xyz_with_subdomains(store: TileStore) -> None:
    script = by_name(r"/[pq]/(\d+)/(\d+)/(\d+)\.jpg", lambda m: Tile(int(m[1]), int(m[2]), int(m[3])))
    with TileServer(script) as server:
        url = server.base + "/{s}/{z}/{x}/{y}.jpg"
        assert_all_there({"kind": "xyz", "url": url, "subdomains": ["p", "q"]}, store)


def test_tms(store: TileStore) -> None:
    script = by_name(r"/(\d+)/(\d+)/(\d+)", lambda m: Tile(int(m[1]), int(m[2]), (1 << int(m[1])) - 1 - int(m[3])))
    with TileServer(script) as server:
        assert_all_there({"kind": "tms", "url": server.base + "/{z}/{x}/{y}"}, store)


def test_quadkey(store: TileStore) -> None:
    def tile_of(match: re.Match[str]) -> Tile:
        found = mercantile.quadkey_to_tile(match[1])
        return Tile(found.z, found.x, found.y)

    with TileServer(by_name(r"/t/(\d+)\.jpeg", tile_of)) as server:
        assert_all_there({"kind": "quadkey", "url": server.base + "/t/{q}.jpeg"}, store)


def test_pmtiles_over_http_merges_requests(archive: Path, store: TileStore) -> None:
    with TileServer(ranges_of(archive)) as server:
        assert_all_there({"kind": "pmtiles_http", "url": server.base + "/a.pmtiles"}, store)
        assert len(server.requests) <= 4
        server.requests.clear()
        source = open_source({"id": "any", "kind": "pmtiles_http", "url": server.base + "/a.pmtiles",
                              "placeholder_max_repeats": 0})  # fmt: skip
        report = download_tiles(tiles=TILES, source=source, store=store, limits=DownloadLimits(refresh_after_s=-5))
        assert (report.revalidated, len(server.requests)) == (119, 1)


def test_pmtiles_over_http_notices_a_change(archive: Path, store: TileStore) -> None:
    before, after = ranges_of(archive), ranges_of(archive, etag='"v2"')
    with TileServer(lambda request, attempt: (before if attempt == 1 else after)(request, attempt)) as server:
        source = open_source({"id": "any", "kind": "pmtiles_http", "url": server.base + "/a.pmtiles"})
        with pytest.raises(TileSourceError, match="changed while"):
            download_tiles(tiles=TILES, source=source, store=store, limits=LIMITS)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(body=b"x" * 100), "knows no byte ranges"),
        (Reply(status=206, body=b"x" * 16384), "is not a PMTiles archive"),
        (Reply(status=404), "refuses the tile source's description .HTTP 404."),
    ],
)
def test_pmtiles_over_http_that_is_none(reply: Reply, message: str, store: TileStore) -> None:
    with TileServer(lambda _request, _attempt: reply) as server:
        source = open_source({"id": "any", "kind": "pmtiles_http", "url": server.base + "/a.pmtiles"})
        with pytest.raises(TileSourceError, match=message):
            download_tiles(tiles=TILES, source=source, store=store, limits=LIMITS)


CAPABILITIES = """<?xml version="1.0"?>
<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"
  xmlns:xlink="http://www.w3.org/1999/xlink" version="1.0.0">
 <ows:OperationsMetadata><ows:Operation name="GetTile"><ows:DCP><ows:HTTP>
  <ows:Get xlink:href="BASE/kvp?"><ows:Constraint name="GetEncoding"><ows:AllowedValues><ows:Value>KVP</ows:Value>
  </ows:AllowedValues></ows:Constraint></ows:Get></ows:HTTP></ows:DCP></ows:Operation></ows:OperationsMetadata>
 <Contents>
  <Layer><ows:Identifier>other</ows:Identifier></Layer>
  <Layer><ows:Identifier>ortho</ows:Identifier>
   <Style isDefault="true"><ows:Identifier>normal</ows:Identifier></Style>
   <Format>image/jpeg</Format>
   <Dimension><ows:Identifier>Time</ows:Identifier><Default>2024</Default></Dimension>
   <TileMatrixSetLink><TileMatrixSet>local</TileMatrixSet></TileMatrixSetLink>
   <TileMatrixSetLink><TileMatrixSet>PM</TileMatrixSet></TileMatrixSetLink>RESOURCE
  </Layer>
  <TileMatrixSet><ows:Identifier>local</ows:Identifier><ows:SupportedCRS>EPSG:2056</ows:SupportedCRS></TileMatrixSet>
  <TileMatrixSet><ows:Identifier>PM</ows:Identifier>
   <ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>MATRICES</TileMatrixSet>
 </Contents>
</Capabilities>"""
MATRIX = """<TileMatrix><ows:Identifier>m{z}</ows:Identifier><ScaleDenominator>{scale}</ScaleDenominator>
 <TopLeftCorner>-20037508.3428 20037508.3428</TopLeftCorner><TileWidth>256</TileWidth><TileHeight>256</TileHeight>
 <MatrixWidth>{side}</MatrixWidth><MatrixHeight>{side}</MatrixHeight></TileMatrix>"""
RESOURCE = """<ResourceURL format="image/jpeg" resourceType="tile"
 template="BASE/rest/{Style}/{Time}/{TileMatrixSet}/{TileMatrix}/{TileCol}/{TileRow}.jpeg"/>"""


def wmts(base: str, *, resource: str) -> bytes:
    matrices = "".join(MATRIX.format(z=z, scale=559082264.0287178 / 2**z, side=2**z) for z in range(13))
    return CAPABILITIES.replace("RESOURCE", resource).replace("MATRICES", matrices).replace("BASE", base).encode()


@pytest.mark.parametrize("resource", [RESOURCE, ""], ids=["restful", "kvp"])
def test_wmts(resource: str, store: TileStore) -> None:
    rest = by_name(r"/rest/normal/2024/PM/m(\d+)/(\d+)/(\d+)\.jpeg", lambda m: Tile(int(m[1]), int(m[2]), int(m[3])))
    kvp = by_name(
        r"/kvp\?SERVICE=WMTS&REQUEST=GetTile&VERSION=1\.0\.0&LAYER=ortho&STYLE=normal&FORMAT=image/jpeg"
        r"&TILEMATRIXSET=PM&Time=2024&TILEMATRIX=m(\d+)&TILEROW=(\d+)&TILECOL=(\d+)",
        lambda m: Tile(int(m[1]), int(m[3]), int(m[2])),
    )

    def script(request: Request, attempt: int) -> Reply:
        if request.path == "/caps.xml":
            return Reply(body=wmts(server.base, resource=resource))
        return (rest if resource else kvp)(request, attempt)

    with TileServer(script) as server:
        assert_all_there({"kind": "wmts", "url": server.base + "/caps.xml", "wmts_layer": "ortho"}, store)


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        (b"<html>", {}, "gives no WMTS capabilities"),
        (b"<html/>", {}, "gives no WMTS capabilities but <html>"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', {}, "gives no WMTS capabilities"),
        (
            wmts("http://127.0.0.1", resource=""),
            {"wmts_layer": "nothing"},
            "names WMTS layer 'nothing'; .* has: other, ortho",
        ),
        (
            wmts("http://127.0.0.1", resource=""),
            {"wmts_layer": "ortho", "tile_size_px": 512},
            "no Web Mercator tiles of 512 px",
        ),
        (wmts("http://elsewhere", resource=RESOURCE), {"wmts_layer": "ortho"}, "point to another server .elsewhere."),
        (wmts("http://[elsewhere", resource=RESOURCE), {"wmts_layer": "ortho"}, "hold an address that is no URL"),
    ],
)
def test_wmts_that_cannot_be_used(content: bytes, more: dict[str, object], message: str, store: TileStore) -> None:
    with TileServer(lambda _request, _attempt: Reply(body=content)) as server:
        source = open_source({"id": "any", "kind": "wmts", "url": server.base + "/caps.xml", **more})
        with pytest.raises(TileSourceError, match=message):
            download_tiles(tiles=TILES, source=source, store=store, limits=LIMITS)
