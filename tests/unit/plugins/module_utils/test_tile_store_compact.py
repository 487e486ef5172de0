# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _tile_store_pack
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileState, TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store_compact import (
    compact_store,
    measure_store,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store_writer import TileRecord
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile
from invariants import store_faults

REPO = Path(__file__).resolve().parents[4]
BODY_BYTES = 1000
TILES = 40


def body_of(x: int, version: int) -> bytes:
    return f"{x}-{version}-".encode().ljust(BODY_BYTES, b"x")


def fill(root: Path, columns: range, version: int, *, now_s: int = 100) -> None:
    with TileStore(root) as store:
        number = store.source_number("made@1", attribution="us")
        assert number is not None
        with store.writer(number) as writer:
            for start in range(columns.start, columns.stop, 5):
                bodies = [(x, body_of(x, version)) for x in columns[start - columns.start :][:5]]
                writer.add(
                    [TileRecord(Tile(8, x, 7), TileState.PRESENT, body, hashlib.sha256(body).digest())
                     for x, body in bodies],
                    now_s=now_s,
                )  # fmt: skip


def wrong_tiles(root: Path) -> list[int]:
    """Columns whose body is not the one that was stored last; half of them were refreshed."""
    with TileStore(root) as store:
        number = store.source_number("made@1") or 0
        return [x for x in range(TILES) if store.body(number, Tile(8, x, 7)) != body_of(x, int(x % 20 >= 10))]


def disk_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / "packs").iterdir())


@pytest.fixture
def refreshed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small packs, and half of the tiles fetched a second time with other bodies."""
    monkeypatch.setattr(_tile_store_pack, "PACK_BYTES", 12 * BODY_BYTES)
    root = tmp_path / "tiles"
    fill(root, range(TILES), 0)
    fill(root, range(10, 20), 1, now_s=200)
    fill(root, range(30, 40), 1, now_s=200)
    return root


def test_superseded_bodies_give_their_space_back(refreshed: Path) -> None:
    with TileStore(refreshed) as store:
        size = measure_store(store)
    assert (size.live_bytes, size.dead_bytes, size.tiles) == (TILES * BODY_BYTES, 20 * BODY_BYTES, TILES)
    assert [(source.source_key, source.tiles) for source in size.sources] == [("made@1", TILES)]
    with TileStore(refreshed, alone=True) as store:
        report = compact_store(store)
    assert (report.freed_bytes, report.forgotten_tiles, report.damaged) == (20 * BODY_BYTES, 0, 0)
    assert disk_bytes(refreshed) == TILES * BODY_BYTES
    assert wrong_tiles(refreshed) == []
    assert store_faults(refreshed) == []
    with TileStore(refreshed, alone=True) as store:
        assert compact_store(store).moved_bytes == 0


def test_a_limit_forgets_what_was_fetched_longest_ago(refreshed: Path) -> None:
    with TileStore(refreshed, alone=True) as store:
        report = compact_store(store, max_bytes=25 * BODY_BYTES)
    assert report.forgotten_tiles == 15
    assert disk_bytes(refreshed) == 25 * BODY_BYTES
    assert store_faults(refreshed) == []
    assert wrong_tiles(refreshed) == [*range(10), *range(20, 25)]


def test_the_emptied_packs_are_used_again(refreshed: Path) -> None:
    with TileStore(refreshed, alone=True) as store:
        compact_store(store, max_bytes=0)
    packs = sorted((refreshed / "packs").iterdir())
    assert disk_bytes(refreshed) == 0
    fill(refreshed, range(12), 0)
    assert sorted((refreshed / "packs").iterdir()) == packs
    assert store_faults(refreshed) == []


def test_damaged_bodies_are_forgotten_not_moved(refreshed: Path) -> None:
    first = refreshed / "packs" / "000001.pack"
    first.write_bytes(b"#" + first.read_bytes()[1:])
    with TileStore(refreshed, alone=True) as store:
        assert compact_store(store).damaged == 1
    assert wrong_tiles(refreshed) == [0]
    assert store_faults(refreshed) == []


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from ansible_collections.gps_denied.preflight.plugins.module_utils import _tile_store_compact, _tile_store_pack
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
_tile_store_pack.PACK_BYTES = 12000
left = 0

def counted(call):
    def wrapped(*arguments):
        step()
        return call(*arguments)
    return wrapped

def step(*_ignored):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

def hasty(move):
    def moved(store, number, target):
        place = store.packs / f"{number:06d}.pack"
        append = target.append
        def cut_too_early(bodies):
            offsets = append(bodies)
            os.truncate(place, 0)
            return offsets
        target.append = cut_too_early
        try:
            return move(store, number, target)
        finally:
            target.append = append
    return moved

if sys.argv[3] == "hasty":
    _tile_store_compact._move = hasty(_tile_store_compact._move)
for name in ("pwrite", "fdatasync", "ftruncate"):
    setattr(os, name, counted(getattr(os, name)))
for count, folder in enumerate(sorted(Path(sys.argv[2]).iterdir())):
    child = os.fork()
    if not child:
        store = TileStore(folder, alone=True)
        left = count
        store.connection.set_trace_callback(step)
        _tile_store_compact.compact_store(store)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(folder.name, status, flush=True)
    if status != -signal.SIGKILL:
        sys.exit(status)
"""


def kill_everywhere(refreshed: Path, folder: Path, manner: str) -> list[Path]:
    """Copies of the store, the n-th killed before its n-th step; the last one came to its end."""
    for number in range(80):
        shutil.copytree(refreshed, folder / f"{number:03d}")
    command = [sys.executable, "-c", KILLED, str(REPO / "dev"), str(folder), manner]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[-1][1] == "0"
    assert len(lines) > 20
    return [folder / name for name, _status in lines]


def test_a_kill_at_any_step_loses_no_tile(refreshed: Path, tmp_path: Path) -> None:
    for root in kill_everywhere(refreshed, tmp_path / "killed", "as it is"):
        assert store_faults(root) == []
        assert wrong_tiles(root) == []
        with TileStore(root, alone=True) as store:
            compact_store(store)
        assert wrong_tiles(root) == []
        assert disk_bytes(root) == TILES * BODY_BYTES


def test_the_sweep_convicts_one_that_cuts_the_old_pack_too_early(refreshed: Path, tmp_path: Path) -> None:
    assert any(store_faults(root) for root in kill_everywhere(refreshed, tmp_path / "killed", "hasty"))
