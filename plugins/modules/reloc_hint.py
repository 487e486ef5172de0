#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `reloc_hint`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reloc_hint
short_description: Give a companion a position hint, and wait for its acknowledgement
version_added: "0.2.0"
description:
  - Hands the position to the companion's C(gps-denied-hint), bound to the vehicle, its active cache and this boot,
    under a rising sequence; signed where the settings name a key.
  - The companion refuses a place that is not on its map, a stale or replayed hint, and, once enrolled, an unsigned one.
  - Sends a few kilobytes and no module, for links in flight.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
options:
  lat_deg:
    description: Latitude of the vehicle's likely place, in degrees.
    type: float
    required: true
  lon_deg:
    description: Longitude of the vehicle's likely place, in degrees.
    type: float
    required: true
  radius_m:
    description: How far from there the vehicle may be, in metres.
    type: float
    required: true
  confirmed:
    description: Whether the operator has confirmed the hint; nothing is sent otherwise.
    type: bool
    required: true
  for_all:
    description: Whether several companions are meant to get the same position; else that is refused.
    type: bool
    default: false
  vehicle_id:
    description: The vehicle that is meant; the default is the host's name in the inventory.
    type: str
"""

EXAMPLES = r"""
- name: Give a companion a position hint, and wait for its acknowledgement
  gps_denied.preflight.reloc_hint:
    run_dir: "{{ preflight.run.run_dir }}"
    lat_deg: -8.4195
    lon_deg: 115.1872
    radius_m: 300
    confirmed: true
"""

RETURN = r"""
hint:
  description: The hint, its sequence, and how many windows of the companion's index lie within it.
  returned: success
  type: dict
"""
