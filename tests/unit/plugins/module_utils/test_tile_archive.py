# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CoverageIncompleteError, DownloadError
from ansible_collections.gps_denied.preflight.plugins.module_utils._pmtiles import (
    MAX_ROOT_BYTES,
    PmtilesEntry,
    PmtilesReader,
    encode_directory,
    zxy_to_tile_id,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_archive import (
    cut_archive,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_archive_index import (
    _directories,
    encode_columns,
    hilbert_ids,
    stored_gzip,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import (
    TileSource,
    open_source,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileState, TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store_writer import TileRecord
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, TileRun, TileSet
from hypothesis import given
from hypothesis import strategies as st
from pmtiles.reader import MmapSource, Reader, all_tiles
from tile_server import tile_image

TILES = TileSet.from_runs([TileRun(z, y, 40, 59) for z in (6, 7, 8) for y in range(20, 30)])


def source() -> TileSource:
    spec = {"id": "made", "kind": "xyz", "url": "https://example.org/{z}/{x}/{y}.jpg", "attribution": "us"}
    return open_source(spec)


def body_of(tile: Tile) -> bytes:
    return tile_image(tile.z * 100 + tile.x // 3)


def fill(store: TileStore, tiles: list[Tile]) -> None:
    import hashlib

    number = store.source_number(source().source_key, attribution="us")
    assert number is not None
    with store.writer(number) as writer:
        for start in range(0, len(tiles), 37):
            writer.add(
                [
                    TileRecord(tile, TileState.PRESENT, body_of(tile), hashlib.sha256(body_of(tile)).digest())
                    for tile in tiles[start : start + 37]
                ]
            )


def test_the_archive_reads_back_through_an_independent_reader(tmp_path: Path) -> None:
    with TileStore(tmp_path / "store") as store:
        fill(store, list(TILES))
        info = cut_archive(
            tiles=TILES, store=store, source=source(), path=tmp_path / "a.pmtiles", metadata={"flight": "über"}
        )
    assert info.addressed_count == len(TILES)
    assert info.tile_count == len({body_of(tile) for tile in TILES})
    assert info.size_bytes == info.path.stat().st_size
    with info.path.open("rb") as stream:
        reader = Reader(MmapSource(stream))
        assert all(reader.get(tile.z, tile.x, tile.y) == body_of(tile) for tile in TILES)
        assert len(list(all_tiles(MmapSource(stream)))) == len(TILES)
        facts = {"attribution": "us", "flight": "über", "format": "jpg", "name": "made", "type": "baselayer"}
        assert reader.metadata() == {**facts, "minzoom": 6, "maxzoom": 8}
        header = reader.header()
        assert header["clustered"]
        assert (header["min_zoom"], header["max_zoom"], header["tile_type"].name) == (6, 8, "JPEG")
        assert header["min_lon_e7"] < header["center_lon_e7"] < header["max_lon_e7"]
    with PmtilesReader(str(info.path)) as ours:
        offsets = [entry.offset for entry in ours.entries()]
        first_seen = list(dict.fromkeys(offsets))
        assert first_seen == sorted(first_seen)
        assert ours.header.tile_entries < ours.header.addressed_tiles


def test_the_same_tiles_give_the_same_bytes_whatever_the_order_of_download(tmp_path: Path) -> None:
    import random

    digests = set()
    for seed in range(3):
        order = list(TILES)
        random.Random(seed).shuffle(order)
        with TileStore(tmp_path / str(seed)) as store:
            fill(store, order)
            digests.add(cut_archive(tiles=TILES, store=store, source=source(), path=tmp_path / "a.pmtiles").sha256)
    assert len(digests) == 1


def test_tiles_that_the_store_lacks_are_left_out(tmp_path: Path) -> None:
    with TileStore(tmp_path / "store") as store:
        fill(store, [tile for tile in TILES if tile.x % 2])
        info = cut_archive(tiles=TILES, store=store, source=source(), path=tmp_path / "a.pmtiles")
        assert info.addressed_count == len(TILES) // 2
        nothing = TileSet.from_tiles([Tile(3, 1, 1)])
        with pytest.raises(CoverageIncompleteError, match="none of the 1 tiles of source made"):
            cut_archive(tiles=nothing, store=store, source=source(), path=tmp_path / "b.pmtiles")


def test_an_archive_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with TileStore(tmp_path / "store") as store:
        fill(store, list(TILES)[:5])
        with pytest.raises(DownloadError, match="cannot write the archive"):
            cut_archive(tiles=TILES, store=store, source=source(), path=tmp_path / "absent" / "a.pmtiles")
    assert not list(tmp_path.glob(".tmp-*"))


def test_many_tiles_go_into_leaves_that_a_first_read_of_16_kib_finds() -> None:
    ids = np.arange(300_000, dtype=np.int64) * 3
    tens = np.full(300_000, 10, dtype=np.int64)
    root, leaves = _directories(ids, np.ones_like(ids), tens, np.arange(300_000, dtype=np.int64) * 10)
    assert len(root) <= MAX_ROOT_BYTES
    assert leaves


@given(st.lists(st.tuples(st.integers(1, 1 << 40), st.integers(0, 1 << 20), st.integers(1, 1 << 20)), min_size=1))
def test_directories_over_columns_are_directories(rows: list[tuple[int, int, int]]) -> None:
    ids = np.cumsum([step for step, _run, _length in rows])
    lengths = np.array([length for _step, _run, length in rows])
    offsets = np.cumsum(lengths) - lengths
    offsets[len(rows) // 2] = 0
    runs = np.array([run for _step, run, _length in rows])
    entries = [PmtilesEntry(*map(int, row)) for row in zip(ids, offsets, lengths, runs, strict=True)]
    assert encode_columns(ids, runs, lengths, offsets) == encode_directory(entries)


@given(st.binary(max_size=200_000))
def test_stored_gzip_is_gzip(plain: bytes) -> None:
    assert gzip.decompress(stored_gzip(plain)) == plain


@given(
    st.integers(0, 20).flatmap(
        lambda z: st.tuples(
            st.just(z),
            st.lists(st.tuples(st.integers(0, (1 << z) - 1), st.integers(0, (1 << z) - 1)), min_size=1, max_size=20),
        )
    )
)
def test_hilbert_over_arrays_is_hilbert(case: tuple[int, list[tuple[int, int]]]) -> None:
    z, places = case
    columns, rows = np.array([x for x, _y in places]), np.array([y for _x, y in places])
    assert hilbert_ids(z, columns, rows).tolist() == [zxy_to_tile_id(z, x, y) for x, y in places]
