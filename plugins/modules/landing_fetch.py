#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `landing_fetch`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: landing_fetch
short_description: Fetch the recordings that are ready
version_added: "0.2.0"
description:
  - Fetches them with rsync over the connection's own SSH options; what has arrived before is not sent again.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
"""

EXAMPLES = r"""
- name: Fetch the recordings that are ready
  gps_denied.preflight.landing_fetch:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
fetch:
  description: Bytes and seconds.
  returned: when something was fetched
  type: dict
"""
