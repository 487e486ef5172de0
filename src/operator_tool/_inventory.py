# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""Which companions a job is for: one that is named, or those of an inventory, or a part of them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError

__all__ = ["Companion", "Inventory", "InventoryPart", "inventory_for"]


@dataclass(frozen=True)
class Companion:
    """One companion given on the command line instead of an inventory."""

    host: str
    port: int = 22
    user: str | None = None
    private_key_file: str | None = None
    vehicle_id: str | None = None


@dataclass(frozen=True)
class InventoryPart:
    """Some companions of the inventory: `pattern` is Ansible's, as `drone-1,drone-4` or `north:!drone-7`."""

    pattern: str


@dataclass(frozen=True)
class Inventory:
    """What Ansible is given: the inventory's `path`, and the pattern that a run is limited to, or None."""

    path: str
    limit: str | None = None


def inventory_for(companion: Companion | InventoryPart | None, config: PreflightConfig, folder: Path) -> Inventory:
    """The inventory that the settings name, whole or in part, or one of the one companion that is given.

    Raises:
        SettingsError: none is given, or there is none at that path.
    """
    if not isinstance(companion, Companion):
        if not config.inventory:
            raise SettingsError(
                "no companion is given", remediation="Give --companion-host, or an inventory with the group companions."
            )
        path = os.path.abspath(config.inventory)
        if not os.path.exists(path):
            raise SettingsError(f"there is no inventory {path}")
        # The playbooks begin and end on this workstation, which is part of every run.
        return Inventory(path, limit=f"localhost,{companion.pattern}" if companion else None)
    host: dict[str, Any] = {"ansible_host": companion.host, "ansible_port": companion.port}
    if companion.host in ("localhost", "127.0.0.1", "::1") and companion.port == 22 and not companion.user:
        host = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    if companion.user:
        host["ansible_user"] = companion.user
    if companion.private_key_file:
        host["ansible_ssh_private_key_file"] = os.path.abspath(companion.private_key_file)
    name = companion.vehicle_id or companion.host
    # JSON is YAML, and quotes what an operator may have typed.
    written = folder / "companions.yml"
    written.write_text(json.dumps({"companions": {"hosts": {name: host}}}))
    return Inventory(str(written))
