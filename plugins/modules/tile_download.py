#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `tile_download`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tile_download
short_description: Download the tiles and cut the flight's archive
version_added: "0.1.0"
description:
  - Downloads what the workstation's store lacks, checks every tile, proves the coverage, and cuts one PMTiles archive.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
"""

EXAMPLES = r"""
- name: Download the tiles and cut the flight's archive
  gps_denied.preflight.tile_download:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
tiles:
  description: Source and counts.
  returned: success
  type: dict
"""
