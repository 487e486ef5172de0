# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tiles of a box and of a corridor, beside mercantile and morecantile; and a mission of 10,000 items.

    python tests/bench/bench_tiles.py --tiles 10000000 --rounds 3

Rounds are interleaved, and the best of each is shown: on a shared machine only the ratios mean anything.
mercantile and morecantile know no corridor: for it they list the box and shapely tests each tile, as their users do.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "dev"))

import mercantile
import morecantile
import shapely
from ansible_collections.gps_denied.preflight.plugins.module_utils._area import Area, build_area, tiles_for_area
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import (
    Flight,
    FlightResolveSource,
    RouteKind,
    RoutePart,
    TakeoffOrigin,
    TakeoffRule,
    Waypoint,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_file import read_flight_bytes
from ansible_collections.gps_denied.preflight.plugins.module_utils._geo import LonLat

LIMIT = 10**10
OTHERS_SHARE = 100
"""The others get this fraction of the tiles: their speed does not depend on the number."""


def route(side_deg: float) -> Flight:
    """A zigzag over a square of the side."""
    steps = [(47 + side_deg * i / 8, 8 + side_deg * (i % 2)) for i in range(9)]
    vertices = tuple(Waypoint(LonLat(lon=lon, lat=lat), source=f"item {i}") for i, (lat, lon) in enumerate(steps))
    origin = TakeoffOrigin(47, 8, None, TakeoffRule.FIRST_WAYPOINT)
    part = RoutePart(RouteKind.LINE, vertices)
    return Flight("bench", None, FlightResolveSource.FILE, "bench", vertices, (part,), origin)


def area_of(kind: str, tiles: int, zoom: int) -> Area:
    """An area of about so many tiles: the side is found by halving."""
    low, high = 0.001, 20.0
    while high - low > 0.01 * low:
        side = (low + high) / 2
        area = build_area(route(side), kind=kind, max_leg_m=1e9)
        if len(tiles_for_area(area, [zoom], max_tiles=LIMIT)) < tiles:
            low = side
        else:
            high = side
    return build_area(route(high), kind=kind, max_leg_m=1e9)


def ours(area: Area, zoom: int) -> int:
    """Every tile as columns and rows in arrays, from the polygon to the last chunk."""
    count = 0
    for _zoom, columns, _rows in tiles_for_area(area, [zoom], max_tiles=LIMIT).chunks():
        count += len(columns)
    return count


def ours_as_objects(area: Area, zoom: int) -> int:
    """Every tile as a Tile object, one after the other."""
    return sum(1 for _tile in tiles_for_area(area, [zoom], max_tiles=LIMIT))


def with_mercantile(area: Area, zoom: int) -> int:
    box = area.bbox
    found = mercantile.tiles(box.west, box.south, box.east, box.north, zooms=zoom)
    if area.kind == "bbox":
        return sum(1 for _tile in found)
    shape = shapely.from_wkb(area.geometry_wkb)
    shapely.prepare(shape)
    return sum(shape.intersects(shapely.box(*mercantile.bounds(tile))) for tile in found)


def with_morecantile(area: Area, zoom: int) -> int:
    grid = morecantile.tms.get("WebMercatorQuad")
    box = area.bbox
    found = grid.tiles(box.west, box.south, box.east, box.north, zooms=zoom)
    if area.kind == "bbox":
        return sum(1 for _tile in found)
    shape = shapely.from_wkb(area.geometry_wkb)
    shapely.prepare(shape)
    return sum(shape.intersects(shapely.box(*grid.bounds(tile))) for tile in found)


def rate(run: Callable[[Area, int], int], area: Area, zoom: int) -> float:
    """Tiles of the area for each second."""
    start = time.perf_counter()
    count = run(area, zoom)
    return count / (time.perf_counter() - start)


def mission() -> float:
    """Seconds from the bytes of a survey of 10,000 items to its tiles."""
    rng = random.Random(7)
    lines = ["QGC WPL 110", "0 1 0 16 0 0 0 0 47 8 400 1"]
    for i in range(10_000):
        lat, lon = 47 + (i // 20) * 0.0002, 8 + (i % 20 if (i // 20) % 2 else 19 - i % 20) * 0.002
        lines.append(f"{i + 1} 0 3 16 0 0 0 0 {lat + rng.random() * 1e-6:.7f} {lon:.7f} 80 1")
    data = "\n".join(lines).encode()
    start = time.perf_counter()
    flight = read_flight_bytes(data, flight_id="bench", source=FlightResolveSource.FILE)
    tiles_for_area(build_area(flight), range(14, 19))
    return time.perf_counter() - start


def main() -> int:
    """Print the table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    met = True
    # The corridor is a route of some hundred kilometres: at its zoom ten million tiles are a few hundred km².
    for kind, zoom, target in (("bbox", 19, 50e6), ("corridor", 22, 5e6)):
        large = area_of(kind, options.tiles, zoom)
        small = area_of(kind, max(1000, options.tiles // OTHERS_SHARE), zoom)
        rows: dict[str, tuple[Callable[[Area, int], int], Area]] = {
            "ours, arrays": (ours, large),
            "ours, objects": (ours_as_objects, small),
            "mercantile": (with_mercantile, small),
            "morecantile": (with_morecantile, small),
        }
        best = dict.fromkeys(rows, 0.0)
        for _round in range(options.rounds):
            for name, (run, area) in rows.items():
                best[name] = max(best[name], rate(run, area, zoom))
        count = len(tiles_for_area(large, [zoom], max_tiles=LIMIT))
        print(f"{kind}: {count:,} tiles at zoom {zoom}")
        for name, value in best.items():
            print(f"  {name:14} {value / 1e6:10.2f} million tiles/s  {value / best['mercantile']:8.1f} x mercantile")
        met = met and best["ours, arrays"] >= target
    seconds = min(mission() for _round in range(options.rounds))
    print(f"mission of 10,000 items, file to tiles of five zooms: {seconds:.2f} s")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")
    met = met and seconds < 1
    print("targets met" if met else "TARGETS MISSED (50 and 5 million tiles/s, 1 s)")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
