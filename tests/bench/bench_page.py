# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""What the operator waits for: the help, the plan of 100,000 tiles, the page of 20,000 and its opening in Chromium.

Peers: a Python that does nothing, the page with every tile of the archive in it, a blank page in the same browser.

    python tests/bench/bench_page.py --tiles 20000 --planned 100000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from loopback import COLUMN, REPO, ROW, WIDTH, ZOOM, tile_set, write_tiles  # first: it finds the collection

# isort: split
sys.path.insert(0, str(REPO / "src"))

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import load_config
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_file import read_flight_file
from ansible_collections.gps_denied.preflight.plugins.module_utils._report_fold import fold_journal
from ansible_collections.gps_denied.preflight.plugins.module_utils._run import new_run_id
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_archive import cut_archive
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_plan import plan_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, tile_bounds
from playwright.sync_api import Browser, sync_playwright

from operator_tool._report_page import report_page
from operator_tool._report_view import ReportView

HELP_S, PLAN_S, OPEN_S, PAGE_MB = 0.25, 3.0, 2.0, 15.0
ROUNDS = 7
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
TOOL = Path(sys.executable).with_name("operator-tool")
ALL_DRAWN = """async () => {
    const tiles = () => [...document.querySelectorAll("img.map-tile")];
    while (!(tiles().length && tiles().every((tile) => tile.complete))) { await new Promise(requestAnimationFrame); }
}"""


def seconds(command: Sequence[object], folder: Path) -> float:
    """The median of `ROUNDS` runs of a command that must succeed."""
    took = []
    for _round in range(ROUNDS):
        started_s = time.perf_counter()
        subprocess.run([str(word) for word in command], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - started_s)
    return statistics.median(took)


def route(path: Path, count: int) -> Path:
    """A mission along the diagonal of the block of so many tiles."""
    first, last = (
        tile_bounds(Tile(ZOOM, COLUMN, ROW)),
        tile_bounds(Tile(ZOOM, COLUMN + WIDTH - 1, ROW + count // WIDTH)),
    )
    line = [[first.west, first.north], [last.east, last.south]]
    path.write_text(json.dumps({"type": "LineString", "coordinates": line}))
    return path


def bench_words(work: Path, planned: int) -> list[str]:
    """The help and the plan, as processes."""
    nothing_s, help_s = seconds([sys.executable, "-c", "pass"], work), seconds([TOOL, "--help"], work)
    print(f"operator-tool --help: {help_s * 1000:.0f} ms (a Python that does nothing: {nothing_s * 1000:.0f} ms)")
    mission = route(work / "large.geojson", planned)
    command = [
        TOOL,
        "plan",
        "--flight-file",
        mission,
        "--staging-root",
        work / "plans",
        "--tile-source",
        work / "tiles",
    ]
    command += ["--area", "bbox", "--buffer-m", 0, "--zoom", ZOOM, "--format", "json"]
    said = subprocess.run([str(word) for word in command], cwd=work, check=True, capture_output=True).stdout
    plan_s = seconds(command, work)
    tiles = json.loads(said)["estimate"]["tiles"]
    print(f"operator-tool plan of {tiles:,} tiles: {plan_s:.2f} s")
    missed = [f"help: {help_s:.2f} s"] if help_s > HELP_S else []
    return missed + ([f"plan: {plan_s:.2f} s"] if plan_s > PLAN_S else [])


def make_page(work: Path, count: int) -> tuple[str, float, int]:
    """The page of a run over so many tiles, the seconds that it took, and the bytes of the tiles themselves."""
    tiles = tile_set(count)
    total_bytes = write_tiles(work / "tiles", tiles)
    source = open_source({"id": "folder", "kind": "folder", "path": str(work / "tiles")})
    with TileStore(work / "store") as store:
        download_tiles(tiles=tiles, source=source, store=store)
        cut_archive(tiles=tiles, store=store, source=source, path=work / "a.pmtiles")
    config = load_config({"zooms": str(ZOOM), "flight_area_kind": "bbox"}, environ={}, config_file=os.devnull)
    flight = read_flight_file(str(route(work / "flown.geojson", count)))
    view = ReportView(
        report=fold_journal(new_run_id(), []),
        flight=flight,
        area=plan_tiles(flight, config)[0].to_geojson(),
        archive_path=str(work / "a.pmtiles"),
    )
    started_s = time.perf_counter()
    page = report_page(view)
    return page, time.perf_counter() - started_s, total_bytes


def opening_s(browser: Browser, path: Path, *, drawn: bool) -> float:
    """From asking for a page to its map drawn, in a context of its own; the median."""
    took = []
    for _round in range(ROUNDS):
        context = browser.new_context(offline=True, viewport={"width": 1280, "height": 860})
        page = context.new_page()
        started_s = time.perf_counter()
        page.goto(path.as_uri())
        if drawn:
            page.evaluate(ALL_DRAWN)
        took.append(time.perf_counter() - started_s)
        context.close()
    return statistics.median(took)


def bench_page(work: Path, count: int) -> list[str]:
    """The page of a run: how large, how long to make, how long to open."""
    page, made_s, total_bytes = make_page(work, count)
    path, blank = work / "run.html", work / "blank.html"
    path.write_text(page, "utf-8")
    blank.write_text("<!doctype html><title>blank</title>", "utf-8")
    size_mb = path.stat().st_size / 1e6
    whole_mb = total_bytes * 4 / 3 / 1e6
    print(
        f"page of {count:,} tiles: {size_mb:.1f} MB, made in {made_s:.1f} s (with every tile in it: {whole_mb:.0f} MB)"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        blank_s, open_s = opening_s(browser, blank, drawn=False), opening_s(browser, path, drawn=True)
        browser.close()
    print(f"opened, map drawn, in headless Chromium: {open_s:.2f} s (a blank page: {blank_s:.2f} s)")
    missed = [f"page: {size_mb:.1f} MB"] if size_mb > PAGE_MB else []
    return missed + ([f"opening: {open_s:.2f} s"] if open_s > OPEN_S else [])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=20_000)
    parser.add_argument("--planned", type=int, default=100_000, metavar="TILES")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        missed = bench_page(Path(name), arguments.tiles)
        missed += bench_words(Path(name), arguments.planned)
    for target in missed:
        print(f"target missed: {target}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
