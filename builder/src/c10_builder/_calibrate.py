# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""What a score means on this map, what int8 costs, and the probes an airborne program replays before arming."""

from __future__ import annotations

from typing import Any, List

import numpy as np

from . import _gates
from ._errors import BuilderError
from ._geo import mercator_stretch
from ._index import Index, replay_probes
from ._job import Job
from ._pack import Rows, project, project_all
from ._publish import save_array
from ._stage import Staged

__all__ = ["calibrate"]

#: Above this many rows the cost of int8 is not measured: it needs every row as float.
_FLOAT_CHECK_ROWS = 50_000


def calibrate(
    job: Job, staged: Staged, index: Index, raw: Any, rows: Any, pictures: List[Any], descriptors: Any
) -> None:
    """What a score means on this map, what int8 costs, and the probes an airborne program replays before arming."""
    head = index.head()
    genuine, agree, agree_float = [], 0, 0
    basis = np.load(job.staged / "pca_basis.npy", allow_pickle=False)
    exact: Any = None
    if len(index) <= _FLOAT_CHECK_ROWS:
        exact = np.concatenate([part for _start, part in project_all(Rows(raw, staged.kept), basis)])
    queries = project(descriptors, basis)
    for query, descriptor, row in zip(queries, descriptors, rows):
        facts = index.rows_meta[int(row)]
        first, last = index.meta["scales"][int(facts["scale"])]["rows"]
        best = index.search(descriptor, top=1, scales=[int(facts["scale"])])[0]
        near = float(facts["side_m"]) * mercator_stretch(index.meta["latitude_deg"])
        hit = _apart(index, best.row, int(row)) <= near
        agree += hit
        if hit:
            genuine.append(best.score)
        if exact is not None:
            pick = first + int(np.argmax(exact[first:last] @ query))
            agree_float += _apart(index, pick, int(row)) <= near
    if exact is not None:
        job.report["quality"]["int8_delta_r1"] = round((agree - agree_float) / len(rows), 4)
    impostor = staged.look_alike if len(staged.look_alike) else np.zeros(1, dtype=np.float32)
    good = np.array(genuine if genuine else [0.0])
    staged.meta["calibration"] = {
        "look_alike_p50": round(float(np.percentile(impostor, 50)), 4),
        "look_alike_p99": round(float(np.percentile(impostor, 99)), 4),
        "copy_p05": round(float(np.percentile(good, 5)), 4),
        "copy_p50": round(float(np.percentile(good, 50)), 4),
        "copies": len(genuine),
    }
    picks = _gates.evenly(len(rows), 8)
    probes = np.stack([pictures[k] for k in picks])
    save_array(job.staged / "probes.npy", probes)
    save_array(job.staged / "probe_vectors.npy", head.describe(probes))
    save_array(job.staged / "probe_rows.npy", rows[picks].astype(np.int64))
    figures = replay_probes(Index(job.staged))
    job.report["quality"]["parity_cos_min"] = min(figures["cos_min"], round(staged.parity_cos_min, 4))
    if figures["cos_min"] < 0.999 or figures["rows_agree"] < figures["probes"]:
        raise BuilderError("descriptors_degenerate", "the reference pictures do not give the stored descriptors again")


def _apart(index: Index, one: int, other: int) -> float:
    a, b = index.rows_meta[one], index.rows_meta[other]
    return float(np.hypot(a["mx_m"] - b["mx_m"], a["my_m"] - b["my_m"]))
