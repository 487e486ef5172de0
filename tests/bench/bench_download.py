# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our download beside raw downloaders: one nginx on loopback, the same tiles, the same connections, in one run.

Ours decodes every tile whole, hashes it, stores it once and durably; the others write files and look at nothing.
Rounds are interleaved, since only the ratios within a row mean anything; each row takes the best of its rounds.

    python tests/bench/bench_download.py --tiles 20000 --rounds 2

Needs what tests/bench/apt-packages.txt names; mapproxy is installed beside, from tests/bench/mapproxy.lock.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loopback import PERMITTED_PER_S, REPO, Server, nginx, tile_set, write_tiles  # first: it finds the collection

# isort: split

from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import TileSet, tile_bounds

MAPPROXY = REPO / ".cache" / "bench-mapproxy"
ROWS = ((0, 16, False), (0, 64, False), (20, 64, False), (100, 256, False), (20, 64, True), (0, 16, False))
"""Latency in milliseconds, connections (streams where multiplexed), HTTP/2 over TLS.

The first row comes again as the last: new files are quick on a disk from which none were deleted yet.
"""
FASTEST_SHARE = {0: 0.6, 20: 1.0, 100: 1.0}
MAPPROXY_TIMES = 3.0
PACED_TILES = 3000
PACED_SHARE, PACED_REFUSED = 0.85, 0.06


@dataclass(frozen=True)
class Case:
    """One run of one client."""

    base: str
    certificate: Path | None
    tiles: TileSet
    connections: int
    work: Path

    def urls(self) -> Iterator[tuple[str, str]]:
        """Address and name of each tile."""
        for tile in self.tiles:
            yield f"{self.base}/{tile.z}/{tile.x}/{tile.y}.jpg", f"{tile.x}-{tile.y}.jpg"

    def listing(self, line: str) -> str:
        """A file with a line for each tile."""
        path = self.work / "list"
        path.write_text("".join(line.format(url=url, name=name, folder=self.work) for url, name in self.urls()))
        return str(path)


OURS = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import TileRun, TileSet
tiles = TileSet.from_runs([TileRun(*run) for run in json.loads(sys.argv[4])])
spec = {"id": "bench", "kind": "xyz", "url": sys.argv[2] + "/{z}/{x}/{y}.jpg", "connections": int(sys.argv[5])}
if len(sys.argv) > 6:
    spec["ca_file"] = sys.argv[6]
with TileStore(Path(sys.argv[3])) as store:
    report = download_tiles(tiles=tiles, source=open_source(spec), store=store)
assert report.downloaded == len(tiles), report
"""


def ours(case: Case) -> list[str]:
    runs = json.dumps([list(run) for run in case.tiles.runs])
    command = [sys.executable, "-c", OURS, str(REPO / "dev"), case.base, str(case.work), runs, str(case.connections)]
    return command + ([str(case.certificate)] if case.certificate else [])


def curl(case: Case) -> list[str]:
    listing = case.listing('url = "{url}"\noutput = "{folder}/{name}"\n')
    command = ["curl", "-s", "--no-progress-meter", "-f", "-Z", "--parallel-max", str(min(300, case.connections))]
    return [*command, *(["--cacert", str(case.certificate)] if case.certificate else []), "-K", listing]


def wget2(case: Case) -> list[str]:
    listing = case.listing("{url}\n")
    command = ["wget2", "-q", "-x", "--max-threads", str(case.connections), "-P", str(case.work), "-i", listing]
    return command + ([f"--ca-certificate={case.certificate}"] if case.certificate else [])


def aria2c(case: Case) -> list[str]:
    command = ["aria2c", "-q", "-j", str(case.connections), "-d", str(case.work)]
    command += ["--file-allocation=none", "--disk-cache=0", "--max-connection-per-server=1"]
    command += [f"--ca-certificate={case.certificate}"] if case.certificate else []
    return [*command, "-i", case.listing("{url}\n  out={name}\n")]


HTTPX = """
import asyncio, ssl, sys, httpx
async def main():
    limits = httpx.Limits(max_connections=int(sys.argv[3]))
    urls = iter(open(sys.argv[1]).read().split())
    verify = ssl.create_default_context(cafile=sys.argv[4]) if len(sys.argv) > 4 else True
    async with httpx.AsyncClient(limits=limits, timeout=60, verify=verify) as client:
        async def work():
            for url in urls:
                body = (await client.get(url)).content
                open(sys.argv[2] + "/" + url.replace("/", "-"), "wb").write(body)
        await asyncio.gather(*[work() for _index in range(int(sys.argv[3]))])
