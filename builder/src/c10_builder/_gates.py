# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Gates: figures that tell a useless index from a useful one, and the point at which a build is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np
from PIL import Image, ImageEnhance

from ._errors import BuilderError
from ._geo import mercator_stretch

__all__ = ["GATE_ROWS_MIN", "degeneracy", "evenly", "perturbed", "self_retrieval"]

#: Below this many rows the figures say nothing about the model: gates warn instead of failing.
GATE_ROWS_MIN = 32
_SAMPLE_ROWS = 512


@dataclass(frozen=True)
class Finding:
    """A gate's word: a warning, or a failure."""

    code: str
    text: str
    fatal: bool


def evenly(count: int, wanted: int) -> Any:
    """`wanted` indices spread over range(count)."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


def degeneracy(raw: Any, telling_dim: int = 0) -> Tuple[Dict[str, float], List[Finding]]:
    """Whether raw descriptors, before any centring, tell places apart at all.

    A broken weight conversion gives nearly equal vectors; after centring and PCA it looks like a good model, so this
    looks at the raw rows. Effective rank: Roy and Vetterli, EUSIPCO 2007.

    Args:
        raw: rows x values.
        telling_dim: see `Head`.
    """
    rows = np.asarray(raw[evenly(len(raw), _SAMPLE_ROWS)], dtype=np.float64)[:, : telling_dim or None]
    findings: List[Finding] = []
    if not np.isfinite(rows).all():
        raise BuilderError("descriptors_degenerate", "the model gave values that are not numbers")
    norms = np.linalg.norm(rows, axis=1)
    rows = rows[norms > 1e-6]
    figures = {"raw_mean_cos": 1.0, "raw_eff_rank": 0.0}
    if len(rows) >= 2:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
        power = np.linalg.svd(rows, compute_uv=False) ** 2
        share = power / power.sum()
        share = share[share > 1e-15]
        figures = {
            "raw_mean_cos": round(float(cosines.mean()), 4),
            "raw_eff_rank": round(float(np.exp(-(share * np.log(share)).sum())), 2),
        }
        equal = float((cosines > 0.999).mean())
    else:
        equal = 1.0
    enough = len(raw) >= GATE_ROWS_MIN
    mean_cos, rank = figures["raw_mean_cos"], figures["raw_eff_rank"]
    # a sound model over one kind of ground has a large common part and so a low rank (4.2 on an even texture);
    # only with nearly parallel descriptors is it the model that is broken
    for bad, fatal, text in (
        (mean_cos > 0.97, True, "descriptors of different places are nearly equal (mean cosine %.3f)" % mean_cos),
        (equal > 0.01 and len(raw) > 4, True, "%.1f %% of pairs of places have the same descriptor" % (100 * equal)),
        (rank < 5, mean_cos > 0.9, "the descriptors span only %.1f directions" % rank),
    ):
        if bad:
            findings.append(Finding("descriptors_degenerate", text, fatal=fatal and enough))
    return figures, findings


def perturbed(picture: Any, seed: int) -> Any:
    """A copy of a picture as another day's camera might see it: turned, scaled, shifted, other light."""
    rng = np.random.RandomState(seed & 0x7FFFFFFF)
    size = picture.shape[0]
    image = Image.fromarray(picture)
    angle, scale = float(rng.uniform(-6, 6)), float(rng.uniform(0.92, 1.08))
    dx, dy = rng.uniform(-0.05, 0.05, 2) * size
    cos, sin = np.cos(np.radians(angle)) * scale, np.sin(np.radians(angle)) * scale
    half = size / 2.0
    matrix = (cos, -sin, half - cos * half + sin * half + dx, sin, cos, half - sin * half - cos * half + dy)
    mean = tuple(int(v) for v in picture.reshape(-1, 3).mean(axis=0))
    # Numbers instead of names: Pillow 9.0 and the newest agree on them alone.
    image = image.transform((size, size), 0, matrix, resample=2, fillcolor=mean)  # type: ignore[arg-type]
    image = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.8, 1.2)))
    image = ImageEnhance.Contrast(image).enhance(float(rng.uniform(0.8, 1.2)))
    return np.asarray(image)


def self_retrieval(
    index: Any, pictures: Any, rows: Any, *, latitude_deg: float, seed: int
) -> Tuple[Dict[str, float], List[Finding], Any]:
    """Share of perturbed copies of the index's own windows that are found again within one window side.

    A gate, never a score: a different season is not in it. The copies' descriptors are returned as well.
    """
    head = index.head()
    stretch = mercator_stretch(latitude_deg)
    first = fifth = 0
    raw = head.describe(np.stack([perturbed(picture, seed + k) for k, picture in enumerate(pictures)]))
    for descriptor, row in zip(raw, rows):
        facts = index.rows_meta[int(row)]
        reach = float(facts["side_m"]) * stretch
        hits = [
            np.hypot(index.rows_meta[m.row]["mx_m"] - facts["mx_m"], index.rows_meta[m.row]["my_m"] - facts["my_m"])
            <= reach
            for m in index.search(descriptor, top=5, scales=[int(facts["scale"])])
        ]
        first += bool(hits and hits[0])
        fifth += bool(any(hits))
    count = len(rows)
    figures = {"self_r1": round(first / count, 4), "self_r5": round(fifth / count, 4)}
    findings: List[Finding] = []
    if figures["self_r1"] < 0.9:
        text = "only %d of %d slightly changed copies of the map's own windows were found again" % (first, count)
        findings.append(
            Finding(
                "self_retrieval_failed",
                text,
                fatal=figures["self_r1"] < 0.7 and len(index) >= GATE_ROWS_MIN and count >= 20,
            )
        )
    return figures, findings, raw
