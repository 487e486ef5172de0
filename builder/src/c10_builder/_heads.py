# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The heads: what turns a picture of a place into a raw descriptor, by model id."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from ._errors import BuilderError
from ._vlad import block_matmul, sign_projection, unit_rows, vlad

__all__ = ["DATA", "Head", "OrbVlad", "open_head", "package_array"]

DATA = Path(__file__).parent / "data"


def package_array(name: str, sha256: str) -> Any:
    """An array shipped with the package, checked against its pinned hash."""
    path = DATA / name
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BuilderError(
            "model_unavailable", "the package's file %s is missing" % name, hint="install again"
        ) from error
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise BuilderError("model_invalid", "the package's file %s is not the one it was released with" % name)
    return np.load(path, allow_pickle=False)


class Head:
    """A model: pictures in, raw descriptors (unit rows) out.

    Attributes:
        id: name by which requests ask for it.
        sha256: hash of everything that decides its output: weights, vocabulary, parameters, library version.
        dim: length of a raw descriptor.
        window_px: side of the square picture it takes.
        provider: what computes it, and why it is not what was asked for, if so.
    """

    id = ""
    sha256 = ""
    dim = 0
    window_px = 224
    provider: Dict[str, Optional[str]] = {"requested": "cpu", "used": "cpu", "fallback_reason": None}

    def describe(self, pictures: Any) -> Any:
        """n x side x side x 3 uint8 -> n x dim float32."""
        raise NotImplementedError


ORB_WORDS = ("orb_vlad_words_v1.npy", "c0770b1da513ce3dddb4d32c6f1fbe836798980361cc9b27eb20ca38bccead7c")


class OrbVlad(Head):
    """Binary ORB features (Rublee et al., ICCV 2011) aggregated over 16 shipped words, sketched to 1024 values.

    Needs opencv-python-headless, 4.x or 5.x. No weights.
    """

    id = "orb-vlad"
    dim = 1024
    window_px = 288
    _FEATURES = 500

    def __init__(self) -> None:
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
        self._orb = cv2.ORB_create(
            nfeatures=self._FEATURES, scaleFactor=1.2, nlevels=6, edgeThreshold=15, patchSize=31, fastThreshold=5
        )
        self._words = package_array(*ORB_WORDS)
        self._projection = sign_projection(self._words.size, self.dim, "c10 orb-vlad v1")
        text = "%s|v1|%d|%d|%s|cv%s" % (self.id, self.window_px, self._FEATURES, ORB_WORDS[1], cv2.__version__)
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()

    def local(self, picture: Any) -> Any:
        """n x 256 float32: the picture's binary features as unit vectors of +-1/16."""
        grey = self._cv2.cvtColor(np.ascontiguousarray(picture), self._cv2.COLOR_RGB2GRAY)
        _points, features = self._orb.detectAndCompute(grey, None)
        if features is None or not len(features):
            return np.zeros((0, 256), dtype=np.float32)
        # sorted, since sums in floating point depend on the order, and the detector's order is nobody's promise
        features = features[np.lexsort(features.T[::-1])]
        return (np.unpackbits(features, axis=1).astype(np.float32) * 2 - 1) / np.float32(16)

    def describe(self, pictures: Any) -> Any:
        """See `Head.describe`."""
        full = np.stack([vlad(self.local(picture), self._words) for picture in pictures])
        return unit_rows(block_matmul(full, self._projection)).astype(np.float32)


def open_head(model_id: str, *, threads: int = 1, provider: str = "cpu") -> Head:
    """Load a model; `auto` is lite0-vlad where onnxruntime is installed, else orb-vlad.

    Raises:
        BuilderError: `model_unavailable`, `model_invalid`, `bad_request`.
    """
    if model_id == "auto":
        model_id = "lite0-vlad" if importlib.util.find_spec("onnxruntime") else "orb-vlad"
    if model_id == "orb-vlad":
        return OrbVlad()
    if model_id == "lite0-vlad":
        from ._lite0 import Lite0Vlad

        return Lite0Vlad(threads=threads)
    raise BuilderError("bad_request", "the model %r is not known" % model_id, hint="known: auto, lite0-vlad, orb-vlad")
