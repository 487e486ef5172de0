#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `companion_examine`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: companion_examine
short_description: Look at a companion without a run
version_added: "0.1.0"
description:
  - Looks at a companion's machine, Python, programs, builder, room, clock, lock and active cache, and changes nothing.
  - What is wrong with the companion is a finding and does not fail the task.
  - Fails where the companion cannot be reached, is not trusted, is another vehicle, or does not answer.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
options:
  root:
    description: The folder of the cache on the companion.
    type: path
    default: /var/lib/gps-denied
  vehicle_id:
    description: The vehicle that is meant; the default is the inventory's name of the host.
    type: str
  builder_command:
    description: The command that builds; its program is looked for and asked for its C(doctor).
    type: str
    default: c10-builder build
"""

EXAMPLES = r"""
- name: Look at a companion
  gps_denied.preflight.companion_examine:
  register: examined

- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ examined.companion.findings | rejectattr('level', 'eq', 'ok') }}"
"""

RETURN = r"""
companion:
  description: What was seen.
  returned: success
  type: dict
  contains:
    findings:
      description: What was looked at, each with C(check), C(level) (V(ok) or V(fail)), C(text) and C(hint).
      type: list
      elements: dict
    cache:
      description:
        - What M(gps_denied.preflight.cache_info) says with O(gps_denied.preflight.cache_info#module:mode=fast).
        - V(none) where no fit Python is there.
      type: dict
    builder:
      description: What the builder's own doctor printed, or V(none).
      type: str
    over_ssh:
      description: Whether the companion is another machine.
      type: bool
"""
