# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real imagery is never called misplaced; the same imagery with flipped rows or shifted by one always is."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import ExitCode, TilePlacementError
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_placement import (
    PlacementReport,
    check_placement,
    examine_placement,
    spread_tiles,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileState, TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store_writer import TileRecord
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, TileSet
from PIL import Image
from pmtiles.reader import MmapSource, all_tiles
from shared_data import shared_files
from tile_server import tile_image

BALI = Path(__file__).parents[4] / "examples" / "imagery" / "bali.pmtiles"
SOURCE = open_source({"id": "made", "kind": "xyz", "url": "https://tiles.example.org/{z}/{x}/{y}.jpg"})


def examine(tmp_path: Path, bodies: Mapping[Tile, bytes]) -> PlacementReport:
    with TileStore(tmp_path / "tiles") as store:
        number = store.source_number(SOURCE.source_key, attribution="")
        assert number is not None
        with store.writer(number) as writer:
            writer.add(
                [TileRecord(t, TileState.PRESENT, body, hashlib.sha256(body).digest()) for t, body in bodies.items()]
            )
        return examine_placement(tiles=TileSet.from_tiles(bodies), source=SOURCE, store=store)


def flipped(bodies: Mapping[Tile, bytes]) -> dict[Tile, bytes]:
    """The same pictures under the rows that TMS gives them."""
    return {Tile(t.z, t.x, (1 << t.z) - 1 - t.y): body for t, body in bodies.items()}


def shifted(bodies: Mapping[Tile, bytes], columns: int, rows: int) -> dict[Tile, bytes]:
    return {Tile(t.z, t.x + columns, t.y + rows): body for t, body in bodies.items()}


def landscape(zooms: tuple[int, ...], side: int = 8) -> dict[Tile, bytes]:
    """A made country of hills and fields, seen at several zooms: pictures join, and quarters show what tiles show."""
    finest = zooms[-1]
    edge = (side << (finest - zooms[0])) * 256
    rng = np.random.default_rng(7)
    country = np.zeros((edge // 8, edge // 8))
    for cells in (edge // 1024, edge // 256, edge // 32):
        small = Image.fromarray(rng.uniform(0, 85, (cells, cells)).astype(np.float32))
        country += np.asarray(small.resize(country.shape[::-1], Image.Resampling.BICUBIC))
    whole = Image.fromarray(country.clip(0, 255).astype(np.uint8))
    bodies: dict[Tile, bytes] = {}
    for zoom in zooms:
        count, first = side << (zoom - zooms[0]), 100 << (zoom - zooms[0])
        scaled = whole.resize((count * 256, count * 256), Image.Resampling.BILINEAR)
        for x in range(count):
            for y in range(count):
                out = io.BytesIO()
                scaled.crop((x * 256, y * 256, x * 256 + 256, y * 256 + 256)).save(out, "JPEG", quality=80)
                bodies[Tile(zoom, first + x, first + y)] = out.getvalue()
    return bodies


COUNTRY = landscape((9, 10), side=5)


def test_a_country_lies_where_it_is_said_to(tmp_path: Path) -> None:
    found = examine(tmp_path, COUNTRY)
    assert found.verdict == "as_said"
    assert found.seams >= 6 and found.seams_flipped == 0 and found.quarters_fit == found.quarters >= 6
    check_placement(found, source=SOURCE)


def test_flipped_rows_are_a_fault_that_names_the_other_kind(tmp_path: Path) -> None:
    found = examine(tmp_path, flipped(COUNTRY))
    assert found.verdict == "rows_flipped"
    with pytest.raises(TilePlacementError, match="made count their rows from the other end: .* wrong edges") as caught:
        check_placement(found, source=SOURCE)
    assert "kind = 'tms'" in caught.value.remediation
    for kind, step in (("folder", "kind = 'folder_tms'"), ("mbtiles", "make the archive anew")):
        local = SimpleNamespace(id="local", spec=SimpleNamespace(kind=kind))
        with pytest.raises(TilePlacementError) as caught:
            check_placement(found, source=local)  # type: ignore[arg-type]
        assert step in caught.value.remediation
    assert caught.value.code is ExitCode.DOWNLOAD_FAILED
    assert examine(tmp_path / "one", {t: body for t, body in flipped(COUNTRY).items() if t.z == 9}).seams_flipped >= 6


@pytest.mark.parametrize(("columns", "rows"), [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1)])
def test_tiles_that_are_shifted_by_one_are_a_fault(tmp_path: Path, columns: int, rows: int) -> None:
    found = examine(tmp_path, shifted(COUNTRY, columns, rows))
    assert (found.verdict, found.columns, found.rows) == ("shifted", -columns, -rows)
    with pytest.raises(TilePlacementError, match=f"lies {-columns} columns east and {-rows} rows south of"):
        check_placement(found, source=SOURCE)


def test_zooms_of_different_seasons_are_no_fault(tmp_path: Path) -> None:
    """Another picture of the same country at the coarser zoom: nothing fits, so nothing fits better elsewhere."""
    other = {t: tile_image(t.x * 99 + t.y) if t.z == 9 else body for t, body in COUNTRY.items()}
    assert examine(tmp_path, other).verdict == "undecided"


@pytest.mark.parametrize("kind", ["noise", "one", "stripes", "few"])
def test_what_shows_nothing_is_undecided(tmp_path: Path, kind: str) -> None:
    def body(tile: Tile) -> bytes:
        if kind == "noise":
            return tile_image(tile.x * 1000 + tile.y)
        if kind == "stripes":
            out = io.BytesIO()
            Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).save(out, "PNG")
            return out.getvalue()
        return tile_image(5)

    tiles = [t for t in COUNTRY if kind != "few" or (t.x, t.y) in {(500, 500), (500, 501)}]
    assert examine(tmp_path, {tile: body(tile) for tile in tiles}).verdict == "undecided"


def archived(path: Path) -> dict[Tile, bytes]:
    with path.open("rb") as stream:
        return {Tile(*place): body for place, body in all_tiles(MmapSource(stream))}


def test_the_shipped_archive_is_no_fault(tmp_path: Path) -> None:
    bodies = archived(BALI)
    assert len(bodies) > 10
    assert examine(tmp_path, bodies).verdict == "as_said"
    assert examine(tmp_path / "flipped", flipped(bodies)).verdict in {"rows_flipped", "undecided"}


SETS = {
    path.parts[-4] if path.parts[-4] != "xyz" else "arroio": path.parents[2]
    for pattern in ("*/*/*/*.jpg", "*/*/*/*/*.jpg", "*/*/*/*.png")
    for path in shared_files("imagery", pattern)
    if path.stem.isdigit() and "wildnav" not in str(path)
}


@pytest.mark.parametrize("name", sorted(SETS))
def test_real_imagery_is_no_fault_and_its_flip_is_one(tmp_path: Path, name: str) -> None:
    bodies = {
        Tile(int(path.parts[-3]), int(path.parts[-2]), int(path.stem)): path.read_bytes()
        for path in SETS[name].glob("1[78]/*/*.*")
    }
    assert examine(tmp_path, bodies).verdict == "as_said"
    assert examine(tmp_path / "flipped", flipped(bodies)).verdict == "rows_flipped"
    if len({tile.z for tile in bodies}) > 1:
        found = examine(tmp_path / "shifted", shifted(bodies, 0, -1))
        assert (found.verdict, found.columns, found.rows) == ("shifted", 0, 1)


def test_the_sample_is_spread() -> None:
    tiles = TileSet.from_tiles(COUNTRY)
    sample = spread_tiles(tiles, 10, 7)
    assert len(sample) == 7 == len(set(sample))
    assert (sample[0], sample[-1]) == (Tile(10, 200, 200), Tile(10, 209, 209))
    assert spread_tiles(tiles, 3, 5) == []
