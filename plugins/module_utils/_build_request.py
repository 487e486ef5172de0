# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the builder is asked for: one JSON document with the paths of this run, and its stable core without them.

The stable core is sealed into the generation as `request.json`; the SHA-256 of its canonical bytes, `inputs_id`, says
whether a companion already holds what this run would build.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, Mapping, Optional

from ._area import Area
from ._config import PreflightConfig
from ._flight import Flight
from ._report import to_plain

__all__ = ["canonical_json", "for_builder", "inputs_id", "request_for_run", "stable_core", "stable_request"]

REQUEST_SCHEMA_VERSION = 1
OF_ONE_RUN = frozenset(
    ("run_id", "nonce", "archive_path", "output_dir", "work_dir", "descriptor_cache_dir", "previous_index_dir")
)
"""Keys that `request_for_run` adds."""


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """Sorted keys, no white space: equal documents have equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def stable_request(
    *, flight: Flight, area: Area, config: PreflightConfig, archive_sha256: str, builder_version: Optional[str]
) -> Dict[str, Any]:
    """All that decides the artefacts, and nothing that differs between two runs for the same flight."""
    box = area.bbox
    return {
        "schema_version": REQUEST_SCHEMA_VERSION,
        "flight_id": flight.flight_id,
        "flight_fingerprint": flight.fingerprint,
        "archive_sha256": archive_sha256,
        "area": {
            "kind": str(area.kind),
            "buffer_m": area.buffer_m,
            "bbox": [box.west, box.south, box.east, box.north],
            "geojson": area.to_geojson(),
        },
        "takeoff_origin": to_plain(flight.takeoff_origin),
        "camera": {
            "hfov_deg": config.camera_hfov_deg,
            "agl_m": config.camera_agl_m,
            "width_px": config.camera_width_px,
            "height_px": config.camera_height_px,
        },
        "model": {"id": config.model_id},
        "settings": {},
        "builder": {"command": config.c10_builder_command, "version": builder_version},
    }


def for_builder(stable: Mapping[str, Any], *, version: Optional[str]) -> Dict[str, Any]:
    """The stable request, for the builder of this version on one companion."""
    return {**stable, "builder": {**stable["builder"], "version": version}}


def inputs_id(stable: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the stable request's canonical bytes."""
    return hashlib.sha256(canonical_json(stable)).hexdigest()


def request_for_run(
    stable: Mapping[str, Any], *, run_id: str, nonce: str, root: str, archive_path: str, current_index: Optional[str]
) -> Dict[str, Any]:
    """The request with this run's paths on the companion.

    Args:
        root: the companion's cache root.
        nonce: the builder repeats it in its report, which proves that the report is of this run.
        current_index: the index of the active generation, as the basis of an incremental build.
    """
    return {
        **stable,
        "run_id": run_id,
        "nonce": nonce,
        "archive_path": archive_path,
        "output_dir": f"{root}/work/{run_id}/index",
        "work_dir": f"{root}/jobs/{run_id}/scratch",
        "descriptor_cache_dir": f"{root}/descriptors",
        "previous_index_dir": current_index,
    }


def stable_core(request: Mapping[str, Any]) -> Dict[str, Any]:
    """The stable request that `request_for_run` was given."""
    return {name: value for name, value in request.items() if name not in OF_ONE_RUN}
