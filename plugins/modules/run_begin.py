#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `run_begin`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_begin
short_description: Begin a run of the cache build
version_added: "0.1.0"
description:
  - Gathers the settings in force, makes the run's folder on the workstation and begins its journal.
  - Settings are taken from the variables of the same names, then from the environment, then from C(operator-tool.toml).
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
options:
  run_id:
    description: The run's id; a new one is made by default.
    type: str
  resume:
    description: Whether to go on with the run of this id instead of beginning a new one.
    type: bool
    default: false
  companions:
    description: The hosts that are to get the cache.
    type: list
    elements: str
    required: true
  config_file:
    description: A settings file instead of C(operator-tool.toml) in the working folder.
    type: path
"""

EXAMPLES = r"""
- name: Begin a run of the cache build
  gps_denied.preflight.run_begin:
    companions: "{{ groups['companions'] }}"
  register: preflight
"""

RETURN = r"""
run:
  description: The run's id, folder, report path and connection options.
  returned: success
  type: dict
"""
