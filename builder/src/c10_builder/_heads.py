# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The heads by model id."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Optional

from ._errors import BuilderError
from ._head import Head
from ._lite0 import Lite0Vlad
from ._onnx_head import MODEL_SPEC_NAME, SpecHead
from ._orb import OrbVlad
from ._session import Runtime

__all__ = ["open_head"]

_ONE_THREAD = Runtime()


def open_head(model_id: str, runtime: Runtime = _ONE_THREAD, *, folder: Optional[Path] = None) -> Head:
    """Load a model; `auto` is lite0-vlad where onnxruntime is installed, else orb-vlad.

    Args:
        model_id: `auto`, a shipped model, or the path of a spec file (ends in .json; see `_onnx_head`).
        runtime: what to compute it with.
        folder: an index, which may hold a model of its own.

    Raises:
        BuilderError: `model_unavailable`, `model_invalid`, `bad_request`.
    """
    if folder is not None and (folder / MODEL_SPEC_NAME).exists():
        return SpecHead(folder / MODEL_SPEC_NAME, runtime)
    if model_id == "auto":
        model_id = "lite0-vlad" if importlib.util.find_spec("onnxruntime") else "orb-vlad"
    if model_id == "orb-vlad":
        return OrbVlad(runtime)
    if model_id == "lite0-vlad":
        return Lite0Vlad(runtime)
    if model_id.endswith(".json"):
        return SpecHead(Path(model_id), runtime)
    raise BuilderError(
        "bad_request",
        "the model %r is not known" % model_id,
        hint="known: auto, lite0-vlad, orb-vlad, or the path of a model's spec (.json)",
    )
