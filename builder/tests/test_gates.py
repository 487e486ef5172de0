# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Gates, localisability and the parts they rest on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest
from c10_builder import _gates, _lite0, open_index
from c10_builder._geo import Polygons, hilbert_keys, lonlat_of, mercator_of
from c10_builder._hard import as_seen_from_the_air
from c10_builder._heads import open_head
from c10_builder._index import META_DTYPE, replay_probes
from c10_builder._localise import localisability
from c10_builder._pack import Rows, fit_pca, let_go, project, quantise
from c10_builder._pmtiles import tile_id_of, zxy_of
from c10_builder._session import Runtime
from c10_builder._vlad import unit_rows
from c10_builder.bench import wilson
from support import ground


def test_a_mutated_model_is_caught_before_centring_could_hide_it() -> None:
    head = open_head("lite0-vlad")
    image = ground(4, 3)
    pictures = np.stack([image[y : y + 224, x : x + 224] for y in range(0, 512, 90) for x in range(0, 768, 90)])
    _figures, findings = _gates.degeneracy(head.describe(pictures), head.telling_dim)
    assert not any(finding.fatal for finding in findings)
    run = head._session.run
    # a conversion that loses the scale of the features: a large constant drowns what differs
    head._session.run = lambda pictures: run(pictures) * 1e-4 + 5.0  # type: ignore[method-assign]
    figures, findings = _gates.degeneracy(head.describe(pictures), head.telling_dim)
    assert any(finding.fatal for finding in findings), figures


def test_few_rows_make_findings_warnings() -> None:
    rows = unit_rows(np.ones((6, 8)) + np.eye(6, 8) * 1e-3)
    _figures, findings = _gates.degeneracy(rows)
    assert findings and not any(finding.fatal for finding in findings)


def test_a_descriptor_does_not_depend_on_its_company() -> None:
    image = ground(2, 2)
    pictures = np.stack([image[k * 40 : k * 40 + 288, k * 30 : k * 30 + 288] for k in range(5)])
    for model in ("orb-vlad", "lite0-vlad"):
        head = open_head(model, Runtime(threads=2))
        crops = pictures[:, : head.window_px, : head.window_px]
        together = head.describe(crops)
        for k in range(len(crops)):
            assert np.array_equal(head.describe(crops[k : k + 1])[0], together[k]), model


def test_the_shipped_backbone_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lite0, "BACKBONE", (_lite0.BACKBONE[0], "0" * 64))
    with pytest.raises(Exception, match="not the one it was released with"):
        open_head("lite0-vlad")


def test_localisability_is_low_where_the_map_repeats_itself() -> None:
    side = 100.0
    facts = np.zeros(40, dtype=META_DTYPE)
    facts["mx_m"], facts["side_m"] = np.arange(40) * side / 2, side
    rng = np.random.RandomState(0)
    walk = np.cumsum(rng.randn(40, 16), axis=0)
    walk[30:36] = walk[2:8]
    coded, facts["inv_length"] = quantise(unit_rows(walk - walk.mean(axis=0)))
    values, alike, _neighbour = localisability(coded, facts, [(0, 40)], stretch=1.0)
    assert np.nanmax(values[31:35]) < 0 and np.nanmin(alike[31:35]) > 0.99
    assert np.nanmean(values[10:28]) > np.nanmean(values[30:36])


def test_probes_are_found_again(built: Tuple[Path, Dict[str, Any]]) -> None:
    result = replay_probes(open_index(built[0] / "index"))
    assert result["cos_min"] == 1.0 and result["rows_agree"] == result["probes"] == 8


def test_more_rows_than_axes_and_fewer() -> None:
    rng = np.random.RandomState(1)
    for count in (1, 5, 300):
        rows = unit_rows(rng.randn(count, 40)).astype(np.float32)
        basis = fit_pca(rows, 40)
        assert basis.shape == (40, min(40, count))
        assert np.allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-4)
        kept = project(rows, basis)
        assert np.allclose(kept @ kept.T, rows @ rows.T, atol=1e-4)


def test_tile_numbers_and_positions_round_trip() -> None:
    for key in ((0, 0, 0), (1, 1, 0), (3, 5, 2), (18, 137000, 90000), (31, 2**31 - 1, 5)):
        assert zxy_of(tile_id_of(*key)) == key
    assert [tile_id_of(1, x, y) for x, y in ((0, 0), (0, 1), (1, 1), (1, 0))] == [1, 2, 3, 4]
    lon, lat = lonlat_of(*mercator_of(lon_deg=115.16, lat_deg=-8.585))
    assert (lon, lat) == (pytest.approx(115.16, abs=1e-12), pytest.approx(-8.585, abs=1e-12))
    x, y = np.meshgrid(np.arange(8), np.arange(8))
    order = np.argsort(hilbert_keys(x.ravel(), y.ravel(), 3))
    assert len(set(hilbert_keys(x.ravel(), y.ravel(), 3).tolist())) == 64
    steps = np.abs(np.diff(x.ravel()[order])) + np.abs(np.diff(y.ravel()[order]))
    assert steps.max() == 1


def test_polygons_with_a_hole() -> None:
    outer, inner = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]], [[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]]
    shape = Polygons((np.array(outer, dtype=float), np.array(inner, dtype=float)))
    assert shape.area_m2 == 96
    assert list(shape.contains(np.array([5.0, 1.0, 11.0]), np.array([5.0, 1.0, 1.0]))) == [False, True, False]
    hit = shape.touches(
        np.array([4.5, 3.5, 20.0, -1.0]),
        np.array([4.5, 4.5, 0, -1]),
        np.array([5.5, 4.5, 21, 20]),
        np.array([5.5, 5, 1, 20]),
    )
    assert list(hit) == [False, True, False, True]


def test_wilson_interval() -> None:
    low, high = wilson(9, 20)
    assert math.isclose(low, 0.258, abs_tol=0.001) and math.isclose(high, 0.658, abs_tol=0.001)


def test_made_pictures_are_seeded_and_show_the_middle() -> None:
    wide = ground(3, 3)[:380, :380]
    one, again, other = (as_seen_from_the_air(wide, 224, seed) for seed in (5, 5, 6))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert (one.shape, one.dtype) == ((224, 224, 3), np.uint8)
    # the control: a picture of the middle is more like the middle than like ground a picture's width away
    middle, beside = wide[78:302, 78:302].astype(float), wide[:224, :224].astype(float)
    grey = one.astype(float).mean(axis=2).ravel()
    near, far = (np.corrcoef(grey, part.mean(axis=2).ravel())[0, 1] for part in (middle, beside))
    assert near > far


def _file_pages_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssFile")) / 1024


def test_rows_that_were_let_go_are_not_lost_and_take_no_memory(tmp_path: Path) -> None:
    raw = np.lib.format.open_memmap(str(tmp_path / "raw.npy"), mode="w+", dtype=np.float32, shape=(16384, 1024))
    wanted = np.random.RandomState(5).rand(64, 1024).astype(np.float32)
    raw[:] = np.tile(wanted, (256, 1))
    held = _file_pages_mb()
    let_go(raw)
    assert held - _file_pages_mb() > 60
    assert np.array_equal(raw[-64:], wanted)
    rows, before = Rows(raw, np.arange(0, 16384, 2)), _file_pages_mb()
    for start in range(0, len(rows), 1024):
        assert np.array_equal(rows[start : start + 32], wanted[::2])
    assert _file_pages_mb() - before < 10
    assert np.array_equal(np.load(tmp_path / "raw.npy", mmap_mode="r")[-64:], wanted)
