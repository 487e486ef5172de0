#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `landing_upload`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: landing_upload
short_description: Upload what was fetched to the tile provider
version_added: "0.2.0"
description:
  - Holds every tile against its manifest and hands it over once; the durable ledger and the provider itself say
    what is there already.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
"""

EXAMPLES = r"""
- name: Upload what was fetched to the tile provider
  gps_denied.preflight.landing_upload:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
sent:
  description: Tiles that travelled in this run.
  returned: when something was fetched
  type: int
"""
