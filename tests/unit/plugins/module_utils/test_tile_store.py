# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _tile_store_pack
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import DownloadError
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileState, TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store_writer import TileRecord
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, TileRun


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TileStore]:
    with TileStore(tmp_path / "tiles") as opened:
        yield opened


def record(x: int, body: bytes, **more: object) -> TileRecord:
    return TileRecord(Tile(5, x, 7), TileState.PRESENT, body, hashlib.sha256(body).digest(), **more)  # type: ignore[arg-type]


def number_of(store: TileStore, name: str = "made@1") -> int:
    number = store.source_number(name, attribution="us")
    assert number is not None
    return number


RUN = TileRun(5, 7, 0, 9)


def test_equal_bodies_lie_once_even_across_sources(store: TileStore) -> None:
    one, two = number_of(store), number_of(store, "other@1")
    with store.writer(one) as writer:
        assert writer.add([record(0, b"a" * 100), record(1, b"b" * 100), record(2, b"a" * 100)]) == [
            hashlib.sha256(b"a" * 100).digest()
        ]
    with store.writer(two) as writer:
        assert len(writer.add([record(0, b"b" * 100)])) == 1
    assert sum(path.stat().st_size for path in store.packs.iterdir()) == 200
    assert store.body(one, Tile(5, 2, 7)) == b"a" * 100
    assert store.body(two, Tile(5, 0, 7)) == b"b" * 100
    assert store.body(two, Tile(5, 1, 7)) is None


def test_the_survey_sorts_a_run(store: TileStore) -> None:
    number = number_of(store)
    with store.writer(number) as writer:
        writer.add([record(0, b"old", etag="e")], now_s=100)
        writer.add([record(1, b"new")], now_s=1000)
        writer.add(
            [TileRecord(Tile(5, 2, 7), TileState.MISSING), TileRecord(Tile(5, 3, 7), TileState.PLACEHOLDER)], now_s=500
        )
    survey = store.survey(number, RUN, fresh_since_s=200, void_since_s=400)
    assert (survey.present, survey.missing, survey.placeholder) == (1, (2,), (3,))
    assert [(stored.tile.x, stored.etag) for stored in survey.stale] == [(0, "e")]
    assert survey.absent == (4, 5, 6, 7, 8, 9)
    assert store.survey(number, RUN, void_since_s=600).absent == (2, 3, 4, 5, 6, 7, 8, 9)
    with store.writer(number) as writer:
        writer.add([TileRecord(Tile(5, 0, 7), TileState.PRESENT, still_valid=True)], now_s=2000)
    survey = store.survey(number, TileRun(5, 7, 0, 1), fresh_since_s=200)
    assert (survey.present, survey.present_bytes) == (2, 6)
    assert store.body(number, Tile(5, 0, 7)) == b"old"


def test_a_placeholder_is_remembered_for_later_runs(store: TileStore) -> None:
    number = number_of(store)
    with store.writer(number) as writer:
        writer.add([record(x, b"no imagery") for x in range(4)])
        assert writer.mark_placeholder(hashlib.sha256(b"no imagery").digest()) == 4
    with store.writer(number) as writer:
        assert writer.placeholder_sha256 == {hashlib.sha256(b"no imagery").digest()}
    assert store.survey(number, RUN).placeholder == (0, 1, 2, 3)


def test_a_full_pack_is_followed_by_another(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tile_store_pack, "PACK_BYTES", 1000)
    number = number_of(store)
    with store.writer(number) as writer:
        for x in range(10):
            writer.add([record(x, bytes([x]) * 400)])
    assert len(list(store.packs.iterdir())) == 4
    assert all(store.body(number, Tile(5, x, 7)) == bytes([x]) * 400 for x in range(10))


def test_two_writers_at_once_use_two_packs_and_a_later_one_uses_them_again(store: TileStore, tmp_path: Path) -> None:
    number = number_of(store)
    with TileStore(tmp_path / "tiles") as second, store.writer(number) as one, second.writer(number) as two:
        one.add([record(0, b"one")])
        two.add([record(1, b"two")])
        one.add([record(2, b"three")])
        assert len(list(store.packs.iterdir())) == 2
    with store.writer(number) as writer:
        writer.add([record(3, b"four")])
    assert len(list(store.packs.iterdir())) == 2
    assert [store.body(number, Tile(5, x, 7)) for x in range(4)] == [b"one", b"two", b"three", b"four"]


def test_bytes_that_a_killed_writer_left_are_reclaimed(store: TileStore) -> None:
    number = number_of(store)
    with store.writer(number) as writer:
        writer.add([record(0, b"kept")])
    (pack,) = store.packs.iterdir()
    with pack.open("ab") as stream:
        stream.write(b"never named")
    with store.writer(number) as writer:
        writer.add([record(1, b"next")])
    assert pack.read_bytes() == b"keptnext"


def test_a_failed_sync_puts_nothing_into_the_index(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    number = number_of(store)
    with store.writer(number) as writer:
        writer.add([record(0, b"kept")])

        def fail(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fdatasync", fail)
            with pytest.raises(DownloadError, match="the disk of the tile store .* is full"):
                writer.add([record(1, b"lost")])
        assert store.survey(number, RUN).present == 1
        writer.add([record(1, b"again")])
    assert store.body(number, Tile(5, 1, 7)) == b"again"


def test_the_store_is_for_its_owner_alone(store: TileStore) -> None:
    with store.writer(number_of(store)) as writer:
        writer.add([record(0, b"a")])
    assert store.root.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in store.packs.iterdir())


def test_a_store_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot make the tile store"):
        TileStore(tmp_path / "file" / "tiles")
