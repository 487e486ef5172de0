# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""How much of the area has readable imagery, and whether that is enough to build on."""

from __future__ import annotations

from ._errors import BuilderError
from ._geo import WORLD_M, Polygons, lonlat_of, mercator_of, mercator_stretch
from ._job import Job
from ._screen import Screened
from ._windows import Plan, tiles_of_area

__all__ = ["judge_coverage"]


def judge_coverage(job: Job, area: Polygons, screened: Screened, plan: Plan) -> None:
    """Count the area's tiles by verdict; refuse or warn where too few, or none at the take-off point, can be read."""
    tiles = job.report["tiles"]
    for zoom in sorted({scale.zoom for scale in plan.scales}):
        for x, y in tiles_of_area(area, zoom):
            tiles["in_area"] += 1
            tile = screened.tiles.get((zoom, x, y))
            verdict = "missing" if tile is None else screened.verdicts[tile.sha256].split(":")[0]
            tiles[verdict] += 1
            if tile is not None:
                tiles["bytes"] += tile.length
                if verdict == "corrupt":
                    job.voice.warn("tile_corrupt", "tile %d/%d/%d: %s" % (zoom, x, y, screened.verdicts[tile.sha256]))
    covered = (tiles["ok"] + tiles["blank"]) / max(1, tiles["in_area"])
    takeoff = job.request.takeoff
    mx, my = mercator_of(lon_deg=takeoff.lon_deg, lat_deg=takeoff.lat_deg)
    corrupt_there = takeoff_ok = False
    for zoom in sorted({scale.zoom for scale in plan.scales}):
        key = (zoom, int(mx / WORLD_M * (1 << zoom)), int(my / WORLD_M * (1 << zoom)))
        takeoff_ok = takeoff_ok or screened.usable(key) is not None
        tile = screened.tiles.get(key)
        corrupt_there = corrupt_there or (tile is not None and screened.verdicts[tile.sha256].startswith("corrupt"))
    stretch = mercator_stretch(_latitude(area))
    job.report["coverage"].update(
        area_km2=round(area.area_m2 / stretch**2 / 1e6, 4),
        covered_ratio=round(covered, 4),
        takeoff_covered=takeoff_ok,
    )
    settings = job.request.settings
    if tiles["missing"]:
        job.voice.warn("tiles_missing", "%d of the area's %d tiles are missing" % (tiles["missing"], tiles["in_area"]))
    if tiles["placeholder"]:
        job.voice.warn("tiles_placeholder", "%d tiles show the provider's placeholder" % tiles["placeholder"])
    if corrupt_there or tiles["corrupt"] > settings.max_corrupt_ratio * tiles["in_area"]:
        raise BuilderError(
            "tiles_corrupt",
            "%d of the area's %d tiles cannot be decoded%s"
            % (tiles["corrupt"], tiles["in_area"], ", one of them at the take-off point" if corrupt_there else ""),
            hint="download those tiles again",
        )
    if covered < settings.min_covered_ratio:
        raise BuilderError(
            "coverage_too_low",
            "readable tiles cover only %.0f %% of the area" % (100 * covered),
            hint="complete the download, or lower settings.min_covered_ratio",
        )
    if not takeoff_ok:
        text = "the take-off point %.6f, %.6f has no readable imagery" % (takeoff.lat_deg, takeoff.lon_deg)
        if settings.require_takeoff:
            raise BuilderError("takeoff_not_covered", text, hint="check the take-off point and the area's buffer")
        job.voice.warn("takeoff_not_covered", text)


def _latitude(area: Polygons) -> float:
    x0, y0, x1, y1 = area.bounds
    return lonlat_of((x0 + x1) / 2, (y0 + y1) / 2)[1]
