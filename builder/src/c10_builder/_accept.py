# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The gates on an index as it lies on disk, before it is put in place."""

from __future__ import annotations

import math
from typing import Any

from . import _gates
from ._calibrate import calibrate
from ._cut import WindowCutter
from ._errors import BuilderError
from ._geo import WORLD_M, lonlat_of, mercator_of
from ._hard import hard_places, hard_recall
from ._index import Index, verify_files
from ._job import Job
from ._pmtiles import PmtilesReader
from ._screen import Screened, TileCache
from ._stage import Staged, seal
from ._windows import Plan, Window

__all__ = ["accept"]


def accept(job: Job, archive: PmtilesReader, screened: Screened, plan: Plan, raw: Any, staged: Staged) -> None:
    """Hold the staged index, opened again from disk, against the gates, and write down what they measured."""
    index, seed = Index(job.staged), int(staged.meta["content_id"][:7], 16)
    _georeference(index, plan, staged.kept)
    rows = _gates.evenly(len(index), 48)
    cache = TileCache(archive, screened)
    size = index.meta["model"]["window_px"]
    cutter = WindowCutter(cache, plan.tile_px, size)
    pictures = [cutter.cut(plan.windows[staged.kept[row]])[0] for row in rows]
    figures, findings, copies = _gates.self_retrieval(
        index, pictures, rows, latitude_deg=index.meta["latitude_deg"], seed=seed
    )
    job.report["quality"].update(figures)
    if len(index) < _gates.GATE_ROWS_MIN:
        job.voice.warn(
            "gates_not_binding", "%d windows are too few for the quality gates to refuse a build" % len(index)
        )
    job.act_on(findings)
    calibrate(job, staged, index, raw, rows, pictures, copies)
    hard = hard_recall(index, plan, staged.kept, cache, seed=seed, places=hard_places(len(index)))
    job.report["quality"]["hard_r1"] = None if math.isnan(hard) else round(hard, 4)
    staged.meta["quality"] = {key: value for key, value in job.report["quality"].items() if value is not None}
    staged.meta["coverage"] = {key: job.report["coverage"][key] for key in ("describable_ratio", "localisable_ratio")}
    del staged.meta["files"]
    seal(job, staged)
    verify_files(job.staged)


def _georeference(index: Index, plan: Plan, kept: Any) -> None:
    """Degrees and back must land on the same pixel to a tenth."""
    for row in _gates.evenly(len(index), 32):
        window: Window = plan.windows[kept[row]]
        facts = index.rows_meta[row]
        lon, lat = lonlat_of(float(facts["mx_m"]), float(facts["my_m"]))
        mx, my = mercator_of(lon_deg=lon, lat_deg=lat)
        unit = WORLD_M / (plan.tile_px << window.scale.zoom)
        half = window.scale.side_px / 2
        if max(abs(mx / unit - window.x_px - half), abs(my / unit - window.y_px - half)) >= 0.1:
            raise BuilderError("georeference_failed", "row %d does not lie where its window was cut" % row)
