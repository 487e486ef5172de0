# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The build's report, before anything is known."""

from __future__ import annotations

import platform
from typing import Any, Dict

from ._version import __version__

__all__ = ["empty_report"]


def empty_report(run_id: str, nonce: str) -> Dict[str, Any]:
    """A report with every key, before anything is known."""
    return {
        "t": "report",
        "schema_version": 1,
        "run_id": run_id,
        "nonce": nonce,
        "outcome": "failure",
        "failure": None,
        "flight_id": None,
        "package_id": None,
        "content_id": None,
        "rebind_only": False,
        "tiles": {"in_area": 0, "ok": 0, "missing": 0, "corrupt": 0, "blank": 0, "placeholder": 0, "bytes": 0},
        "coverage": {
            "area_km2": None,
            "covered_ratio": None,
            "describable_ratio": None,
            "takeoff_covered": None,
            "localisable_ratio": None,
        },
        "windows": {"planned": 0, "described": 0, "reused": 0, "excluded": 0},
        "model": {"id": None, "sha256": None},
        "provider": {"requested": None, "used": None, "fallback_reason": None},
        "quality": {
            "self_r1": None,
            "self_r5": None,
            "hard_r1": None,
            "ambiguous_ratio": None,
            "raw_mean_cos": None,
            "raw_eff_rank": None,
            "parity_cos_min": None,
            "int8_delta_r1": None,
        },
        "artifacts": {"bytes": 0, "files": 0, "manifest_sha256": None},
        "timing_s": {},
        "resources": {"peak_rss_mb": None, "threads": None, "device": "cpu"},
        "warnings": [],
        "versions": {"builder": __version__, "python": platform.python_version()},
    }
