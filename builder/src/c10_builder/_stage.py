# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Fit and pack: from raw descriptors to the files of an index, in a folder that is not yet in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np

from . import _gates
from ._descriptors import Described
from ._errors import BuilderError
from ._geo import WORLD_M, lonlat_of, mercator_stretch
from ._head import Head
from ._identity import decoder_version, write_binding
from ._index import META_DTYPE, NEAR_BLOCK_ROWS
from ._job import Job
from ._localise import localisability, map_files, thirds
from ._pack import Rows, fit_pca, let_go, project_all, quantise
from ._publish import canonical, file_table, save_array, write_file
from ._version import CODE_VERSION, INDEX_SCHEMA, __version__
from ._windows import Plan

__all__ = ["Staged", "seal", "stage"]

_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Staged:
    """An index that is written but not in place.

    Attributes:
        kept: position in the plan of each row.
        look_alike: similarity of the best far look-alike, of the rows that have one.
        meta: what index.json says; the gates add to it.
        package_id: what the index is bound to.
        parity_cos_min: least cosine between what computes the model and the CPU.
    """

    kept: Any
    look_alike: Any
    meta: Dict[str, Any]
    package_id: str
    parity_cos_min: float


def stage(
    job: Job,
    plan: Plan,
    head: Head,
    rows: Described,
    content_id: str,
    package_id: str,
) -> Staged:
    """Fit, pack and write the index into the staged folder; complete but for what the gates find."""
    settings, raw, shares = job.request.settings, rows.raw, rows.shares
    # a window without a single feature (a roof of cloud, one clean field) has no descriptor to be found by
    featured = shares >= settings.min_valid_ratio
    for start in range(0, len(raw), _BLOCK_ROWS):
        featured[start : start + _BLOCK_ROWS] &= np.any(raw[start : start + _BLOCK_ROWS], axis=1)
        let_go(raw)
    kept = np.flatnonzero(featured)
    windows = job.report["windows"]
    windows["excluded"] = len(shares) - len(kept)
    windows["described"] = int(rows.fresh[kept].sum())
    windows["reused"] = len(kept) - windows["described"]
    if len(kept) < 2:
        raise BuilderError(
            "nothing_to_describe",
            "of %d windows only %d hold enough imagery to be described" % (len(shares), len(kept)),
            hint="the map is empty, black or too coarse here; check the tile source",
        )
    compact = Rows(raw, kept)
    figures, findings = _gates.degeneracy(compact, head.telling_dim)
    job.report["quality"].update(figures)
    job.act_on(findings)
    basis = fit_pca(compact, settings.dims)
    if len(kept) < settings.dims:
        job.voice.warn(
            "pca_few_rows",
            "%d windows give %d axes instead of %d; nothing is lost" % (len(kept), basis.shape[1], settings.dims),
        )
    coded = np.empty((len(kept), basis.shape[1]), dtype=np.int8)
    facts = np.zeros(len(kept), dtype=META_DTYPE)
    for start, part in project_all(compact, basis):
        stop = start + len(part)
        coded[start:stop], facts["inv_length"][start:stop] = quantise(part)
    scale, bounds = plan.squares()
    # from the windows, not the area, so that the content is theirs alone
    latitude = lonlat_of(0.0, float(bounds[:, 1].min() + bounds[:, 3].max()) / 2)[1]
    facts["mx_m"], facts["my_m"] = ((bounds[kept, k] + bounds[kept, k + 2]) / 2 for k in (0, 1))
    facts["scale"] = scale[kept]
    facts["side_m"] = np.array([each.side_m for each in plan.scales])[scale[kept]]
    facts["valid"] = np.rint(shares[kept].astype(np.float64) * 255)
    del bounds
    ranges = [
        (int(np.searchsorted(facts["scale"], k)), int(np.searchsorted(facts["scale"], k, "right")))
        for k in range(len(plan.scales))
    ]
    stretch = mercator_stretch(latitude)
    facts["localisability"], look_alike, neighbour = localisability(coded, facts, ranges, stretch=stretch)
    blocks = np.array(
        [
            [part["mx_m"].min(), part["my_m"].min(), part["mx_m"].max(), part["my_m"].max()]
            for part in (facts[s : s + NEAR_BLOCK_ROWS] for s in range(0, len(facts), NEAR_BLOCK_ROWS))
        ]
    )
    job.staged.mkdir()
    for name, data in head.files.items():
        write_file(job.staged / name, data)
    save_array(job.staged / "rows.npy", coded)
    save_array(job.staged / "meta.npy", facts)
    save_array(job.staged / "blocks.npy", blocks)
    save_array(job.staged / "pca_basis.npy", basis)
    middle = _write_localisability(job, plan, facts, look_alike, neighbour, ranges)
    job.report["coverage"]["describable_ratio"] = _describable(scale, kept)
    meta: Dict[str, Any] = {
        "schema_version": INDEX_SCHEMA,
        "builder": __version__,
        "code_version": CODE_VERSION,
        "content_id": content_id,
        "model": {"id": head.id, "sha256": head.sha256, "window_px": head.window_px, "dim": head.dim},
        "decoder": decoder_version(),
        "latitude_deg": latitude,
        "camera": {
            "hfov_deg": job.request.camera.hfov_deg,
            "agl_m": [job.request.camera.agl_min_m, job.request.camera.agl_max_m],
            "width_px": job.request.camera.width_px,
            "height_px": job.request.camera.height_px,
        },
        "rows": len(kept),
        "planned": len(shares),
        "dims": int(basis.shape[1]),
        "tile_px": plan.tile_px,
        "scales": [
            {
                "side_m": scale.side_m,
                "zoom": scale.zoom,
                "side_px": scale.side_px,
                "stride_px": scale.stride_px,
                "gsd_m": scale.gsd_m,
                "rows": list(ranges[scale.index]),
            }
            for scale in plan.scales
        ],
        "settings": job.request.settings.content(),
        "localisability": middle,
        "calibration": {},
    }
    staged = Staged(kept, look_alike[np.isfinite(look_alike)], meta, package_id, head.parity_cos_min)
    seal(job, staged)
    return staged