asyncio.run(main())
"""


def httpx(case: Case) -> list[str]:
    command = [sys.executable, "-c", HTTPX, case.listing("{url}\n"), str(case.work), str(case.connections)]
    return command + ([str(case.certificate)] if case.certificate else [])


def mapproxy(case: Case) -> list[str]:
    """A seed of just these tiles into its file cache, by as many processes as there are connections, at most 16."""
    corners = [tile_bounds(tile) for tile in (next(iter(case.tiles)), list(case.tiles)[-1])]
    inside = 1e-5
    box = [
        min(corner.west for corner in corners) + inside,
        min(corner.south for corner in corners) + inside,
        max(corner.east for corner in corners) - inside,
        max(corner.north for corner in corners) - inside,
    ]
    http = {"ssl_ca_certs": str(case.certificate)} if case.certificate else {}
    grid = {"base": "GLOBAL_WEBMERCATOR", "origin": "nw"}
    source = {"type": "tile", "url": f"{case.base}/%(z)s/%(x)s/%(y)s.jpg", "grid": "here", "http": http}
    cache = {"grids": ["here"], "sources": ["server"], "format": "image/jpeg", "cache": {"type": "file"}}
    service = {
        "grids": {"here": grid},
        "sources": {"server": source},
        "caches": {"tiles": cache},
        "services": {"demo": {}},
        "globals": {"cache": {"base_dir": str(case.work / "cache"), "meta_size": [1, 1], "meta_buffer": 0}},
    }
    zoom = case.tiles.zooms[0]
    task = {"caches": ["tiles"], "grids": ["here"], "levels": [zoom], "coverages": ["box"]}
    seeds = {"seeds": {"all": task}, "coverages": {"box": {"bbox": box, "srs": "EPSG:4326"}}}
    (case.work / "service.yaml").write_text(json.dumps(service))
    (case.work / "seed.yaml").write_text(json.dumps(seeds))
    command = [str(MAPPROXY / "bin" / "mapproxy-seed"), "-q", "-f", str(case.work / "service.yaml")]
    return [*command, "-c", str(min(16, case.connections)), "-s", str(case.work / "seed.yaml")]


@dataclass(frozen=True)
class Client:
    """A client; the slow ones get only a part of the tiles."""

    program: str
    command: Callable[[Case], list[str]]
    divide_by: int = 1


CLIENTS = {
    "ours": Client(sys.executable, ours),
    "curl": Client("curl", curl),
    "wget2": Client("wget2", wget2),
    "aria2c": Client("aria2c", aria2c, 10),
    "mapproxy-seed": Client(str(MAPPROXY / "bin" / "mapproxy-seed"), mapproxy, 20),
    "httpx loop": Client(sys.executable, httpx, 40),
}


def install_mapproxy() -> None:
    """MapProxy in an environment of its own, from its lock."""
    if not (MAPPROXY / "bin" / "mapproxy-seed").exists():
        venv.create(MAPPROXY, with_pip=True)
        pip = [str(MAPPROXY / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(REPO / "tests/bench/mapproxy.lock")], check=True)


def timed(client: Client, case: Case) -> tuple[float, int]:
    """Tiles a second of a run, and the memory of its largest process in MB."""
    command = client.command(case)
    os.sync()  # what the one before left to be written is not this one's load
    with (case.work / "said").open("wb") as said:
        started_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said)
        _pid, status, usage = os.wait4(process.pid, 0)
        took_s = time.perf_counter() - started_s
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}: {(case.work / 'said').read_text()[-2000:]}")
    found = sum(path.suffix in {".jpg", ".jpeg"} for path in case.work.rglob("*") if path.is_file())
    if client.command is not ours and found < len(case.tiles):
        sys.exit(f"{command[0]} brought {found} of {len(case.tiles)} tiles")
    return len(case.tiles) / took_s, usage.ru_maxrss // 1024


def bench_downloads(server: Server, arguments: argparse.Namespace, work: Path) -> list[str]:
    """The table; returns the targets that were missed."""
    names = [name for name in CLIENTS if name in arguments.clients.split(",") and shutil.which(CLIENTS[name].program)]
    absent = set(arguments.clients.split(",")) - set(names)
    missed = [f"not there: {', '.join(sorted(absent))}"] if absent else []
    print(f"{'':>16} | tiles/s, best of {arguments.rounds} (times the fastest of the others)")
    print(f"{'ms':>4} {'conn.':>5} {'HTTP':>5} | " + " ".join(f"{name:>14}" for name in names))
    memory = dict.fromkeys(names, 0)
    for latency_ms, connections, tls in ROWS:
        rates = dict.fromkeys(names, 0.0)
        for _round in range(arguments.rounds):
            for name in names:
                folder = Path(tempfile.mkdtemp(dir=work))
                tiles = tile_set(max(400, arguments.tiles // CLIENTS[name].divide_by))
                base = f"{server.https if tls else server.http}/d{latency_ms}"
                case = Case(base, server.certificate if tls else None, tiles, connections, folder)
                rate, size_mb = timed(CLIENTS[name], case)
                rates[name], memory[name] = max(rates[name], rate), max(memory[name], size_mb)
                shutil.rmtree(folder)
        others = [rate for name, rate in rates.items() if name != "ours"]
        best = max(others, default=rates.get("ours", 1.0))
        cells = " ".join(f"{rates[name]:>7.0f} ({rates[name] / best:>4.2f})" for name in names)
        print(f"{latency_ms:>4} {connections:>5} {'2' if tls else '1.1':>5} | {cells}", flush=True)
        if "ours" in rates and rates["ours"] < FASTEST_SHARE[latency_ms] * best:
            missed.append(
                f"{latency_ms} ms: {rates['ours'] / best:.2f} of the fastest, not {FASTEST_SHARE[latency_ms]}"
            )
        if rates.get("ours", 0.0) < MAPPROXY_TIMES * rates.get("mapproxy-seed", 0.0):
            missed.append(f"{latency_ms} ms: less than {MAPPROXY_TIMES:.0f} times mapproxy-seed")
    print(f"{'MB, largest process':>16} | " + "  ".join(f"{name} {memory[name]}" for name in names), flush=True)
    return missed


def bench_pacing(server: Server, tiles: TileSet, work: Path) -> list[str]:
    """A server that answers 429 above its rate, and a profile that does not know the rate."""
    folder = Path(tempfile.mkdtemp(dir=work))
    rate, _size = timed(CLIENTS["ours"], Case(server.limited, None, tiles, 16, folder))
    statuses = (work / "access.log").read_text().split()
    refused = statuses.count("429") / len(statuses)
    share = rate / PERMITTED_PER_S
    print(
        f"429 above {PERMITTED_PER_S} requests/s: {share:.2f} of the permitted rate, {refused:.1%} refused", flush=True
    )
    shutil.rmtree(folder)
    return [] if share >= PACED_SHARE and refused <= PACED_REFUSED else ["pacing"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--clients", default=",".join(CLIENTS))
    arguments = parser.parse_args()
    install_mapproxy()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        work.chmod(0o755)
        tiles = tile_set(arguments.tiles)
        total_bytes = write_tiles(work / "tiles", tiles)
        print(f"{len(tiles)} tiles, {total_bytes / len(tiles) / 1000:.1f} kB each, {os.cpu_count()} cores", flush=True)
        with nginx(work / "tiles", work) as server:
            missed = bench_downloads(server, arguments, work) + bench_pacing(
                server, tile_set(min(PACED_TILES, arguments.tiles)), work
            )
    for target in missed:
        print(f"target missed: {target}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
