#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `companion_lock`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: companion_lock
short_description: Take the companion's lock
version_added: "0.1.0"
description:
  - Keeps a second workstation from interleaving; the error names the holder.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
"""

EXAMPLES = r"""
- name: Take the companion's lock
  gps_denied.preflight.companion_lock:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
changed:
  description: Whether anything was changed.
  returned: always
  type: bool
"""
