#!/usr/bin/python

# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sealing a finished build."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_seal
short_description: Make the bytes of a finished build final, and name them
version_added: "0.1.0"
author:
  - gps_denied.preflight contributors (@gps-denied)
description:
  - Refuses a folder in which anything still writes, or that holds links, special files or forbidden names.
  - Makes every file read-only, hashes it, and writes C(MANIFEST), whose SHA-256 is the content id.
  - Sealing a sealed folder holds it against its own manifest instead.
extends_documentation_fragment:
  - gps_denied.preflight.cache
attributes:
  check_mode:
    description: The module has nothing to predict; in check mode it does nothing.
    support: none
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
options:
  source:
    description: The folder to seal, below O(root), for instance C(work/<run>).
    type: path
    required: true
  archive:
    description:
      - The tile archive, below O(root); it is moved to C(tiles.pmtiles) in O(source).
      - Where the sealing fails it is moved back.
    type: path
  request:
    description: The text of C(request.json), written exactly so.
    type: str
  report:
    description: The text of C(report.json), written exactly so; it is evidence and no part of the content id.
    type: str
  run_id:
    description: The run that holds the lock.
    type: str
    required: true
  token:
    description: The token of M(gps_denied.preflight.cache_lock).
    type: int
"""

EXAMPLES = r"""
- name: Seal what the builder made
  gps_denied.preflight.cache_seal:
    source: /var/lib/gps-denied/work/{{ run_id }}
    archive: /var/lib/gps-denied/incoming/{{ archive_id }}/tiles.pmtiles
    request: "{{ request_text }}"
    report: "{{ report_text }}"
    run_id: "{{ run_id }}"
    token: "{{ held.cache.token }}"
  register: sealed
"""

RETURN = r"""
cache:
  description: The sealed folder.
  type: dict
  returned: success
  contains:
    sealed_path:
      description: The sealed folder.
      type: str
    content_id:
      description: SHA-256 of its manifest.
      type: str
    inputs_id:
      description: SHA-256 of its C(request.json), or V(none).
      type: str
    next_counter:
      description: The counter that a grant for it needs.
      type: int
    size_bytes:
      description: Bytes of all its files.
      type: int
    file_count:
      description: How many files the manifest lists.
      type: int
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._activation_seal import seal_build
from ..module_utils._activation_state import CacheRoot
from ..module_utils._generation_door import COMMON_OPTIONS, reported


def main() -> None:
    """Parse, seal, answer."""
    module = AnsibleModule(
        argument_spec={
            **COMMON_OPTIONS,
            "source": {"type": "path", "required": True},
            "archive": {"type": "path"},
            "request": {"type": "str"},
            "report": {"type": "str"},
            "run_id": {"type": "str", "required": True},
            "token": {"type": "int", "no_log": False},
        },
    )
    options = module.params
    with reported(module):
        changed, cache = seal_build(
            CacheRoot(options["root"], options["trust_dir"]),
            source=options["source"],
            archive=options["archive"],
            request_text=options["request"],
            report_text=options["report"],
            run_id=options["run_id"],
            token=options["token"],
        )
        module.exit_json(changed=changed, cache=cache)


if __name__ == "__main__":
    main()