def _write_localisability(
    job: Job, plan: Plan, facts: Any, look_alike: Any, neighbour: Any, ranges: List[Tuple[int, int]]
) -> Dict[str, Any]:
    """The map of the middle scale, and what it says about the whole."""
    populated = [k for k, (first, last) in enumerate(ranges) if last > first]
    middle = populated[len(populated) // 2]
    scale = plan.scales[middle]
    unit = WORLD_M / (plan.tile_px << scale.zoom)
    raster, place, zones = map_files(facts, ranges[middle], stride_m=scale.stride_px * unit)
    write_file(job.staged / "localisability.png", raster)
    write_file(job.staged / "localisability.geojson", zones)
    values = facts["localisability"][slice(*ranges[middle])]
    # a place is ambiguous when something farther away looks more like it than any window overlapping it
    both = np.isfinite(look_alike[slice(*ranges[middle])]) & np.isfinite(neighbour[slice(*ranges[middle])])
    wins = (look_alike > neighbour)[slice(*ranges[middle])][both]
    ambiguous = float(wins.mean()) if len(wins) else None
    if ambiguous is not None:
        job.report["quality"]["ambiguous_ratio"] = round(ambiguous, 4)
        job.report["coverage"]["localisable_ratio"] = round(1 - ambiguous, 4)
        if ambiguous > 0.2:
            job.voice.warn(
                "ambiguous",
                "%.0f %% of the map has a look-alike elsewhere on it; see localisability.geojson" % (100 * ambiguous),
            )
    return {"scale": middle, "levels": thirds(values), "raster": place}


def seal(job: Job, staged: Staged) -> None:
    """Write index.json over the files as they are, and the binding over index.json."""
    staged.meta["files"] = file_table(job.staged)
    write_file(job.staged / "index.json", canonical(staged.meta))
    write_binding(job.request, job.staged, staged.meta["content_id"], staged.package_id)


def _describable(scale: Any, kept: Any) -> float:
    """Share of the area's smallest-scale cells that have a described window."""
    smallest = scale == scale.min()
    return round(int(smallest[kept].sum()) / int(smallest.sum()), 4)
