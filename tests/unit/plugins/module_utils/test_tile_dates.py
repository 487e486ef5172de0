# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_dates import (
    ImageryDates,
    date_warnings,
    examine_dates,
    parse_day,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileState, TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store_writer import TileRecord
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, TileSet
from hypothesis import given
from hypothesis import strategies as st

SOURCE = open_source({"id": "made", "kind": "xyz", "url": "https://tiles.example.org/{z}/{x}/{y}.jpg"})
DAY_S = 86_400
NOW_S = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())


def http_date(moment_s: int) -> str:
    return format_datetime(datetime.fromtimestamp(moment_s, tz=UTC), usegmt=True)


def examine(tmp_path: Path, *told: tuple[int, str | None, str | None]) -> ImageryDates:
    """Tiles by when they were fetched (days from now), their Last-Modified and the date of their imagery."""
    tiles = [Tile(12, 100 + index, 50) for index in range(len(told))]
    with TileStore(tmp_path / "tiles") as store:
        number = store.source_number(SOURCE.source_key, attribution="")
        assert number is not None
        with store.writer(number) as writer:
            for tile, (days, modified, taken) in zip(tiles, told):
                body = str(tile).encode()
                record = TileRecord(
                    tile,
                    TileState.PRESENT,
                    body,
                    hashlib.sha256(body).digest(),
                    last_modified=modified,
                    imagery_date=taken,
                )
                writer.add([record], now_s=NOW_S + days * DAY_S)
        return examine_dates(tiles=TileSet.from_tiles(tiles), source=SOURCE, store=store)


def test_imagery_of_two_summers_is_said(tmp_path: Path) -> None:
    found = examine(tmp_path, (0, None, "2021-07-01"), (0, None, "2024-08"), (0, None, None))
    assert (found.tiles, found.dated, found.oldest, found.newest) == (3, 2, "2021-07-01", "2024-08-01")
    assert date_warnings(found) == (
        "the imagery is of different dates: from 2021-07-01 to 2024-08-01 (2 of 3 tiles tell)",
    )


def test_imagery_of_one_summer_is_no_warning(tmp_path: Path) -> None:
    assert date_warnings(examine(tmp_path, (0, None, "2024-05-01"), (0, None, "2024-09-30"))) == ()


def test_a_change_after_the_older_tiles_were_fetched_is_said(tmp_path: Path) -> None:
    changed = http_date(NOW_S - 100 * DAY_S)
    found = examine(tmp_path, (-200, http_date(NOW_S - 900 * DAY_S), None), (-150, None, None), (0, changed, None))
    assert (found.changed, found.before_change) == ("2026-02-21", 2)
    (warning,) = date_warnings(found)
    assert "2 of 3 tiles were fetched before the provider changed others on 2026-02-21" in warning


@pytest.mark.parametrize(
    "told",
    [
        [(-200, None, None), (0, None, None)],
        [(-200, http_date(NOW_S - 900 * DAY_S), None), (0, http_date(NOW_S - 300 * DAY_S), None)],
        [(-200, http_date(NOW_S - 200 * DAY_S), None), (0, http_date(NOW_S), None)],
        [(-200, "yesterday", "soon"), (0, "tomorrow", "99")],
        [],
    ],
    ids=["nothing told", "changed before all", "made on demand", "nonsense", "no tiles"],
)
def test_what_says_nothing_is_no_warning(tmp_path: Path, told: list[tuple[int, str | None, str | None]]) -> None:
    assert date_warnings(examine(tmp_path, *told)) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-07-09", date(2024, 7, 9)),
        (" 2024-07 ", date(2024, 7, 1)),
        ("2024", date(2024, 1, 1)),
        ("20240709", date(2024, 7, 9)),
        ("2024-07-09T10:00:00Z", date(2024, 7, 9)),
        ("Tue, 09 Jul 2024 10:00:00 GMT", date(2024, 7, 9)),
        ("2024-13-01", None),
        ("0000", None),
        ("", None),
    ],
)
def test_days(text: str, expected: date | None) -> None:
    assert parse_day(text) == expected


@given(st.text(max_size=40))
def test_no_text_is_more_than_no_day(text: str) -> None:
    assert parse_day(text) is None or isinstance(parse_day(text), date)
