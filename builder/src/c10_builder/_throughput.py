# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""How many windows a second are described, beside a bare loop of the same model over ready pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from ._describe import described
from ._geo import Polygons
from ._heads import open_head
from ._lite0 import backbone
from ._pmtiles import PmtilesReader
from ._request import BuildRequest
from ._screen import scan, screen
from ._session import Runtime
from ._windows import make_plan

__all__ = ["throughput"]


def _plain_loop(threads: int, seconds: float) -> Tuple[float, int]:
    """Windows a second of a bare onnxruntime loop over ready pictures, at its best batch; and that batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(backbone(), options, providers=["CPUExecutionProvider"])
    best = (0.0, 1)
    for batch in (1, 2, 4, 8, 16, 32):
        pictures = np.random.RandomState(0).randint(0, 255, (batch, 224, 224, 3)).astype(np.uint8)
        session.run(None, {"picture": pictures})
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            session.run(None, {"picture": pictures})
            done += batch
        best = max(best, (done / (time.perf_counter() - started), batch))
    return best


def throughput(
    archive: Path, request: BuildRequest, *, threads: int, windows: int = 600, loop_s: float = 2.0
) -> Dict[str, Any]:
    """Windows described a second, decoding and cutting included, beside a bare loop over ready pictures."""
    found: Dict[str, Any] = {"threads": threads, "windows": windows}
    with PmtilesReader(archive) as reader:
        screened = screen(reader, scan(reader, progress=lambda *_: None), progress=lambda *_: None)
        spent: Dict[str, float] = {}
        for model in ("lite0-vlad", "orb-vlad"):
            head = open_head(model, Runtime(threads=threads))
            plan, _notes = make_plan(
                Polygons.of_lonlat(request.polygons),
                screened,
                request.camera,
                request.settings,
                window_px=head.window_px,
            )
            which = range(min(windows, len(plan.windows)))
            started = time.perf_counter()
            for _batch in described(reader, screened, plan, head, which, min_valid_ratio=0.6):
                pass
            spent[model] = (time.perf_counter() - started) / len(which)
            found[model + "_per_s"] = round(1 / spent[model], 1)
    bare, batch = _plain_loop(threads, loop_s)
    found.update(onnxruntime_per_s=round(bare, 1), onnxruntime_batch=batch)
    found["ratio"] = round(1 / spent["lite0-vlad"] / bare, 2)
    found["ratio_both_heads"] = round(1 / sum(spent.values()) / bare, 2)
    return found
