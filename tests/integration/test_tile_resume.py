# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A download that is killed goes on where it was; several at once share one store."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import DownloadError
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_archive import cut_archive
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import TileRun, TileSet
from invariants import store_faults
from power import LoopDisk
from tile_server import Reply, Request, TileServer, good, seed_of, tile_image

REPO = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import TileRun, TileSet
tiles = TileSet.from_runs([TileRun(14, y, 200, 219) for y in range(70, 70 + int(sys.argv[4]))])
source = open_source({"id": "scripted", "kind": "xyz", "url": sys.argv[2], "connections": 8})
with TileStore(Path(sys.argv[3])) as store:
    report = download_tiles(tiles=tiles, source=source, store=store)
assert report.present == len(tiles), report
"""


def rows(count: int) -> TileSet:
    return TileSet.from_runs([TileRun(14, y, 200, 219) for y in range(70, 70 + count)])


def start(server: TileServer, root: Path, count: int) -> subprocess.Popen[bytes]:
    url = server.base + "/{z}/{x}/{y}.jpg"
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(REPO / "dev"), url, str(root), str(count)])


def assert_whole(server: TileServer, root: Path, count: int) -> str:
    """Everything is there, byte for byte; the archive's SHA-256."""
    assert store_faults(root) == []
    source = open_source({"id": "scripted", "kind": "xyz", "url": server.base + "/{z}/{x}/{y}.jpg"})
    with TileStore(root) as store:
        number = store.source_number(source.source_key)
        assert number is not None
        for tile in rows(count):
            assert store.body(number, tile) == tile_image(seed_of(f"/{tile.z}/{tile.x}/{tile.y}.jpg"))
        return cut_archive(tiles=rows(count), store=store, source=source, path=root / "a.pmtiles").sha256


@pytest.mark.parametrize("after_requests", [40, 150, 300])
def test_kill_9_costs_at_most_the_tiles_in_flight(after_requests: int, tmp_path: Path) -> None:
    reached = threading.Event()

    def script(request: Request, attempt: int) -> Reply:
        if len(server.requests) >= after_requests:
            reached.set()
        return good(request, attempt)

    for seed in range(400):
        tile_image(seed_of(f"/14/{200 + seed % 20}/{70 + seed // 20}.jpg"))
    with TileServer(script) as server:
        first = start(server, tmp_path / "tiles", 20)
        assert reached.wait(30)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        asked_first = len(server.requests)
        url = server.base + "/{z}/{x}/{y}.jpg"
        source = open_source({"id": "scripted", "kind": "xyz", "url": url, "connections": 8})
        with TileStore(tmp_path / "tiles") as store:
            report = download_tiles(tiles=rows(20), source=source, store=store)
        assert report.present == 400
        asked = Counter(request.path for request in server.requests)
        assert max(asked.values()) <= 2
        # Asked twice is only what was asked but not yet durable at the kill.
        assert len(server.requests) - 400 <= asked_first + 8 - report.reused
        assert_whole(server, tmp_path / "tiles", 20)


def test_several_processes_share_one_store(tmp_path: Path) -> None:
    with TileServer() as server:
        running = [start(server, tmp_path / "tiles", count) for count in (10, 10, 6)]
        assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
        together = assert_whole(server, tmp_path / "tiles", 10)
        alone = start(server, tmp_path / "alone", 10)
        assert alone.wait(timeout=60) == 0
        assert assert_whole(server, tmp_path / "alone", 10) == together


def test_a_bit_that_rots_is_found_and_fetched_again(tmp_path: Path) -> None:
    with TileServer() as server:
        source = open_source({"id": "scripted", "kind": "xyz", "url": server.base + "/{z}/{x}/{y}.jpg"})
        with TileStore(tmp_path / "tiles") as store:
            download_tiles(tiles=rows(2), source=source, store=store)
            (pack,) = (tmp_path / "tiles" / "packs").iterdir()
            content = bytearray(pack.read_bytes())
            content[random.Random(3).randrange(len(content))] ^= 1
            pack.write_bytes(content)
            archive = tmp_path / "a.pmtiles"
            with pytest.raises(DownloadError, match=r"1 tiles in the tile store .* are damaged on the disk"):
                cut_archive(tiles=rows(2), store=store, source=source, path=archive)
            assert not archive.exists()
            server.requests.clear()
            report = download_tiles(tiles=rows(2), source=source, store=store)
            assert (report.downloaded, report.reused, len(server.requests)) == (1, 39, 1)
        assert_whole(server, tmp_path / "tiles", 2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    found = LoopDisk.create(tmp_path)
    yield found
    found.remove()


def test_a_full_disk_is_said_and_the_store_stays_whole(disk: LoopDisk) -> None:
    store, ballast = disk.mountpoint / "tiles", disk.mountpoint / "ballast"
    room = os.statvfs(disk.mountpoint)
    with ballast.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, room.f_bavail * room.f_bsize - 500_000)
    with TileServer() as server:
        url = server.base + "/{z}/{x}/{y}.jpg"
        arguments = [sys.executable, "-c", PROGRAM, str(REPO / "dev"), url, str(store), "10"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert re.search(r"DownloadError: (the disk of )?the tile store .* (is full|disk is full)", done.stderr)
        ballast.unlink()
        again = start(server, store, 10)
        assert again.wait(timeout=60) == 0
        assert_whole(server, store, 10)
