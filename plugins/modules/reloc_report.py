#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `reloc_report`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reloc_report
short_description: Write the report of a position hint
version_added: "0.2.0"
description:
  - Makes the report from the journal, writes it, and fails where the run failed.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
"""

EXAMPLES = r"""
- name: Write the report of a position hint
  gps_denied.preflight.reloc_report:
    run_dir: "{{ preflight.run.run_dir }}"
"""

RETURN = r"""
hint_report:
  description: The report, as docs/schemas/HintReport.schema.json describes it.
  returned: always
  type: dict
report_path:
  description: Where it was written.
  returned: always
  type: str
"""
