#!/usr/bin/python

# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Activating a sealed folder."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_activate
short_description: Make a sealed build the current cache of a companion
version_added: "0.1.0"
author:
  - gps_denied.preflight contributors (@gps-denied)
description:
  - Verifies the sealed folder and its grant independently of who made them.
  - Makes the folder durable, moves it among the generations, and switches C(current) with one rename.
  - After a power cut at any moment the old or the new cache is current, never a mixture.
  - Puts C(gps-denied-verify) and C(gps-denied-cache) into the folder C(bin) below O(root) where they differ.
  - Keeps the current generation, the one before, and those that a flight has leased; removes older ones.
extends_documentation_fragment:
  - gps_denied.preflight.cache
  - gps_denied.preflight.cache.moment
attributes:
  check_mode:
    description: The module has nothing to predict; in check mode it does nothing.
    support: none
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
options:
  sealed_path:
    description: The folder that M(gps_denied.preflight.cache_seal) sealed.
    type: path
  rollback_to:
    description:
      - Instead of O(sealed_path), the name of an older generation on the companion.
      - A copy of it is activated under the new O(grant).
    type: str
  grant:
    description: The exact text of the grant.
    type: str
    required: true
  signature:
    description: The armoured SSH signature over O(grant). Needed on an enrolled companion.
    type: str
  vehicle_id:
    description: The vehicle's name, where the companion's own trust folder names none.
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
- name: Activate the build
  gps_denied.preflight.cache_activate:
    sealed_path: "{{ sealed.cache.sealed_path }}"
    grant: "{{ grant_text }}"
    signature: "{{ grant_signature }}"
    run_id: "{{ run_id }}"
    token: "{{ held.cache.token }}"
"""

RETURN = r"""
cache:
  description: The active cache, acknowledged.
  type: dict
  returned: success
  contains:
    generation:
      description: Its name.
      type: str
    content_id:
      description: Its content.
      type: str
    counter:
      description: The grant's counter, below which no grant counts any more.
      type: int
    previous:
      description: The generation before, or V(none).
      type: str
    signer:
      description: Who signed the grant, or V(none) before enrolment.
      type: str
    activated:
      description: Always V(true).
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._activation import activate
from ..module_utils._activation_rollback import roll_back
from ..module_utils._activation_state import CacheRoot
from ..module_utils._cache_program import install_programs
from ..module_utils._generation_door import COMMON_OPTIONS, MOMENT_OPTION, reported


def main() -> None:
    """Parse, activate, acknowledge."""
    module = AnsibleModule(
        argument_spec={
            **COMMON_OPTIONS,
            **MOMENT_OPTION,
            "sealed_path": {"type": "path"},
            "rollback_to": {"type": "str"},
            "grant": {"type": "str", "required": True},
            "signature": {"type": "str"},
            "vehicle_id": {"type": "str"},
            "run_id": {"type": "str", "required": True},
            "token": {"type": "int", "no_log": False},
        },
        mutually_exclusive=[("sealed_path", "rollback_to")],
        required_one_of=[("sealed_path", "rollback_to")],
    )
    options = module.params
    root = CacheRoot(options["root"], options["trust_dir"])
    with reported(module):
        common = {
            "run_id": options["run_id"],
            "token": options["token"],
            "grant_text": options["grant"].encode(),
            "signature": options["signature"].encode() if options["signature"] else None,
            "vehicle_id": options["vehicle_id"],
            "now_epoch_s": options["now_epoch_s"],
        }
        if options["sealed_path"] is None:
            done = roll_back(root, generation=options["rollback_to"], **common)
        else:
            done = activate(root, sealed_path=options["sealed_path"], **common)
        cache = {
            "generation": done.generation,
            "content_id": done.content_id,
            "counter": done.counter,
            "previous": done.previous,
            "signer": done.signer,
            "activated": True,
        }
        installed = install_programs(root.path)
        module.exit_json(changed=done.changed or bool(installed), cache=cache)


if __name__ == "__main__":
    main()
