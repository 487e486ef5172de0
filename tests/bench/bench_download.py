# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our download beside raw downloaders: one nginx on loopback, the same tiles, the same connections, in one run.

Ours checks every tile, hashes it, stores it once and durably; the others write files and look at nothing.
Rounds are interleaved, since on a shared machine only the ratios within a row mean anything.

    python tests/bench/bench_download.py --tiles 20000 --rounds 3

Needs nginx with the echo module (apt: nginx-light libnginx-mod-http-echo), curl; wget2 and aria2 where they are there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "dev"))

from ansible_collections.gps_denied.preflight.plugins.module_utils._pmtiles import (  # noqa: E402
    PmtilesReader,
    tile_id_to_zxy,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_archive import cut_archive  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import download_tiles  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, TileRun, TileSet  # noqa: E402

ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
ZOOM, COLUMN, ROW, WIDTH = 18, 215000, 137000, 200
SETTINGS = ((0, 16), (0, 64), (20, 64), (20, 256), (100, 256))
"""Latency in milliseconds, connections."""


def tile_set(count: int) -> TileSet:
    full, rest = divmod(count, WIDTH)
    runs = [TileRun(ZOOM, ROW + row, COLUMN, COLUMN + WIDTH - 1) for row in range(full)]
    if rest:
        runs.append(TileRun(ZOOM, ROW + full, COLUMN, COLUMN + rest - 1))
    return TileSet.from_runs(runs)


def write_tiles(root: Path, tiles: TileSet) -> int:
    """Real tiles, each made unique by a comment segment; their bytes in all."""
    with PmtilesReader(str(REPO / "examples/imagery/bali.pmtiles")) as reader:
        found = [reader.get(*tile_id_to_zxy(entry.tile_id)) for entry in reader.entries()]
    bodies = [body for body in found if body and len(body) > 6000]
    total = 0
    for index, tile in enumerate(tiles):
        folder = root / str(tile.z) / str(tile.x)
        folder.mkdir(parents=True, exist_ok=True)
        body = bodies[index % len(bodies)]
        content = body[:2] + b"\xff\xfe\x00\x12" + f"{index:016d}".encode() + body[2:]
        (folder / f"{tile.y}.jpg").write_bytes(content)
        total += len(content)
    return total


@contextlib.contextmanager
def nginx(root: Path, work: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    locations = "".join(
        f"location ~ ^/d{delay}/(.*)$ {{ echo_sleep {delay / 1000}; echo_exec /d0/$1; }}\n" for delay in (20, 100)
    )
    config = work / "nginx.conf"
    config.write_text(
        f"load_module {ECHO_MODULE};\n"
        f"user {os.environ.get('USER', 'root')};\ndaemon off; worker_processes 1;\n"
        f"pid {work}/nginx.pid; error_log {work}/error.log;\n"
        "events { worker_connections 4096; }\n"
        "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000; types { image/jpeg jpg; }\n"
        f"open_file_cache max=50000; server {{ listen 127.0.0.1:{port} backlog=4096;\n"
        f"location /d0/ {{ alias {root}/; }}\n{locations} }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-p", str(work), "-c", str(config)])
    try:
        for _attempt in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Case:
    base: str
    tiles: TileSet
    connections: int
    work: Path

    def urls(self) -> Iterator[tuple[str, Tile]]:
        for tile in self.tiles:
            yield f"{self.base}/{tile.z}/{tile.x}/{tile.y}.jpg", tile


OURS = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import TileRun, TileSet
tiles = TileSet.from_runs([TileRun(*run) for run in json.loads(sys.argv[4])])
source = open_source({"id": "bench", "kind": "xyz", "url": sys.argv[2] + "/{z}/{x}/{y}.jpg",
                      "connections": int(sys.argv[5])})
with TileStore(Path(sys.argv[3])) as store:
    report = download_tiles(tiles=tiles, source=source, store=store)
assert report.downloaded == len(tiles), report
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def run_ours(case: Case) -> None:
    runs = json.dumps([list(run) for run in case.tiles.runs])
    arguments = [sys.executable, "-c", OURS, str(REPO / "dev"), case.base, str(case.work), runs, str(case.connections)]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_curl(case: Case) -> None:
    listing = case.work / "list"
    lines = [f'url = "{url}"\noutput = "{case.work}/{tile.x}-{tile.y}.jpg"\n' for url, tile in case.urls()]
    listing.write_text("".join(lines))
    command = [
        "curl",
        "-s",
        "--no-progress-meter",
        "-f",
        "-Z",
        "--parallel-max",
        str(min(300, case.connections)),
        "-K",
        str(listing),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_wget2(case: Case) -> None:
    listing = case.work / "list"
    listing.write_text("".join(url + "\n" for url, _tile in case.urls()))
    command = ["wget2", "-q", "-x", "--max-threads", str(case.connections), "-P", str(case.work), "-i", str(listing)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_aria2(case: Case) -> None:
    listing = case.work / "list"
    listing.write_text("".join(f"{url}\n  out={tile.x}-{tile.y}.jpg\n" for url, tile in case.urls()))
    command = ["aria2c", "-q", "-j", str(case.connections), "-d", str(case.work), "-i", str(listing)]
    command += ["--file-allocation=none", "--disk-cache=0", "--max-connection-per-server=1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


HTTPX = """
import asyncio, sys, httpx
async def main():
    limits = httpx.Limits(max_connections=int(sys.argv[3]))
    urls = iter(open(sys.argv[1]).read().split())
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        async def work():
            for number, url in enumerate(urls):
                body = (await client.get(url)).content
                open(sys.argv[2] + "/" + url.replace("/", "-"), "wb").write(body)
        await asyncio.gather(*[work() for _index in range(int(sys.argv[3]))])
asyncio.run(main())
"""


def run_httpx(case: Case) -> None:
    listing = case.work / "list"
    listing.write_text("".join(url + "\n" for url, _tile in case.urls()))
    command = [sys.executable, "-c", HTTPX, str(listing), str(case.work), str(case.connections)]
    subprocess.run(command, check=True)


CLIENTS: dict[str, tuple[str, Callable[[Case], None], int]] = {
    "ours": (sys.executable, run_ours, 1),
    "curl": ("curl", run_curl, 1),
    "wget2": ("wget2", run_wget2, 1),
    "aria2c": ("aria2c", run_aria2, 4),
    "httpx": (sys.executable, run_httpx, 10),
}
"""Program, function, and by what to divide the number of tiles: the slow ones get fewer."""


def bench_downloads(base: str, arguments: argparse.Namespace, work: Path) -> None:
    names = [name for name in arguments.clients.split(",") if shutil.which(CLIENTS[name][0])]
    print(f"{'ms':>4} {'conn.':>5} | " + " ".join(f"{name:>16}" for name in names) + "   tiles/s, median (x curl)")
    for latency_ms, connections in SETTINGS:
        rates: dict[str, list[float]] = {name: [] for name in names}
        for _round in range(arguments.rounds):
            for name in names:
                folder = Path(tempfile.mkdtemp(dir=work))
                tiles = tile_set(max(200, arguments.tiles // CLIENTS[name][2]))
                case = Case(f"{base}/d{latency_ms}", tiles, connections, folder)
                started_s = time.perf_counter()
                CLIENTS[name][1](case)
                rates[name].append(len(tiles) / (time.perf_counter() - started_s))
                shutil.rmtree(folder)
        medians = {name: statistics.median(values) for name, values in rates.items()}
        best = medians.get("curl") or medians["ours"]
        cells = " ".join(f"{medians[name]:>8.0f} ({medians[name] / best:>4.2f})" for name in names)
        print(f"{latency_ms:>4} {connections:>5} | {cells}", flush=True)


def bench_store(root: Path, work: Path, tiles: TileSet, total_bytes: int) -> None:
    """What happens without the network: re-run, cut, read."""
    source = open_source({"id": "folder", "kind": "folder", "path": str(root)})
    spare = open_source({"id": "empty", "kind": "xyz", "url": "http://127.0.0.1:1/{z}/{x}/{y}.jpg"})
    with TileStore(work / "store") as store:
        started_s = time.perf_counter()
        download_tiles(tiles=tiles, source=source, store=store)
        print(
            f"local folder into the store: {len(tiles) / (time.perf_counter() - started_s):,.0f} tiles/s, all checked"
        )
        number, other = store.source_number(source.source_key), store.source_number(spare.source_key, attribution="")
        store.connection.execute("UPDATE tile SET source = ? WHERE source = ?", (other, number))
        started_s = time.perf_counter()
        report = download_tiles(tiles=tiles, source=spare, store=store)
        assert report.reused == len(tiles)
        print(f"re-run on a full store: {len(tiles) / (time.perf_counter() - started_s):,.0f} tiles/s")
        plain = min(_write_plainly(work / "plain", total_bytes) for _round in range(3))
        cuts = []
        for _round in range(3):
            started_s = time.perf_counter()
            cut_archive(tiles=tiles, store=store, source=spare, path=work / "a.pmtiles")
            cuts.append(time.perf_counter() - started_s)
        print(f"archive cut: {min(cuts):.2f} s, {min(cuts) / plain:.2f} x writing {total_bytes / 1e6:.0f} MB to a file")
    with PmtilesReader(str(work / "a.pmtiles")) as reader:
        order = sorted(tiles, key=lambda tile: (tile.x * 2654435761 + tile.y * 40503) % 65537)
        for _round in range(2):
            started_s = time.perf_counter()
            for tile in order:
                reader.get(tile.z, tile.x, tile.y)
            each_us = (time.perf_counter() - started_s) / len(order) * 1e6
        print(f"random reads of the archive, warm: {each_us:.1f} us each")


def _write_plainly(path: Path, total_bytes: int) -> float:
    block = os.urandom(4 << 20)
    started_s = time.perf_counter()
    with path.open("wb", buffering=0) as stream:
        for start in range(0, total_bytes, len(block)):
            stream.write(block[: total_bytes - start])
        os.fsync(stream.fileno())
    return time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="ours,curl,wget2,aria2c,httpx")
    parser.add_argument("--only", choices=["downloads", "store"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        work.chmod(0o755)
        tiles = tile_set(arguments.tiles)
        total_bytes = write_tiles(work / "tiles", tiles)
        print(f"{len(tiles)} tiles, {total_bytes / len(tiles) / 1000:.1f} kB each, {os.cpu_count()} cores", flush=True)
        if arguments.only != "store" and not (shutil.which("nginx") and ECHO_MODULE.exists()):
            sys.exit("nginx with its echo module is missing: apt-get install nginx-light libnginx-mod-http-echo")
        if arguments.only != "store":
            with nginx(work / "tiles", work) as base:
                bench_downloads(base, arguments, work)
        if arguments.only != "downloads":
            bench_store(work / "tiles", work, tiles, total_bytes)


if __name__ == "__main__":
    main()
