# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Store and archive without a network: intake, a run over a full store, the cut, random reads, memory at 1M tiles.

The cut's peer is writing as many bytes to one file with one fsync; the archive's, the `pmtiles` package's own reader.
The cut hashes each byte twice, as part of a tile and of the archive: what one such pass takes is printed beside it.

    python tests/bench/bench_store.py --tiles 20000 --million 1000000
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loopback import tile_set, write_tiles  # first: it finds the collection

# isort: split
from ansible_collections.gps_denied.preflight.plugins.module_utils._pmtiles import PmtilesReader
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_archive import cut_archive
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import TileSource, open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import TileSet
from pmtiles.reader import MmapSource, Reader

CUT_TIMES, READ_US, RERUN_PER_S, MEMORY_MB = 1.3, 30.0, 200_000.0, 250
ROUNDS = 5
PEER_READS = 200


def unreachable() -> TileSource:
    """A source that nobody answers: what a run over a full store must not ask."""
    return open_source({"id": "empty", "kind": "xyz", "url": "http://127.0.0.1:1/{z}/{x}/{y}.jpg"})


def write_plainly(path: Path, total_bytes: int) -> float:
    """Seconds for so many bytes in one file, durable."""
    block = os.urandom(4 << 20)
    started_s = time.perf_counter()
    with path.open("wb", buffering=0) as stream:
        for start in range(0, total_bytes, len(block)):
            stream.write(block[: total_bytes - start])
        os.fsync(stream.fileno())
    return time.perf_counter() - started_s


def hash_once(total_bytes: int) -> float:
    """Seconds for one SHA-256 over so many bytes that lie in memory."""
    block, digest = os.urandom(4 << 20), hashlib.sha256()
    started_s = time.perf_counter()
    for start in range(0, total_bytes, len(block)):
        digest.update(block[: total_bytes - start])
    return time.perf_counter() - started_s


def peak_mb() -> float:
    """The most memory that this program held; `getrusage` would count the program that started it as well."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def bench_cut(root: Path, work: Path, tiles: TileSet, total_bytes: int) -> list[str]:
    """Intake, cut and reads; returns the targets that were missed."""
    folder, source = open_source({"id": "folder", "kind": "folder", "path": str(root)}), unreachable()
    archive = work / "a.pmtiles"
    with TileStore(work / "store") as store:
        started_s = time.perf_counter()
        download_tiles(tiles=tiles, source=folder, store=store)
        print(f"files into the store: {len(tiles) / (time.perf_counter() - started_s):,.0f} tiles/s, each decoded")
        other = store.source_number(source.source_key, attribution="")
        number = store.source_number(folder.source_key)
        store.connection.execute("UPDATE tile SET source = ? WHERE source = ?", (other, number))
        cuts, plains = [], []
        for _round in range(ROUNDS):
            plains.append(write_plainly(work / "plain", total_bytes))
            archive.unlink(missing_ok=True)
            started_s = time.perf_counter()
            cut_archive(tiles=tiles, store=store, source=source, path=archive)
            cuts.append(time.perf_counter() - started_s)
    times = min(cuts) / min(plains)
    print(f"archive cut: {min(cuts):.2f} s, {times:.2f} times writing {total_bytes / 1e6:.0f} MB to one file")
    print(f"  SHA-256 over as many bytes, once: {hash_once(total_bytes) / min(plains):.2f} times")
    order = sorted(tiles, key=lambda tile: (tile.x * 2654435761 + tile.y * 40503) % 65537)
    with PmtilesReader(str(archive)) as reader:
        each_us = float("inf")
        for _round in range(3):
            started_s = time.perf_counter()
            for tile in order:
                reader.get(tile.z, tile.x, tile.y)
            each_us = min(each_us, (time.perf_counter() - started_s) / len(order) * 1e6)
    with archive.open("rb") as stream:
        peer = Reader(MmapSource(stream))
        started_s = time.perf_counter()
        for tile in order[:PEER_READS]:
            peer.get(tile.z, tile.x, tile.y)
        peer_us = (time.perf_counter() - started_s) / PEER_READS * 1e6
    print(f"random read of the archive, warm: {each_us:.1f} us (the pmtiles package's reader: {peer_us:,.0f} us)")
    missed = [f"archive cut: {times:.2f} times"] if times > CUT_TIMES else []
    return missed + ([f"random read: {each_us:.1f} us"] if each_us > READ_US else [])


def fill(root: Path, tiles: TileSet) -> None:
    """A store that has every tile: small bodies of their own, entered straight into its files."""
    with TileStore(root) as store:
        number = store.source_number(unreachable().source_key, attribution="")
        database: sqlite3.Connection = store.connection
        database.execute("BEGIN")
        database.execute("INSERT INTO pack (id, end) VALUES (1, ?)", (32 * len(tiles),))
        with (store.packs / "000001.pack").open("wb") as pack:
            for index, tile in enumerate(tiles):
                body = b"\xff\xd8\xff\xe0" + index.to_bytes(28, "big")
                pack.write(body)
                digest = hashlib.sha256(body).digest()
                database.execute("INSERT INTO blob VALUES (?, ?, 1, ?, 32)", (index + 1, digest, 32 * index))
                database.execute(
                    "INSERT INTO tile VALUES (?, ?, ?, ?, 0, ?, 32, 1700000000, NULL, NULL, NULL)",
                    (number, tile.z, tile.y, tile.x, index + 1),
                )
        database.execute("COMMIT")


def million(root: Path, count: int) -> int:
    """A run over a full store, and a cut, in this process; its speed and its memory."""
    tiles, source = tile_set(count), unreachable()
    with TileStore(root) as store:
        best_s = float("inf")
        for _round in range(2):
            started_s = time.perf_counter()
            report = download_tiles(tiles=tiles, source=source, store=store)
            best_s = min(best_s, time.perf_counter() - started_s)
            if report.reused != count:
                sys.exit(f"the full store lacks {count - report.reused} tiles")
        cut_archive(tiles=tiles, store=store, source=source, path=root / "million.pmtiles")
    size_mb = peak_mb()
    print(f"run over a full store of {count:,} tiles: {count / best_s:,.0f} tiles/s")
    print(f"memory of that run and the cut: {size_mb:.0f} MB")
    missed = [f"re-run: {count / best_s:,.0f} tiles/s"] if count / best_s < RERUN_PER_S else []
    missed += [f"memory: {size_mb:.0f} MB"] if size_mb > MEMORY_MB else []
    for target in missed:
        print(f"target missed: {target}")
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=20000)
    parser.add_argument("--million", type=int, default=1_000_000, metavar="TILES")
    parser.add_argument("--full-store", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.full_store:
        return million(arguments.full_store, arguments.million)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        tiles = tile_set(arguments.tiles)
        total_bytes = write_tiles(work / "tiles", tiles)
        print(f"{len(tiles)} tiles, {total_bytes / len(tiles) / 1000:.1f} kB each, {os.cpu_count()} cores", flush=True)
        missed = bench_cut(work / "tiles", work, tiles, total_bytes)
        for target in missed:
            print(f"target missed: {target}")
        sys.stdout.flush()
        fill(work / "full", tile_set(arguments.million))
        again = [sys.executable, __file__, "--full-store", str(work / "full"), "--million", str(arguments.million)]
        return max(int(bool(missed)), subprocess.run(again, check=False).returncode)


if __name__ == "__main__":
    sys.exit(main())
