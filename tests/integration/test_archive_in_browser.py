# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive of ours, with leaf directories, read by the JavaScript reader that web maps use, in a real browser."""

from __future__ import annotations

import base64
import functools
import hashlib
import shutil
from pathlib import Path

import numpy as np
from ansible_collections.gps_denied.preflight.plugins.module_utils._pmtiles import PmtilesReader
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_archive import cut_archive
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileState, TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store_writer import TileRecord
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, TileRun, TileSet
from playwright.sync_api import sync_playwright

READER = Path(__file__).parents[1] / "data" / "pmtiles_js" / "pmtiles.js"
READER_SHA256 = "caf981bc46f6327ee7e65d5dc964d89d38a69f60edca2bd4c5c890c21b554c6c"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
TILES = TileSet.from_runs(
    [TileRun(12, 1000, 7, 9), *(TileRun(15, y, 40, 99) for y in range(200, 220)),
     *(TileRun(16, y, 80, 199) for y in range(400, 440))]
)  # fmt: skip
ABSENT = [Tile(12, 10, 1000), Tile(15, 100, 200), Tile(16, 79, 400), Tile(11, 3, 500), Tile(17, 160, 800)]
READ = """async ([packed, asked]) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const archive = new pmtiles.PMTiles(new pmtiles.FileSource(new File([bytes], "a.pmtiles")));
    const found = [];
    for (const [z, x, y] of asked) {
        const tile = await archive.getZxy(z, x, y);
        if (!tile) { found.push(null); continue; }
        const digest = await crypto.subtle.digest("SHA-256", tile.data);
        found.push(Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join(""));
    }
    return {header: await archive.getHeader(), metadata: await archive.getMetadata(), found};
}"""


@functools.cache
def body_of(tile: Tile) -> bytes:
    """Bodies of uneven lengths, so that the directory does not compress away; each tenth is a common one."""
    seed = 0 if (tile.x + tile.y) % 10 == 0 else hash(tuple(tile))
    rng = np.random.default_rng(abs(seed))
    return b"\xff\xd8\xff" + rng.bytes(int(rng.integers(20, 200)))


def test_a_web_map_reads_every_tile_and_no_other(tmp_path: Path) -> None:
    script = READER.read_bytes()
    assert hashlib.sha256(script).hexdigest() == READER_SHA256
    source = open_source({"id": "made", "kind": "xyz", "url": "https://example.org/{z}/{x}/{y}.jpg"})
    with TileStore(tmp_path / "store") as store:
        number = store.source_number(source.source_key, attribution="us")
        assert number is not None
        with store.writer(number) as writer:
            writer.add(
                [TileRecord(tile, TileState.PRESENT, body_of(tile), hashlib.sha256(body_of(tile)).digest())
                 for tile in TILES]
            )  # fmt: skip
        info = cut_archive(
            tiles=TILES, store=store, source=source, path=tmp_path / "a.pmtiles", metadata={"flight": "über"}
        )
    with PmtilesReader(str(info.path)) as reader:
        ours = reader.header
    assert ours.leaf_length > 0
    assert ours.tile_contents < ours.addressed_tiles == len(TILES)
    packed = base64.b64encode(info.path.read_bytes()).decode()
    asked = [[tile.z, tile.x, tile.y] for tile in [*TILES, *ABSENT]]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_context(offline=True).new_page()
        blank = tmp_path / "blank.html"
        blank.write_text("<title>reader</title>")
        page.goto(blank.as_uri())
        page.add_script_tag(content=script.decode())
        read = page.evaluate(READ, [packed, asked])
        browser.close()
    assert read["found"] == [*(hashlib.sha256(body_of(tile)).hexdigest() for tile in TILES), *([None] * len(ABSENT))]
    assert read["metadata"]["flight"] == "über"
    header = read["header"]
    told = {
        "specVersion": 3, "rootDirectoryOffset": ours.root_offset, "rootDirectoryLength": ours.root_length,
        "leafDirectoryOffset": ours.leaf_offset, "leafDirectoryLength": ours.leaf_length,
        "tileDataOffset": ours.tile_data_offset, "tileDataLength": ours.tile_data_length,
        "numAddressedTiles": ours.addressed_tiles, "numTileEntries": ours.tile_entries,
        "numTileContents": ours.tile_contents, "clustered": True, "minZoom": 12, "maxZoom": 16, "tileType": 3,
        "minLon": ours.min_lon_e7 / 1e7, "maxLat": ours.max_lat_e7 / 1e7,
    }  # fmt: skip
    assert {name: header[name] for name in told} == told
