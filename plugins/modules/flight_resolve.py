#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `flight_resolve`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flight_resolve
short_description: Resolve the flight
version_added: "0.1.0"
description:
  - Reads the flight from the flights API, a folder of flights, or a mission file, and keeps it in the run's folder.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
options:
  flight_id:
    description: The flight's id.
    type: str
  flight_file:
    description: A mission file.
    type: path
"""

EXAMPLES = r"""
- name: Resolve the flight
  gps_denied.preflight.flight_resolve:
    run_dir: "{{ preflight.run.run_dir }}"
    flight_id: bali-survey
"""

RETURN = r"""
flight:
  description: Id, format and fingerprint of the flight.
  returned: success
  type: dict
"""
