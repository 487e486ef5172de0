#!/usr/bin/python

# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The check at take-off, as a module."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_verify
short_description: Ask a companion whether it may fly with the cache it has
version_added: "0.1.0"
author:
  - gps_denied.preflight contributors (@gps-denied)
description:
  - Gives the answer of C(gps-denied-verify) on the companion, GO or NO-GO with a reason code.
  - NO-GO fails the module unless O(fail_on_no_go=false).
extends_documentation_fragment:
  - gps_denied.preflight.cache
  - gps_denied.preflight.cache.moment
  - gps_denied.preflight.cache.check_mode
options:
  content_id:
    description: The content that must be active.
    type: str
  vehicle_id:
    description: The vehicle that this must be.
    type: str
  flight_id:
    description: The flight that the grant must be for.
    type: str
  mode:
    description:
      - V(full) hashes every byte.
      - V(fast) compares names, kinds and sizes, and hashes small files only.
    type: str
    choices: [full, fast]
    default: full
  route:
    description: A file on the companion with the route, whose every part must be covered by tiles.
    type: path
  fail_on_no_go:
    description: Whether NO-GO fails the module.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: May it fly?
  gps_denied.preflight.cache_verify:
    flight_id: "{{ flight_id }}"
"""

RETURN = r"""
cache:
  description: The answer.
  type: dict
  returned: always
  contains:
    go:
      description: GO or NO-GO.
      type: bool
    reason:
      description: The reason code with NO-GO.
      type: str
    message:
      description: The reason in words.
      type: str
    file:
      description: The file that is wrong, where it is one.
      type: str
    generation:
      description: The current generation.
      type: str
    content_id:
      description: Its content.
      type: str
    valid_until:
      description: When the grant ends, in UTC.
      type: str
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._activation_state import CacheRoot
from ..module_utils._generation_door import COMMON_OPTIONS, MOMENT_OPTION
from ..module_utils._generation_faults import Reason, refuse
from ..module_utils._takeoff_check import TakeoffQuestion, check_cache


def main() -> None:
    """Parse, ask, answer."""
    module = AnsibleModule(
        argument_spec={
            **COMMON_OPTIONS,
            **MOMENT_OPTION,
            "content_id": {"type": "str"},
            "vehicle_id": {"type": "str"},
            "flight_id": {"type": "str"},
            "mode": {"type": "str", "choices": ["full", "fast"], "default": "full"},
            "route": {"type": "path"},
            "fail_on_no_go": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    question = TakeoffQuestion(
        content_id=options["content_id"],
        vehicle_id=options["vehicle_id"],
        flight_id=options["flight_id"],
        full=options["mode"] == "full",
        route_path=options["route"],
        now_epoch_s=options["now_epoch_s"],
    )
    answer = check_cache(CacheRoot(options["root"], options["trust_dir"]), question)
    if not answer.go and options["fail_on_no_go"]:
        error = refuse(Reason(answer.reason), str(answer.message), file=answer.file)
        message = f"NO-GO ({answer.reason}): {answer.message}. {error.remediation}"
        module.fail_json(msg=message, error=error.to_dict(), cache=asdict(answer))
    module.exit_json(changed=False, cache=asdict(answer))


if __name__ == "__main__":
    main()
