#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `build_lock`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: build_lock
short_description: Take or free the workstation's lock
version_added: "0.1.0"
description:
  - A detached process holds the lock for as long as C(ansible-playbook) lives.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
options:
  state:
    description: Whether the lock is taken or freed.
    type: str
    choices:
      - acquired
      - released
    default: acquired
  name:
    description: Which lock; landings have one of their own, so that an upload does not keep the next flight waiting.
    type: str
    choices:
      - build
      - landing
    default: build
"""

EXAMPLES = r"""
- name: Take or free the workstation's lock
  gps_denied.preflight.build_lock:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
changed:
  description: Whether anything was changed.
  returned: always
  type: bool
"""
