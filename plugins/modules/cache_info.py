#!/usr/bin/python

# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about the cache on a companion."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_info
short_description: Tell what cache a companion holds, and whether it is whole
version_added: "0.1.0"
author:
  - gps_denied.preflight contributors (@gps-denied)
description:
  - Reads the companion's cache, lock, room and clock in one call.
  - A missing or broken cache is told, and never fails the module.
  - Fails only where O(vehicle_id) is given and the companion was enrolled as another vehicle.
extends_documentation_fragment:
  - gps_denied.preflight.cache
  - gps_denied.preflight.cache.moment
  - gps_denied.preflight.cache.check_mode
options:
  mode:
    description:
      - V(full) hashes every byte of the current cache.
      - V(fast) compares names, kinds and sizes, and hashes small files only.
    type: str
    choices: [full, fast]
    default: full
  vehicle_id:
    description: The vehicle that is meant; the module fails where the companion was enrolled as another one.
    type: str
"""

EXAMPLES = r"""
- name: What does the companion hold?
  gps_denied.preflight.cache_info:
  register: companion

- name: Show it
  ansible.builtin.debug:
    msg: "{{ companion.cache.current.generation | default('no cache') }}"
"""

RETURN = r"""
cache:
  description: The facts.
  type: dict
  returned: always
  contains:
    current:
      description:
        - The current generation, or V(none).
        - Has C(generation), C(content_id), C(inputs_id), C(counter), C(healthy), C(reason), C(message), C(file),
          C(vehicle_id), C(flight_id), C(valid_until) and C(signer).
      type: dict
    previous:
      description: The generation before, or V(none).
      type: str
    next_counter:
      description: The counter that the next grant needs; V(none) where C(current) is no link to a generation.
      type: int
    enrolled:
      description: Whether only signed grants count.
      type: bool
    vehicle_id:
      description: The name that enrolment gave this companion, or V(none).
      type: str
    lock:
      description: The live lock with C(holder), C(run_id) and C(token), or V(none).
      type: dict
    present:
      description: Whether the root is there.
      type: bool
    writable:
      description: Whether this user may write to the root.
      type: bool
    free_bytes:
      description: Free bytes for this user at the root.
      type: int
    free_inodes:
      description: Free inodes at the root; -1 where there is no such limit.
      type: int
    free:
      description: The same for each folder below the root that may lie on a disk of its own.
      type: dict
    python_version:
      description: The Python that answered.
      type: str
    clock_epoch_s:
      description: The companion's clock, in seconds since the epoch.
      type: float
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._activation_state import CacheRoot
from ..module_utils._generation_door import COMMON_OPTIONS, MOMENT_OPTION, reported
from ..module_utils._generation_info import check_vehicle, describe_cache


def main() -> None:
    """Parse, ask, answer."""
    module = AnsibleModule(
        argument_spec={
            **COMMON_OPTIONS,
            **MOMENT_OPTION,
            "mode": {"type": "str", "choices": ["full", "fast"], "default": "full"},
            "vehicle_id": {"type": "str"},
        },
        supports_check_mode=True,
    )
    root = CacheRoot(module.params["root"], module.params["trust_dir"])
    with reported(module):
        if module.params["vehicle_id"]:
            check_vehicle(root, module.params["vehicle_id"])
    facts = describe_cache(root, full=module.params["mode"] == "full", now_epoch_s=module.params["now_epoch_s"])
    module.exit_json(changed=False, cache=facts)


if __name__ == "__main__":
    main()
