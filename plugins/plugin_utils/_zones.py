# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brings the builder's zones (how easily each part of the map is recognised) home, for the page of the run."""

from __future__ import annotations

import json
from typing import Any, Dict

from ..module_utils._atomic_file import write_atomically
from ..module_utils._errors import CompanionUnreachableError
from ..module_utils._run import Run
from ._companion_action import CompanionAction

__all__ = ["keep_zones"]

MAX_BYTES = 2 * 1024 * 1024


def keep_zones(action: CompanionAction, run: Run, generation: str) -> None:
    """Write `zones-<host>.geojson` into the run's folder.

    Nothing depends on it: a builder that makes no zones, a map with too many of them, a link that breaks just then or a
    full disk leave the page without them.
    """
    path = f"{run.config.companion_cache_root}/generations/{generation}/index/localisability.geojson"
    try:
        done = action.command("head", "-c", str(MAX_BYTES + 1), path)
        if done.rc == 0 and len(done.stdout) <= MAX_BYTES:
            zones: Dict[str, Any] = json.loads(done.stdout)
            write_atomically(run.path(f"zones-{action.host}.geojson"), json.dumps(zones).encode(), mode=0o600)
    except (CompanionUnreachableError, ValueError, RecursionError, OSError):
        pass
