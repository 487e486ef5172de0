# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import TileSourceError
from ansible_collections.gps_denied.preflight.plugins.module_utils._pmtiles import (
    PmtilesEntry,
    PmtilesReader,
    decode_directory,
    decompress,
    encode_directory,
    tile_id_to_zxy,
    zxy_to_tile_id,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pmtiles.reader import MmapSource, Reader
from pmtiles.tile import deserialize_directory, zxy_to_tileid
from shared_data import shared_files

REPO = Path(__file__).resolve().parents[4]
ARCHIVE = REPO / "examples/imagery/bali.pmtiles"

TILES = st.integers(0, 24).flatmap(
    lambda z: st.tuples(st.just(z), st.integers(0, (1 << z) - 1), st.integers(0, (1 << z) - 1))
)
ENTRIES = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 1000), st.integers(1, 5)), min_size=1, max_size=60)


@given(TILES)
def test_tile_ids_agree_with_the_reference_and_turn_back(tile: tuple[int, int, int]) -> None:
    z, x, y = tile
    assert zxy_to_tile_id(z, x, y) == zxy_to_tileid(z, x, y)
    assert tile_id_to_zxy(zxy_to_tile_id(z, x, y)) == tile


@given(ENTRIES)
def test_directories_agree_with_the_reference_and_turn_back(steps: list[tuple[int, int, int]]) -> None:
    import gzip

    entries: list[PmtilesEntry] = []
    tile_id = offset = 0
    for step, length, run_length in steps:
        tile_id += step
        # Every third entry shares the bytes of the one before.
        at = offset if len(entries) % 3 else max(0, offset - length)
        entries.append(PmtilesEntry(tile_id, at, length, run_length))
        tile_id += run_length
        offset = at + length
    plain = encode_directory(entries)
    assert [PmtilesEntry(*row) for row in zip(*decode_directory(plain, where="test"), strict=True)] == entries
    reference = deserialize_directory(gzip.compress(plain))
    assert [(e.tile_id, e.offset, e.length, e.run_length) for e in reference] == [tuple(entry) for entry in entries]


@pytest.mark.parametrize(
    "path", [ARCHIVE, *shared_files("imagery/open/archives", "*.pmtiles")], ids=lambda path: path.name
)
def test_real_archives_read_as_the_reference_reads_them(path: Path) -> None:
    with path.open("rb") as stream, PmtilesReader(str(path)) as reader:
        reference = Reader(MmapSource(stream))
        count = 0
        for entry in reader.entries():
            for tile_id in range(entry.tile_id, entry.tile_id + entry.run_length):
                z, x, y = tile_id_to_zxy(tile_id)
                assert reader.get(z, x, y) == reference.get(z, x, y)
                count += 1
        assert count == reader.header.addressed_tiles
        assert reader.metadata() == reference.metadata()
        assert reader.get(0, 0, 0) == reference.get(0, 0, 0)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_is_an_error_or_reads_but_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(ARCHIVE.read_bytes()[:20000])
    for _index in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 600))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged-{os.getpid()}.pmtiles"
    path.write_bytes(content[: data.draw(st.sampled_from([0, 50, 127, 300, 20000]))])
    try:
        with PmtilesReader(str(path)) as reader:
            reader.metadata()
            for index, entry in enumerate(reader.entries()):
                reader.locate(entry.tile_id)
                if index > 100:
                    break
    except TileSourceError as exc:
        assert "\n" not in exc.message


@pytest.mark.parametrize("content", [b"", b"PMTiles", b"PMTiles\x02" + b"\0" * 200, b"SQLite format 3\0" * 20])
def test_what_is_no_archive_is_said_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pmtiles"
    path.write_bytes(content)
    with pytest.raises(TileSourceError, match=r"is not a PMTiles archive|PMTiles version 2"):
        PmtilesReader(str(path))


def test_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path), "/dev/zero", str(tmp_path / "fifo"), str(tmp_path / "absent")):
        with pytest.raises(TileSourceError):
            PmtilesReader(path)


def test_a_directory_bomb_is_not_unpacked() -> None:
    import gzip

    with pytest.raises(TileSourceError, match="too large directory"):
        decompress(gzip.compress(b"\0" * 1_000_000), 2, max_bytes=1000, where="test")
