# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""What makes two builds the same: content (pixels, model, plan), and package (flight, area and take-off as well)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import PIL
from PIL import features as pil_features

from ._cut import window_digest
from ._head import Head
from ._publish import canonical, write_file
from ._request import BuildRequest
from ._screen import Screened
from ._version import CODE_VERSION, INDEX_SCHEMA, __version__
from ._windows import Plan

__all__ = ["decoder_version", "identities", "package_of", "write_binding"]


def decoder_version() -> str:
    """What decides a decoded pixel: Pillow, and the libraries it was built with."""
    parts = ["pillow-" + PIL.__version__]
    for name in ("jpg", "webp"):
        parts.append("%s-%s" % (name, pil_features.version(name) or "none"))
    return ",".join(parts)


def identities(request: BuildRequest, plan: Plan, screened: Screened, head: Head) -> Tuple[List[bytes], str, str]:
    """The key of each window, `content_id`, `package_id`: all known without decoding a pixel."""
    common = canonical(
        [
            CODE_VERSION,
            decoder_version(),
            head.id,
            head.sha256,
            head.provider["used"],
            head.window_px,
            plan.tile_px,
            request.settings.min_valid_ratio,
        ]
    )
    prefix = hashlib.sha256(common).digest()
    digests = [window_digest(window, screened, head.window_px, prefix) for window in plan.windows]
    camera = request.camera
    content = hashlib.sha256(common)
    content.update(
        canonical(
            [
                INDEX_SCHEMA,
                __version__,
                np.__version__,
                request.settings.content(),
                [camera.hfov_deg, camera.agl_min_m, camera.agl_max_m],
                [camera.width_px, camera.height_px],
            ]
        )
    )
    for digest in digests:
        content.update(digest)
    content_id = content.hexdigest()
    return digests, content_id, hashlib.sha256(canonical([content_id, _binding(request)])).hexdigest()


def _binding(request: BuildRequest) -> Dict[str, Any]:
    return {
        "flight_id": request.flight_id,
        "area": {"kind": request.area_kind, "buffer_m": request.buffer_m, "bbox": list(request.bbox)},
        "polygons_sha256": hashlib.sha256(canonical(request.polygons)).hexdigest(),
        "takeoff_origin": {
            "lat_deg": request.takeoff.lat_deg,
            "lon_deg": request.takeoff.lon_deg,
            "alt_m": request.takeoff.alt_m,
        },
    }


def write_binding(request: BuildRequest, folder: Path, content_id: str, package_id: str) -> None:
    """Bind the index in `folder` to the request's flight, area and take-off."""
    index_sha256 = hashlib.sha256((folder / "index.json").read_bytes()).hexdigest()
    bound = dict(
        _binding(request),
        content_id=content_id,
        package_id=package_id,
        index_sha256=index_sha256,
        schema_version=1,
    )
    write_file(folder / "binding.json", canonical(bound))


def package_of(folder: Path) -> Optional[str]:
    """The package that an index is bound to; None where that cannot be read."""
    try:
        found = json.loads((folder / "binding.json").read_bytes().decode("utf-8")).get("package_id")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None
