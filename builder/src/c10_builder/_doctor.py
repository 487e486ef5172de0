# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Whether this machine can build: libraries, models, accelerators, and how fast each model is."""

from __future__ import annotations

import os
import platform
import time
from typing import Any, Dict, List, Optional

import numpy as np
import PIL
from PIL import features

from ._errors import BuilderError
from ._heads import open_head
from ._onnx_head import reference_pictures
from ._session import Runtime, device_facts

__all__ = ["examine"]

_PICTURES = 16


def _finding(check: str, level: str, text: str, hint: str = "") -> Dict[str, str]:
    return {"check": check, "level": level, "text": text, "hint": hint}


def _model(model_id: str, runtime: Runtime) -> Dict[str, str]:
    try:
        head = open_head(model_id, runtime)
        pictures = reference_pictures(_PICTURES, head.window_px)
        head.describe(pictures[:2])
        started = time.perf_counter()
        head.describe(pictures)
        rate = _PICTURES / (time.perf_counter() - started)
    except BuilderError as error:
        return _finding("model " + model_id, "warn", error.message, error.hint)
    text = "%.0f windows/s on %s, %d threads" % (rate, head.provider["used"], runtime.threads)
    reason = head.provider["fallback_reason"]
    if reason:
        return _finding(
            "model " + model_id, "warn", "%s; %s is not used: %s" % (text, head.provider["requested"], reason)
        )
    return _finding("model " + model_id, "ok", text)


def examine(*, provider: str = "cpu", model: Optional[str] = None) -> List[Dict[str, str]]:
    """Look at everything; each finding has `check`, `level` (ok, warn, fail), `text` and `hint`.

    Args:
        provider: what the models are to be computed with.
        model: path of a spec file to try besides the shipped models.
    """
    threads = min(4, os.cpu_count() or 1)
    found = [
        _finding("python", "ok", "CPython %s on %s" % (platform.python_version(), platform.machine())),
        _finding("numpy", "ok", np.__version__),
    ]
    lacking = [name for name in ("jpg", "webp", "zlib") if not features.check(name)]
    found.append(
        _finding("pillow", "ok", PIL.__version__)
        if not lacking
        else _finding("pillow", "fail", "%s without %s" % (PIL.__version__, ", ".join(lacking)), "install its wheel")
    )
    models = [_model(name, Runtime(threads, provider)) for name in ("lite0-vlad", "orb-vlad")]
    if not any(each["level"] == "ok" or "windows/s" in each["text"] for each in models):
        models.append(_finding("models", "fail", "no model can be run", "install onnxruntime or OpenCV"))
    found += models
    if model is not None:
        found.append(dict(_model(model, Runtime(threads, provider)), check="model " + os.path.basename(model)))
    try:
        facts: Dict[str, Any] = device_facts()
    except BuilderError:
        return found
    gpu = facts.get("gpu")
    found.append(_finding("gpu", "ok", "%s, TensorRT %s" % (gpu, facts["tensorrt"]) if gpu else "none seen"))
    return found
