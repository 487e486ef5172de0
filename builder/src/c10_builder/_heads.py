# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The heads: what turns a picture of a place into a raw descriptor, by model id."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from ._errors import BuilderError
from ._session import Runtime
from ._vlad import block_matmul, sign_projection, unit_rows, vlad

__all__ = ["DATA", "Head", "OrbVlad", "open_head", "package_array"]

DATA = Path(__file__).parent / "data"
_ONE_THREAD = Runtime()


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
        telling_dim: how many of its first values differ much between places; what follows (a mean of positive
            features) is much the same in any picture, with a sound model as with a broken one. 0: all of them.
        window_px: side of the square picture it takes.
        provider: what computes it, and why it is not what was asked for, if so.
        parity_cos_min: least cosine between what computes it and the CPU, on reference pictures.
        files: what an index must hold for the model to be opened again, by name; empty for shipped models.
    """

    id = ""
    sha256 = ""
    dim = 0
    telling_dim = 0
    window_px = 224
    provider: Dict[str, Optional[str]] = {"requested": "cpu", "used": "cpu", "fallback_reason": None}
    parity_cos_min = 1.0

    @property
    def files(self) -> Dict[str, bytes]:
        """See the class."""
        return {}

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


def open_head(model_id: str, runtime: Runtime = _ONE_THREAD, *, folder: Optional[Path] = None) -> Head:
    """Load a model; `auto` is lite0-vlad where onnxruntime is installed, else orb-vlad.

    Args:
        model_id: `auto`, a shipped model, or the path of a spec file (ends in .json; see `_onnx_head`).
        runtime: what to compute it with.
        folder: an index, which may hold a model of its own.

    Raises:
        BuilderError: `model_unavailable`, `model_invalid`, `bad_request`.
    """
    from ._onnx_head import MODEL_SPEC_NAME, SpecHead

    if folder is not None and (folder / MODEL_SPEC_NAME).exists():
        return SpecHead(folder / MODEL_SPEC_NAME, runtime)
    if model_id == "auto":
        model_id = "lite0-vlad" if importlib.util.find_spec("onnxruntime") else "orb-vlad"
    if model_id == "orb-vlad":
        return OrbVlad(runtime)
    if model_id == "lite0-vlad":
        from ._lite0 import Lite0Vlad

        return Lite0Vlad(runtime)
    if model_id.endswith(".json"):
        return SpecHead(Path(model_id), runtime)
    raise BuilderError(
        "bad_request",
        "the model %r is not known" % model_id,
        hint="known: auto, lite0-vlad, orb-vlad, or the path of a model's spec (.json)",
    )
