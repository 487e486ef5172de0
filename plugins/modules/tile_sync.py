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
  - Brings the companion to the archive over the connection's own SSH, proves it by its SHA-256, and writes the build
    request.
  - By hashes alone, nothing is sent where the bytes are there, the changed tiles where an older cache is there, the
    rest of what a cut run has begun to send, and else all of it.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
options:
  limit_kib_per_s:
    description:
      - Largest rate to this companion in KiB/s; V(0) is no limit.
      - The default is the run's setting C(sync_limit_kib_per_s).
    type: int
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
