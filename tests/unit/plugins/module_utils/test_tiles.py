# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math

import mercantile
import numpy as np
import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._geo import LonLat
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import (
    Tile,
    TileRun,
    TileSet,
    ground_resolution_m,
    tile_at,
    tile_bounds,
    zoom_for_gsd,
)
from hypothesis import given
from hypothesis import strategies as st

_TILES = st.integers(0, 6).flatmap(
    lambda z: st.tuples(st.just(z), st.integers(0, (1 << z) - 1), st.integers(0, (1 << z) - 1))
)


@given(st.sets(_TILES, max_size=120))
def test_a_set_holds_exactly_its_tiles_sorted_by_zoom_row_column(members):
    tiles = TileSet.from_tiles(Tile.of(*member) for member in members)
    expected = sorted((Tile(*member) for member in members), key=lambda tile: (tile.z, tile.y, tile.x))
    assert list(tiles) == expected
    assert len(tiles) == len(members)
    assert all(tile in tiles for tile in expected)
    assert sum(tiles.counts_by_zoom.values()) == len(members)
    for z in range(7):
        for member in [(z, 0, 0), (z, (1 << z) - 1, 0)]:
            assert (Tile(*member) in tiles) == (member in members)


@given(st.sets(_TILES, max_size=120), st.integers(1, 9))
def test_chunks_give_the_same_tiles_in_the_same_order(members, size):
    tiles = TileSet.from_tiles(Tile.of(*member) for member in members)
    found = []
    for z, columns, rows in tiles.chunks(size):
        assert 1 <= len(columns) == len(rows) <= size
        assert columns.dtype == rows.dtype == np.int32
        found.extend(Tile(z, x, y) for x, y in zip(columns.tolist(), rows.tolist()))
    assert found == list(tiles)


def test_equal_sets_have_equal_fingerprints_however_they_were_made():
    one = TileSet.from_runs([TileRun(3, 1, 0, 3), TileRun(3, 1, 2, 5)])
    other = TileSet.from_tiles(Tile(3, x, 1) for x in (5, 4, 3, 2, 1, 0))
    assert one == other
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != TileSet.from_runs([TileRun(3, 1, 0, 4)]).fingerprint


@pytest.mark.parametrize(
    "runs",
    [
        (TileRun(3, 1, 2, 1),),
        (TileRun(3, 8, 0, 0),),
        (TileRun(3, 1, 0, 8),),
        (TileRun(25, 0, 0, 0),),
        (TileRun(3, 1, 0, 2), TileRun(3, 1, 3, 4)),
        (TileRun(3, 2, 0, 2), TileRun(3, 1, 3, 4)),
    ],
)
def test_runs_that_do_not_exist_or_are_not_joined_are_refused(runs):
    with pytest.raises(ValueError, match="runs? of tiles"):
        TileSet(runs)


def test_the_empty_set():
    tiles = TileSet(())
    assert len(tiles) == 0
    assert list(tiles) == list(tiles.chunks()) == []
    with pytest.raises(ValueError, match="empty set"):
        tiles.min_zoom  # noqa: B018


@pytest.mark.parametrize("member", [(3, 8, 0), (3, 0, -1), (25, 0, 0), (-1, 0, 0)])
def test_a_tile_outside_the_grid_is_refused(member):
    with pytest.raises(ValueError, match=r"does not exist|is outside"):
        Tile.of(*member)


@given(st.floats(-180, 179.999999), st.floats(-85.05, 85.05), st.integers(0, 22))
def test_positions_fall_into_the_tile_that_mercantile_names(lon, lat, zoom):
    ours = tile_at(LonLat(lon=lon, lat=lat), zoom)
    theirs = mercantile.tile(lon, lat, zoom)
    # On the border between two tiles rounding decides.
    assert abs(ours.x - theirs.x) <= 1
    assert abs(ours.y - theirs.y) <= 1
    bounds = tile_bounds(ours)
    assert bounds.west - 1e-9 <= lon <= bounds.east + 1e-9
    assert bounds.south - 1e-9 <= lat <= bounds.north + 1e-9


def test_beyond_the_mercator_square_there_is_no_tile():
    with pytest.raises(ValueError, match="where no tile exists"):
        tile_at(LonLat(lon=0, lat=85.06), 3)


@given(st.floats(0.01, 50_000), st.floats(-85, 85))
def test_the_zoom_for_a_gsd_is_the_shallowest_that_is_fine_enough(gsd_m, lat):
    zoom = zoom_for_gsd(gsd_m, lat)
    if zoom < 24:
        assert ground_resolution_m(lat, zoom) <= gsd_m * (1 + 1e-8)
    if zoom > 0:
        assert ground_resolution_m(lat, zoom - 1) > gsd_m


def test_ground_resolution_at_the_equator():
    assert ground_resolution_m(0, 0) == pytest.approx(156543.03392804097)
    assert ground_resolution_m(60, 18) == pytest.approx(ground_resolution_m(0, 18) / 2)


@pytest.mark.parametrize("gsd_m", [0, -1, math.nan, math.inf])
def test_a_gsd_that_is_not_positive_is_refused(gsd_m):
    with pytest.raises(ValueError, match="not positive"):
        zoom_for_gsd(gsd_m, 0)
