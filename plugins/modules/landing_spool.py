#!/usr/bin/python

# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The landing spool on the companion."""

from __future__ import annotations

DOCUMENTATION = r"""
module: landing_spool
short_description: Look into a companion's landing spool, mark what was uploaded, and remove it
version_added: "0.2.0"
author:
  - gps_denied.preflight contributors (@gps-denied)
description:
  - Lists the recordings that flights have left on the companion, and says of each whether it may be fetched.
  - Marks recordings whose every tile the provider has, and removes marked ones; never one that is not marked.
  - With O(ground=flag) nothing of this happens unless a fresh flag file says that the vehicle is landed and disarmed.
extends_documentation_fragment:
  - gps_denied.preflight.cache
  - gps_denied.preflight.cache.check_mode
options:
  state:
    description: What to do.
    type: str
    choices: [inspected, collected]
    default: inspected
  ground:
    description: What has to prove on the companion that the vehicle is landed; V(none) where that is proved elsewhere.
    type: str
    choices: [flag, none]
    default: flag
  flag_max_age_s:
    description: Age at which the flag no longer counts.
    type: float
    default: 15
  accepted:
    description:
      - The recordings to mark and remove with O(state=collected), as C({id, content_id}).
      - One that has another content by now is left alone, and named in the result.
    type: list
    elements: dict
    default: []
  receipt:
    description: What the mark says besides the content, such as the run and the provider.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: See what the flights have left
  gps_denied.preflight.landing_spool:
    root: /var/lib/gps-denied
"""

RETURN = r"""
landing:
  description: What was found or done.
  type: dict
  returned: success
  contains:
    ground:
      description: What proved that the vehicle is landed; V(none) where that was not asked.
      type: dict
    recordings:
      description: With O(state=inspected), the recordings with C(id), C(state), C(reason) and C(content_id).
      type: list
      elements: dict
    marked:
      description: With O(state=collected), the names that are marked.
      type: list
      elements: str
    collected:
      description: With O(state=collected), the names that are gone.
      type: list
      elements: str
    left:
      description: With O(state=collected), the names that are no longer what was uploaded, each with the reason.
      type: dict
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._activation_lock import exclusive
from ..module_utils._activation_state import CacheRoot
from ..module_utils._errors import LandingSpoolError
from ..module_utils._generation_door import COMMON_OPTIONS, reported
from ..module_utils._landing_ground import check_ground_flag
from ..module_utils._landing_spool import collect_recording, inspect_spool, mark_accepted


def main() -> None:
    """Parse, act, answer."""
    module = AnsibleModule(
        argument_spec={
            **COMMON_OPTIONS,
            "state": {"type": "str", "choices": ["inspected", "collected"], "default": "inspected"},
            "ground": {"type": "str", "choices": ["flag", "none"], "default": "flag"},
            "flag_max_age_s": {"type": "float", "default": 15},
            "accepted": {"type": "list", "elements": "dict", "default": []},
            "receipt": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    options = module.params
    root = options["root"]
    with reported(module):
        landing: Dict[str, Any] = {"ground": None}
        if options["ground"] == "flag":
            landing["ground"] = check_ground_flag(root, max_age_s=options["flag_max_age_s"])
        changed = False
        if options["state"] == "inspected":
            landing["recordings"] = inspect_spool(root)
        else:
            marked: List[str] = []
            collected: List[str] = []
            left: Dict[str, str] = {}
            landing.update(marked=marked, collected=collected, left=left)
            changed = bool(options["accepted"])
            if not module.check_mode and changed:
                with exclusive(CacheRoot(root)):
                    for item in options["accepted"]:
                        name, content_id = str(item["id"]), str(item["content_id"])
                        try:
                            mark_accepted(root, name, content_id, options["receipt"])
                            marked.append(name)
                            collect_recording(root, name, content_id)
                            collected.append(name)
                        except LandingSpoolError as exc:
                            left[name] = exc.message
        module.exit_json(changed=changed, landing=landing)


if __name__ == "__main__":
    main()
