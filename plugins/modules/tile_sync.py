#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `tile_sync`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tile_sync
short_description: Ship the archive and the build request
version_added: "0.1.0"
description:
  - Sends the archive with rsync over the connection's own SSH options, proves it by its hash, and writes the build
    request.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
options:
  run_dir:
    description: The run folder that M(gps_denied.preflight.run_begin) returned.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Ship the archive and the build request
  gps_denied.preflight.tile_sync:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
sync:
  description: Bytes sent and where the request is.
  returned: success
  type: dict
"""
