# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The two rare jobs that need root on a companion: `provision` makes it ready, `install_trust` says whom it trusts.

Both run their playbook through ansible-runner. A password for sudo goes through a file in the run's private folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    BuildCancelledError,
    FleetPartialError,
    SettingsError,
)

from ._host_answers import host_error, silence_error
from ._inventory import Companion, InventoryPart, inventory_for
from ._runner import PlaybookResult, private_folder, run_playbook

__all__ = ["RootAccess", "install_trust", "provision"]

MAX_DESCRIPTION_BYTES = 64 * 1024


@dataclass(frozen=True)
class RootAccess:
    """Which companions, and how root is reached there; without `companion` the inventory decides."""

    config: PreflightConfig
    companion: Companion | InventoryPart | None = None
    become_password: str | None = field(default=None, repr=False)
    check: bool = False


def provision(
    access: RootAccess,
    *,
    wheelhouse: Path,
    authorized_keys: Sequence[str] = (),
    on_text: Callable[[str], None] | None = None,
) -> list[str]:
    """Give each companion its account, its folders and the builder out of `wheelhouse`; their names.

    Raises:
        SettingsError: there is no wheelhouse.
        CompanionNotReadyError, CompanionNotTrustedError, CompanionUnreachableError: a companion was refused.
        FleetPartialError: some companions are ready, others were refused.
    """
    _check_wheelhouse(wheelhouse)
    variables: dict[str, Any] = {
        "companion_provision_wheelhouse": str(wheelhouse.resolve()),
        "companion_provision_cache_root": access.config.companion_cache_root,
    }
    if authorized_keys:
        variables["companion_provision_authorized_keys"] = list(authorized_keys)
    return _as_root("provision_companion", access, variables, on_text)


def install_trust(
    access: RootAccess,
    *,
    signers: Sequence[str] = (),
    revoked: Sequence[str] = (),
    on_text: Callable[[str], None] | None = None,
) -> list[str]:
    """Write each companion's vehicle id, who may sign (where given) and whose keys are revoked; their names.

    Args:
        access: which companions.
        signers: lines of `allowed_signers`, the whole list; empty leaves those of the companion.
        revoked: lines to add to `revoked_keys`.
        on_text: called with Ansible's own output.

    Raises:
        VehicleIdMismatchError: a companion was enrolled as another vehicle.
        CompanionNotReadyError, CompanionNotTrustedError, CompanionUnreachableError: a companion was refused.
        FleetPartialError: some companions are enrolled, others were refused.
    """
    variables = {
        "companion_trust_cache_root": access.config.companion_cache_root,
        "companion_trust_signers": list(signers),
        "companion_trust_revoked": list(revoked),
    }
    return _as_root("enrol_companion", access, variables, on_text)


def _check_wheelhouse(wheelhouse: Path) -> None:
    path = wheelhouse / "wheelhouse.json"
    advice = "Make one on a connected machine: operator-tool wheelhouse DIR --builder builder --platform aarch64-cp310."
    try:
        with path.open("rb") as stream:
            found = json.loads(stream.read(MAX_DESCRIPTION_BYTES))
    except FileNotFoundError:
        raise SettingsError(f"{wheelhouse} is no wheelhouse", remediation=advice) from None
    except (OSError, ValueError, RecursionError) as exc:
        raise SettingsError(f"{path} cannot be read ({type(exc).__name__})", remediation=advice) from None
    wanted = {"machine", "python_version", "glibc", "identity", "size_bytes"}
    if not isinstance(found, dict) or not wanted <= set(found):
        raise SettingsError(f"{path} does not describe a wheelhouse", remediation=advice)


def _as_root(
    playbook: str, access: RootAccess, variables: Mapping[str, Any], on_text: Callable[[str], None] | None
) -> list[str]:
    config = access.config
    with private_folder() as folder:
        password_file = None
        if access.become_password is not None:
            password_file = folder / "become-password"
            with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(access.become_password)
        result = run_playbook(
            playbook,
            private_dir=folder,
            inventory=inventory_for(access.companion, config, folder),
            variables={
                "companion_known_hosts_file": os.path.abspath(config.companion_known_hosts_file),
                **variables,
            },
            check=access.check,
            become_password_file=password_file,
            on_text=on_text,
        )
    return _judge(result)


def _judge(result: PlaybookResult) -> list[str]:
    """The companions that went through; the error of those that did not."""
    if result.cancelled:
        raise BuildCancelledError("cancelled by the operator")
    if result.failed_hosts:
        errors = {host: host_error(host, outcome) for host, outcome in sorted(result.failed_hosts.items())}
        succeeded = sorted(set(result.last_results) - set(errors))
        first = next(iter(errors.values()))
        if len(errors) == 1 and not succeeded:
            raise first
        words = "; ".join(f"{host}: {error.message}" for host, error in errors.items())
        if succeeded:
            raise FleetPartialError(f"{', '.join(succeeded)} went through, and others did not: {words}")
        raise type(first)(words, remediation=first.remediation)
    if not result.finished or not result.last_results:
        raise silence_error(result)
    return sorted(result.last_results)
