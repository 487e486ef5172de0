# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheVerifyError
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_faults import Reason, reason_of
from ansible_collections.gps_denied.preflight.plugins.module_utils._geo import LonLat
from ansible_collections.gps_denied.preflight.plugins.module_utils._takeoff_check_route import (
    check_coverage,
    read_route,
    tiles_of_leg,
)
from cache_samples import tile_archive

ZOOM = 15
BEGIN, END = LonLat(lon=115.20, lat=-8.70), LonLat(lon=115.32, lat=-8.61)


def covering(*legs: tuple[LonLat, LonLat]) -> set[tuple[int, int, int]]:
    return {(ZOOM, x, y) for begin, end in legs for x, y in tiles_of_leg(begin, end, ZOOM)}


def archive(folder: Path, tiles: set[tuple[int, int, int]]) -> str:
    path = folder / "tiles.pmtiles"
    path.write_bytes(tile_archive(tiles))
    return str(path)


def test_a_covered_route_is_covered_and_each_missing_tile_is_found(tmp_path: Path) -> None:
    tiles = covering((BEGIN, END))
    assert check_coverage(archive(tmp_path, tiles), [[BEGIN, END]]).tile_count == len(tiles)
    for missing in sorted(tiles):
        with pytest.raises(
            CacheVerifyError, match=f"tile {ZOOM}/{missing[1]}/{missing[2]} on the leg from lon 115.2"
        ) as caught:
            check_coverage(archive(tmp_path, tiles - {missing}), [[BEGIN, END]])
        assert reason_of(caught.value) is Reason.ROUTE_UNCOVERED


def test_a_leg_touches_every_tile_that_a_point_of_it_lies_in() -> None:
    dice = random.Random(3)
    for _turn in range(300):
        begin = LonLat(lon=dice.uniform(-180, 180), lat=dice.uniform(-84, 84))
        end = LonLat(
            lon=(begin.lon + dice.uniform(-0.3, 0.3) + 180) % 360 - 180,
            lat=max(-85, min(85, begin.lat + dice.uniform(-0.3, 0.3))),
        )
        touched = set(tiles_of_leg(begin, end, 14))
        columns = {column for column, _row in touched}
        assert all(0 <= column < 1 << 14 for column in columns)
        span = (end.lon - begin.lon + 540) % 360 - 180
        rows = [row(begin.lat), row(end.lat)]
        for step in range(101):
            part = step / 100
            column = ((begin.lon + span * part + 180) / 360 * (1 << 14)) % (1 << 14)
            line = rows[0] + (rows[1] - rows[0]) * part
            near_edge = min(column % 1, 1 - column % 1, line % 1, 1 - line % 1) < 1e-6
            assert near_edge or (math.floor(column), math.floor(line)) in touched


def row(lat: float) -> float:
    return (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * (1 << 14)


def test_the_short_way_across_the_antimeridian_is_flown(tmp_path: Path) -> None:
    begin, end = LonLat(lon=179.99, lat=-17.0), LonLat(lon=-179.99, lat=-17.01)
    tiles = covering((begin, end))
    assert {x for _z, x, _y in tiles} <= {0, 1, (1 << ZOOM) - 2, (1 << ZOOM) - 1}
    check_coverage(archive(tmp_path, tiles), [[begin, end]])


def write(folder: Path, content: str | bytes | dict[str, Any]) -> str:
    path = folder / "route"
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


LINE = {"type": "LineString", "coordinates": [[115.2, -8.7, 50], [115.32, -8.61]]}


@pytest.mark.parametrize(
    "document",
    [
        LINE,
        {"type": "Feature", "geometry": LINE, "properties": {}},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": LINE}]},
        {"type": "MultiLineString", "coordinates": [LINE["coordinates"]]},
        {"type": "GeometryCollection", "geometries": [LINE]},
    ],
)
def test_geojson_in_its_shapes_is_read(tmp_path: Path, document: dict[str, Any]) -> None:
    assert read_route(write(tmp_path, document)) == [[BEGIN, END]]


def test_a_waypoint_file_is_read_without_items_that_are_no_place(tmp_path: Path) -> None:
    rows = [
        "0 1 0 16 0 0 0 0 -8.70 115.20 30 1",
        "1 0 3 22 0 0 0 0 0 0 20 1",
        "2 0 3 16 0 0 0 0 -8.61 115.32 50 1",
        "3 0 3 178 1 5 0 0 1 1 0 1",
        "4 0 3 20 0 0 0 0 0 0 0 1",
    ]
    path = write(tmp_path, "QGC WPL 110\r\n" + "\r\n".join(row.replace(" ", "\t") for row in rows))
    assert read_route(path) == [[BEGIN, END]]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff\xfe", b"[]", b'{"type":"Nothing"}', b'{"type":"Point","coordinates":[200,0]}',
        b'{"type":"Point","coordinates":["a","b"]}', b'{"type":"LineString","coordinates":[[1]]}',
        b"QGC WPL 110\n1 2 3\n",
        b"QGC WPL 110\n", b'{"type":"Point","coordinates":[1e999,0]}', b'{"type":"FeatureCollection","features":[]}',
        b'{"type":"Feature","geometry":' * 40 + b"1" + b"}" * 40, b"[" * 100000, b" " * (5 * 1024 * 1024),
        b'{"type":"Feature","geometry":null}',
    ],
    ids=range(16),
)  # fmt: skip
def test_what_is_no_route_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CacheVerifyError) as caught:
        read_route(write(tmp_path, content))
    assert reason_of(caught.value) is Reason.ROUTE_UNREADABLE


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path, covering((BEGIN, END)))
    Path(path).write_bytes(Path(path).read_bytes()[:130])
    with pytest.raises(CacheVerifyError) as caught:
        check_coverage(path, [[BEGIN, END]])
    assert reason_of(caught.value) is Reason.ARCHIVE_DAMAGED
