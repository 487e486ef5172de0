# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The head `orb-vlad`: binary ORB features, aggregated; no weights."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ._errors import BuilderError
from ._head import Head, package_array
from ._session import Runtime
from ._vlad import block_matmul, sign_projection, unit_rows, vlad

__all__ = ["OrbVlad"]

ORB_WORDS = ("orb_vlad_words_v1.npy", "c0770b1da513ce3dddb4d32c6f1fbe836798980361cc9b27eb20ca38bccead7c")


_ONE_THREAD = Runtime()


class OrbVlad(Head):
    """Binary ORB features (Rublee et al., ICCV 2011) aggregated over 16 shipped words, sketched to 1024 values.

    Needs opencv-python-headless, 4.x or 5.x. No weights.
    """

    id = "orb-vlad"
    dim = 1024
    window_px = 288
    _FEATURES = 500

    def __init__(self, runtime: Runtime = _ONE_THREAD) -> None:
        try:
            import cv2
        except ImportError as error:
            raise BuilderError(
                "model_unavailable",
                "the model orb-vlad needs OpenCV, which is not installed",
                hint="pip install 'gps-denied-c10-builder[orb]'",
            ) from error
        cv2.setNumThreads(1)
        self._cv2 = cv2
        self.provider = {
            "requested": runtime.provider,
            "used": "cpu",
            "fallback_reason": None if runtime.provider == "cpu" else "orb-vlad runs on the CPU alone",
        }
        self._pool = ThreadPoolExecutor(max_workers=max(1, runtime.threads), thread_name_prefix="c10-describe")
        self._own = threading.local()
        self._words = package_array(*ORB_WORDS)
        self._projection = sign_projection(self._words.size, self.dim, "c10 orb-vlad v1")
        text = "%s|v1|%d|%d|%s|cv%s" % (self.id, self.window_px, self._FEATURES, ORB_WORDS[1], cv2.__version__)
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()

    def local(self, picture: Any) -> Any:
        """n x 256 float32: the picture's binary features as unit vectors of +-1/16."""
        grey = self._cv2.cvtColor(np.ascontiguousarray(picture), self._cv2.COLOR_RGB2GRAY)
        if not hasattr(self._own, "orb"):
            # one for each thread: a detector keeps what it is at work on
            self._own.orb = self._cv2.ORB_create(
                nfeatures=self._FEATURES, scaleFactor=1.2, nlevels=6, edgeThreshold=15, patchSize=31, fastThreshold=5
            )
        _points, features = self._own.orb.detectAndCompute(grey, None)
        if features is None or not len(features):
            return np.zeros((0, 256), dtype=np.float32)
        # sorted, since sums in floating point depend on the order, and the detector's order is nobody's promise
        features = features[np.lexsort(features.T[::-1])]
        return (np.unpackbits(features, axis=1).astype(np.float32) * 2 - 1) / np.float32(16)

    def describe(self, pictures: Any) -> Any:
        """See `Head.describe`."""
        full = np.stack(list(self._pool.map(lambda picture: vlad(self.local(picture), self._words), pictures)))
        return unit_rows(block_matmul(full, self._projection)).astype(np.float32)
