#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `companion_check`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: companion_check
short_description: Check that a companion is there, trusted and ready
version_added: "0.1.0"
description:
  - Waits for a companion that is still booting.
  - Checks its identity, machine type, clock, the versions of Python and rsync, its builder, and room, inodes and
    writability of every place that a build writes to; and that its login shell is silent.
  - Compares its active cache with the one wanted.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
"""

EXAMPLES = r"""
- name: Check that a companion is there, trusted and ready
  gps_denied.preflight.companion_check:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
companion:
  description: Whether a build is needed, and why.
  returned: success
  type: dict
  contains:
    build_needed:
      description: Whether a build is needed.
      type: bool
    reason:
      description: Why, or why not.
      type: str
    findings:
      description:
        - What was looked at, each with C(check), C(level), C(text) and C(hint).
        - On failure they are in C(error.details).
      type: list
      elements: dict
"""
