#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `landing_collect`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: landing_collect
short_description: Mark what the provider has, then remove it from the companion
version_added: "0.2.0"
description:
  - Proves once more that the vehicle is landed and disarmed.
  - A recording is removed only after the provider has accepted its every tile and that is marked durably.
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
- name: Mark what the provider has, then remove it from the companion
  gps_denied.preflight.landing_collect:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
changed:
  description: Whether anything was marked or removed.
  returned: always
  type: bool
"""
