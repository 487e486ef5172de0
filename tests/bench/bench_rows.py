# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Peak memory of a build of a million windows, on a map of made ground.

The model alone is a stand-in, as describing a million windows takes an hour: each window's own 28 x 28 pixels, as many
values as the real one gives. All else is the builder as it is. Takes a quarter of an hour and 12 GB of disk.

    bench_rows.py [number of windows, default 1000000]
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "builder" / name) for name in ("src", "tests")]

import numpy as np  # noqa: E402
import support  # noqa: E402
from c10_builder import _build, _index  # noqa: E402
from c10_builder._geo import WORLD_M  # noqa: E402
from c10_builder._heads import Head  # noqa: E402
from c10_builder._request import BuildRequest  # noqa: E402
from c10_builder._vlad import unit_rows  # noqa: E402
from c10_builder._voice import Voice  # noqa: E402

WINDOWS = 1_000_000
MEMORY_GOAL_MB = 1000.0
TILE_PX, WINDOW_PX, STRIDE_PX = 256, 32, 16
BLOCK_TILES = 8
HFOV_DEG = 65.0


class Pixels(Head):
    """A window's pixels about their mean, of length one."""

    id, sha256, dim, window_px = "pixels", "1" * 64, 28 * 28 * 3, 28

    def describe(self, pictures: Any) -> Any:
        rows = pictures.reshape(len(pictures), -1).astype(np.float32)
        return unit_rows(rows - rows.mean(axis=1, keepdims=True) + 1).astype(np.float32)


def block(seed: int) -> list[bytes]:
    """The tiles of a square of ground like no other, row by row."""
    image = support.ground(BLOCK_TILES, BLOCK_TILES, seed=seed)
    return [bytes(tile) for _key, tile in sorted(support.tiles_of(image).items())]


def make_request(folder: Path, windows: int) -> dict[str, Any]:
    """Make a square map for so many windows, and the request over it."""
    side_tiles = math.isqrt(windows) * STRIDE_PX // TILE_PX + 2
    places = [(support.ZOOM, support.X0 + x, support.Y0 + y) for y in range(side_tiles) for x in range(side_tiles)]
    with ProcessPoolExecutor() as pool:
        tiles = [tile for part in pool.map(block, range(-(-len(places) // BLOCK_TILES**2))) for tile in part]
    archive = folder / "tiles.pmtiles"
    sha256 = support.write_archive(archive, dict(zip(places, tiles, strict=False)))
    (west, north), (east, south) = support.corner(0.05, 0.05), support.corner(side_tiles - 0.3, side_tiles - 0.3)
    lon, lat = support.corner(side_tiles / 2, side_tiles / 2)
    gsd_m = WORLD_M / (TILE_PX << support.ZOOM) * math.cos(math.radians(lat))
    agl_m = WINDOW_PX * gsd_m / (2 * math.tan(math.radians(HFOV_DEG / 2)))
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return support.request(
        folder,
        archive,
        sha256,
        area={
            "kind": "bbox",
            "buffer_m": 0,
            "bbox": [west, south, east, north],
            "geojson": {"type": "MultiPolygon", "coordinates": [[ring]]},
        },
        takeoff_origin={"lat_deg": lat, "lon_deg": lon, "alt_m": 10},
        camera={"hfov_deg": HFOV_DEG, "agl_m": agl_m, "width_px": 1280, "height_px": 960},
        model={"id": Pixels.id},
        settings={"ladder_below": 0, "ladder_above": 0, "max_windows": 2 * windows},
    )


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Build in this process; the report."""
    _build.open_head = lambda *_arguments: Pixels()  # type: ignore[assignment]
    _index.Index.head = lambda _self: Pixels()  # type: ignore[assignment]
    with open(os.devnull, "wb") as nowhere:
        one = _build.Build(BuildRequest.parse(request), Voice(descriptor=nowhere.fileno()))
        report = one.run()
        one.close()
    return report


def main() -> int:
    """Run; returns 0 where the build succeeded within the target."""
    if sys.argv[1:2] == ["--build"]:
        print(json.dumps(build(json.loads(Path(sys.argv[2]).read_text("utf-8")))))
        return 0
    windows = int(sys.argv[1]) if sys.argv[1:] else WINDOWS
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "request.json"
        path.write_text(json.dumps(make_request(Path(name), windows)), "utf-8")
        # a process of its own: what made the map is not part of it
        said = subprocess.run(
            [sys.executable, __file__, "--build", str(path)], check=True, capture_output=True, text=True
        ).stdout
    report = json.loads(said)
    peak_mb = report["resources"]["peak_rss_mb"]
    print(f"{report['windows']['described']} windows of {Pixels.dim} values: {report['outcome']}")
    print("  " + ", ".join(f"{step} {spent_s:.0f} s" for step, spent_s in report["timing_s"].items()))
    missed = "" if peak_mb <= MEMORY_GOAL_MB else "  MISSED"
    print(f"  peak memory, MB {peak_mb:10.0f} (at most {MEMORY_GOAL_MB:.0f}){missed}")
    return int(report["outcome"] != "success" or bool(missed))


if __name__ == "__main__":
    sys.exit(main())
