#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `cache_publish`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_publish
short_description: Seal, verify and activate the new generation
version_added: "0.1.0"
description:
  - Seals what the builder made, verifies every byte of it on the companion, signs the grant where a
    key is configured, and switches C(current).
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
"""

EXAMPLES = r"""
- name: Seal, verify and activate the new generation
  gps_denied.preflight.cache_publish:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
cache:
  description: Content id, generation and whether it was activated.
  returned: success
  type: dict
"""
