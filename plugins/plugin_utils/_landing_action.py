# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the steps of a landing share: the proof that the vehicle is down, and where fetched recordings lie."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Dict
from urllib.parse import quote

from ..module_utils._landing_mavlink import check_heartbeats
from ..module_utils._run import Run
from ._companion_action import CompanionAction

__all__ = ["LandingAction", "landing_folder"]


def landing_folder(run: Run, host: str) -> str:
    """Where the recordings of a companion lie on the workstation until they are collected there."""
    return os.path.join(os.path.abspath(run.config.cache_staging_root), "landing", quote(host, safe=""))


class LandingAction(CompanionAction):
    """A step that first makes sure that the vehicle is landed and disarmed."""

    argument_spec: ClassVar[Dict[str, Any]] = {
        "mavlink_endpoint": {"type": "str"},
        "mavlink_system_id": {"type": "int"},
    }

    def spool(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any], **options: Any) -> Dict[str, Any]:
        """Prove that the vehicle is down, then ask the companion's spool; the module's result.

        Raises:
            VehicleNotLandedError: it is not, or nobody knows.
        """
        config, ground = run.config, None
        by_flag = config.landing_proof == "flag"
        if not by_flag:
            ground = check_heartbeats(
                arguments["mavlink_endpoint"] or config.mavlink_endpoint,
                arguments["mavlink_system_id"] or config.mavlink_system_id,
                timeout_s=config.mavlink_timeout_s,
            )
        asked = {
            "root": config.companion_cache_root,
            "ground": "flag" if by_flag else "none",
            "flag_max_age_s": config.landing_flag_max_age_s,
            **options,
        }
        landing: Dict[str, Any] = self.module("landing_spool", asked, task_vars)["landing"]
        return {**landing, "ground": landing["ground"] or ground}
