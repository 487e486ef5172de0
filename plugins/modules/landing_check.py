#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `landing_check`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: landing_check
short_description: Prove that the vehicle is landed and disarmed, and list its recordings
version_added: "0.2.0"
description:
  - Refuses unless a fresh flag file, or heartbeats of the right autopilot, say for certain that the vehicle is
    down.
  - Changes nothing.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
options:
  mavlink_endpoint:
    description: Where this vehicle's heartbeats are heard; the default is the setting of the same name.
    type: str
  mavlink_system_id:
    description: The system id of this vehicle's autopilot; the default is the setting of the same name.
    type: int
"""

EXAMPLES = r"""
- name: Prove that the vehicle is landed and disarmed, and list its recordings
  gps_denied.preflight.landing_check:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
landing:
  description: What proved it, and the recordings with their states.
  returned: success
  type: dict
"""
