# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The head `lite0-vlad`: EfficientNet-Lite0 features of stride 16, aggregated in three ways.

The words (VLAD) say what there is wherever it lies; the mean features around the middles of the four quarters say
roughly where, which pictures turned north up can afford; the generalised mean over the whole picture (GeM, Radenovic et
al., TPAMI 2019) forgives a centre that is off, as it is when the ground point of an oblique picture is reckoned over
flat ground. It weighs most, since much of it is the same in every picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._head import package_array, package_file
from ._onnx_head import OnnxHead
from ._session import Runtime
from ._vlad import unit_rows, vlad

__all__ = ["BACKBONE", "QUARTERS", "WORDS", "Lite0Vlad", "backbone", "feature_map", "generalised_mean"]

BACKBONE = ("efficientnet_lite0_s16.onnx", "d253353e183ff1f3bb1d98fe2d3fb67d5ebfd9be8f901e0f4bf64993e6928d77")
WORDS = ("lite0_words_v1.npy", "310427ade392ef067028ea538aecb2c7845a864083cf2413f6800a52a55ac0d2")
#: (113, 112): a partial whitening matrix, then the mean it is taken about.
QUARTERS = ("lite0_quarters_v1.npy", "defa06589425fd200e258c90474fcde32dab01314c21396f8fd0e75a220e0447")
_GRID, _CHANNELS = 14, 112
_MEAN_WEIGHT = np.float32(2.5)
_QUARTER_SIGMA = 0.15
"""How far around the middle of a quarter is looked, as a share of the picture's side."""
_ONE_THREAD = Runtime()


def backbone() -> bytes:
    """The shipped backbone; see `package_file`."""
    return package_file(*BACKBONE)


def generalised_mean(local: Any) -> Any:
    """112 float32 of length one from n x 112: the cubic mean of each channel's positive part."""
    positive = np.maximum(local, np.float32(1e-6))
    return unit_rows((positive * positive * positive).mean(axis=0) ** np.float32(1 / 3))


def _quarter_weights() -> Any:
    """4 x 196 float32, rows that add up to one: a Gaussian around the middle of each quarter."""
    step = np.arange(_GRID) / (_GRID - 1)
    near = np.exp(-((step - np.array([[0.25], [0.75]])) ** 2) / (2 * _QUARTER_SIGMA**2))
    weights = np.stack([np.outer(row, column).ravel() for row in near for column in near])
    return np.ascontiguousarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def feature_map(output: Any) -> Any:
    """The backbone's output for one picture as 196 x 112 float32, rows from north-west to south-east."""
    return np.ascontiguousarray(output.reshape(_CHANNELS, _GRID * _GRID).T)


class Lite0Vlad(OnnxHead):
    """EfficientNet-Lite0 (Google, Apache-2.0), 16 x 112 values by word, 4 x 112 by quarter, 112 over all."""

    id = "lite0-vlad"

    def __init__(self, runtime: Runtime = _ONE_THREAD) -> None:
        self._words = package_array(*WORDS)
        table = package_array(*QUARTERS)
        self._whiten, self._mean = np.ascontiguousarray(table[:-1]), table[-1]
        self._quarters = _quarter_weights()
        self.telling_dim = self._words.size + 4 * _CHANNELS
        self.dim = self.telling_dim + _CHANNELS
        super().__init__(backbone(), runtime, window_px=224, identity="|".join([self.id, "v3", WORDS[1], QUARTERS[1]]))

    def features(self, picture: Any) -> Any:
        """See `feature_map`."""
        return feature_map(self._session.run(picture[None])[0])

    def _aggregate(self, output: Any) -> Any:
        local = feature_map(output)
        words = vlad(unit_rows(local), self._words)
        quarters = unit_rows((self._quarters @ local - self._mean) @ self._whiten)
        return unit_rows(
            np.concatenate([words, unit_rows(quarters.reshape(-1)), _MEAN_WEIGHT * generalised_mean(local)])
        )
