# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation shared by the modules that work on the companion's cache."""

from __future__ import annotations


class ModuleDocFragment:
    """Options, attributes and notes of the cache modules."""

    DOCUMENTATION = r"""
options:
  root:
    description:
      - The folder of the cache on the companion.
    type: path
    default: /var/lib/gps-denied
  trust_dir:
    description:
      - The folder with C(vehicle_id), C(allowed_signers) and C(revoked_keys).
      - The default is the folder C(trust) below O(root).
    type: path
requirements:
  - Python 3.8 or later on the companion; nothing beyond its standard library.
notes:
  - Once C(allowed_signers) is there, or a signed grant was ever activated, only signed grants count.
  - With a failure, C(error.details.reason) carries a reason code; C(docs/how-to/verify-at-take-off.md) lists them.
attributes:
  platform:
    description: The systems that the module runs on.
    support: full
    platforms: posix
  diff_mode:
    description: Returns what differs when run in diff mode.
    support: none
"""

    MOMENT = r"""
options:
  now_epoch_s:
    description:
      - Judge grants and signers by this time, in seconds since the epoch, instead of the companion's clock.
      - For companions without a battery-backed clock; C(gps-denied-verify) at take-off wants a true clock all the same.
    type: float
"""

    CHECK_MODE = r"""
attributes:
  check_mode:
    description: Predicts the result without changing anything.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
"""
