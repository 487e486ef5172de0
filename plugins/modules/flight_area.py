#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `flight_area`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flight_area
short_description: Work out the area that needs tiles
version_added: "0.1.0"
description:
  - Buffers the route in metres and counts the tiles that cover it, within the limits.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
"""

EXAMPLES = r"""
- name: Work out the area that needs tiles
  gps_denied.preflight.flight_area:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
area:
  description: Kind, size and number of tiles.
  returned: success
  type: dict
"""
