# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What runs here, by version; goes into the report."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Dict

from ansible.release import __version__ as ansible_version

__all__ = ["versions"]


def versions() -> Dict[str, str]:
    """Versions of the tool, Python and Ansible."""
    try:
        own = metadata.version("gps-denied-preflight")
    except metadata.PackageNotFoundError:
        own = "unknown"
    return {"preflight": own, "python": platform.python_version(), "ansible_core": ansible_version}
