# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""What every head is: it turns pictures of places into raw descriptors."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from ._errors import BuilderError

__all__ = ["DATA", "Head", "package_array", "package_file"]

DATA = Path(__file__).parent / "data"


def package_file(name: str, sha256: str) -> bytes:
    """A file shipped with the package, checked against its pinned hash.

    Raises:
        BuilderError: `model_unavailable`, `model_invalid`.
    """
    try:
        raw = (DATA / name).read_bytes()
    except OSError as error:
        raise BuilderError(
            "model_unavailable", "the package's file %s is missing" % name, hint="install again"
        ) from error
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise BuilderError("model_invalid", "the package's file %s is not the one it was released with" % name)
    return raw


def package_array(name: str, sha256: str) -> Any:
    """An array shipped with the package; see `package_file`."""
    return np.load(io.BytesIO(package_file(name, sha256)), allow_pickle=False)


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
