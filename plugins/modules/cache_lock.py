#!/usr/bin/python

# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The companion's lock."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_lock
short_description: Take, renew or give back the lock of a companion's cache
version_added: "0.1.0"
author:
  - gps_denied.preflight contributors (@gps-denied)
description:
  - One run at a time changes a companion's cache, also where two workstations work on it.
  - The lock is a lease with a fencing token. A run that slept while another took over is refused when it wakes.
extends_documentation_fragment:
  - gps_denied.preflight.cache
  - gps_denied.preflight.cache.check_mode
options:
  run_id:
    description: The run that holds the lock.
    type: str
    required: true
  holder:
    description: Who holds it, in words for people. Needed with O(state=acquired).
    type: str
  owner:
    description:
      - What may take the lock over from itself at once, such as a workstation whose own lock keeps its runs apart.
      - The default is O(holder) without O(run_id).
    type: str
  token:
    description: The token that was returned with O(state=acquired). Needed with the other states.
    type: int
  lease_s:
    description: For how many seconds the lock outlives a holder that fell silent.
    type: float
    default: 21600
  state:
    description: What to do with the lock.
    type: str
    choices: [acquired, renewed, released]
    default: acquired
"""

EXAMPLES = r"""
- name: Take the lock
  gps_denied.preflight.cache_lock:
    run_id: "{{ run_id }}"
    holder: "run {{ run_id }} of {{ lookup('env', 'USER') }}"
  register: held

- name: Give it back
  gps_denied.preflight.cache_lock:
    run_id: "{{ run_id }}"
    token: "{{ held.cache.token }}"
    state: released
"""

RETURN = r"""
cache:
  description: The lock.
  type: dict
  returned: success
  contains:
    token:
      description: The fencing token; V(none) in check mode where the lock would have to be taken.
      type: int
    held:
      description: Whether this run holds the lock now.
      type: bool
"""

from typing import Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._activation_lock import (
    acquire_companion_lock,
    read_companion_lock,
    release_companion_lock,
    renew_companion_lock,
)
from ..module_utils._activation_state import CacheRoot
from ..module_utils._generation_door import COMMON_OPTIONS, reported


def main() -> None:
    """Parse, act, answer."""
    module = AnsibleModule(
        argument_spec={
            **COMMON_OPTIONS,
            "run_id": {"type": "str", "required": True},
            "holder": {"type": "str"},
            "owner": {"type": "str"},
            "token": {"type": "int", "no_log": False},
            "lease_s": {"type": "float", "default": 21600},
            "state": {"type": "str", "choices": ["acquired", "renewed", "released"], "default": "acquired"},
        },
        required_if=[
            ("state", "acquired", ["holder"]),
            ("state", "renewed", ["token"]),
            ("state", "released", ["token"]),
        ],
        supports_check_mode=True,
    )
    options = module.params
    root, run_id, state, lease_s = options["root"], options["run_id"], options["state"], options["lease_s"]
    with reported(module):
        last = read_companion_lock(CacheRoot(root))
        mine = bool(last and last.is_live() and last.run_id == run_id)
        token: Optional[int] = options["token"]
        changed = {"acquired": not mine, "renewed": True, "released": mine}[state]
        if module.check_mode:
            module.exit_json(changed=changed, cache={"token": last.token if last and mine else token, "held": mine})
        if state == "acquired":
            token = acquire_companion_lock(root, run_id, options["holder"], owner=options["owner"], lease_s=lease_s)
        elif state == "renewed":
            renew_companion_lock(root, run_id, int(token or 0), lease_s=lease_s)
        else:
            changed = release_companion_lock(root, run_id, int(token or 0))
        module.exit_json(changed=changed, cache={"token": token, "held": state != "released"})


if __name__ == "__main__":
    main()
