# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host keys of companions, pinned under the vehicle's id: drones share addresses, so an address is no identity.

A key is pinned only against a fingerprint that the operator read off the companion itself (its label or console).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from typing import List

from ._atomic_file import write_atomically
from ._errors import CompanionNotTrustedError, CompanionUnreachableError, SettingsError

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function
__all__ = ["HostKey", "pin_host_key", "pinned_keys", "scan_host_key"]

VEHICLE_ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
MAX_FILE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class HostKey:
    """A public host key as known_hosts holds it."""

    kind: str
    blob: str

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as ssh-keygen -l prints it (RFC 4648 base64 without padding)."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def scan_host_key(host: str, *, port: int = 22, timeout_s: float = 5.0) -> HostKey:
    """The ed25519 key that a companion offers; asking for it proves nothing yet.

    Raises:
        CompanionUnreachableError: no answer.
    """
    if host.startswith("-"):
        raise SettingsError(f"{host!r} is no host")
    command = ["ssh-keyscan", "-T", str(max(1, round(timeout_s))), "-t", "ed25519", "-p", str(port), "--", host]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s + 10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SettingsError(f"cannot ask {host} for its host key: ssh-keyscan gave {type(exc).__name__}") from None
    for line in said.splitlines():
        match = re.fullmatch(r"\S+ (ssh-ed25519) ([A-Za-z0-9+/]{60,}={0,2})", line.strip())
        if match:
            return HostKey(match.group(1), match.group(2))
    raise CompanionUnreachableError(f"{host} port {port} offers no ed25519 host key, or does not answer")


def pinned_keys(path: str, vehicle_id: str) -> List[HostKey]:
    """The keys that are pinned under a vehicle's id."""
    found = []
    for line in _lines(path):
        words = line.split()
        if len(words) >= 3 and vehicle_id in words[0].split(","):
            found.append(HostKey(words[1], words[2]))
    return found


def pin_host_key(path: str, vehicle_id: str, key: HostKey, *, fingerprint: str, replace: bool = False) -> bool:
    """Pin `key` where it has the `fingerprint` that the operator gave; False where it is pinned already.

    Raises:
        CompanionNotTrustedError: another fingerprint, or another key is pinned (and `replace` is not set); says both.
        SettingsError: the vehicle's id or the file cannot be used.
    """
    if not re.fullmatch(VEHICLE_ID_PATTERN, vehicle_id):
        raise SettingsError(f"{vehicle_id!r} is no vehicle id: letters, digits, dot, dash and underscore only")
    if key.fingerprint != fingerprint.strip().rstrip("="):
        raise CompanionNotTrustedError(
            f"{vehicle_id} offers {key.fingerprint}, and not the expected {fingerprint.strip()}"
        )
    before = pinned_keys(path, vehicle_id)
    if key in before:
        return False
    if before and not replace:
        raise CompanionNotTrustedError(
            f"{vehicle_id} is pinned to {before[0].fingerprint}, and now offers {key.fingerprint}",
            remediation="Find out why its key changed; use --replace only after a known re-installation.",
        )
    kept = [line for line in _lines(path) if vehicle_id not in line.split(" ", 1)[0].split(",")]
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
        content = "\n".join([*kept, f"{vehicle_id} {key.kind} {key.blob}"]) + "\n"
        write_atomically(path, content.encode(), mode=0o600)
    except OSError as exc:
        raise SettingsError(f"cannot write {path}: {exc.strerror}") from None
    return True


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_FILE_BYTES).splitlines()
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror}") from None
