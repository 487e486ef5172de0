# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What enrolment writes into a companion's trust folder: who may sign, and whose keys are revoked.

Everything is read by the companion's own parser before it travels: a line that it would not understand would close
its door.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import List, Sequence

from ._errors import CacheVerifyError, SettingsError
from ._grant import GRANT_NAMESPACE
from ._reloc_hint import HINT_NAMESPACE
from ._ssh_signature import parse_allowed_signers

__all__ = ["revoked_line", "signer_line", "signer_lines"]

MAX_KEY_FILE_BYTES = 64 * 1024
FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}"
PRINCIPAL = r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            text = stream.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror}") from None
    if len(text) > MAX_KEY_FILE_BYTES:
        raise SettingsError(f"{path} is larger than {MAX_KEY_FILE_BYTES} bytes: it is no file of public keys")
    if "PRIVATE KEY" in text:
        raise SettingsError(
            f"{path} is a private key, which no companion may hold", remediation="Give its public half (.pub)."
        )
    return text


def _public_key(path: str) -> List[str]:
    """Type, base64 and comment of the one public key in a file."""
    lines = [line.split(None, 2) for line in _read(path).splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1 or len(lines[0]) < 2:
        raise SettingsError(f"{path} is no OpenSSH public key: one line is wanted, as in a .pub file")
    words = lines[0]
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    kind = words[0].encode("ascii", "replace")
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind):
        raise SettingsError(f"{path} is no OpenSSH public key: one line is wanted, as in a .pub file")
    return words


def signer_line(path: str) -> str:
    """The line of `allowed_signers` for a public key file: named by its comment, for grants and position hints.

    Raises:
        SettingsError: no such file, a private key, or no key.
    """
    words = _public_key(path)
    name = words[2].strip() if len(words) > 2 and re.fullmatch(PRINCIPAL, words[2].strip()) else "operator"
    return f'{name} namespaces="{GRANT_NAMESPACE},{HINT_NAMESPACE}" {words[0]} {words[1]}'


def signer_lines(*, key_paths: Sequence[str] = (), list_path: str = "") -> List[str]:
    """The whole list of those who may sign: a line for each public key, and the lines of an `allowed_signers` file.

    Raises:
        SettingsError: a file cannot be read, or the companion would not understand a line.
    """
    lines = [signer_line(path) for path in key_paths]
    if list_path:
        lines += [line.strip() for line in _read(list_path).splitlines() if line.strip() and line.strip()[0] != "#"]
    try:
        signers = parse_allowed_signers("\n".join(lines).encode())
    except CacheVerifyError as exc:
        raise SettingsError(f"{list_path or 'the signers'}: {exc.message}") from None
    if list_path and not signers:
        raise SettingsError(f"{list_path} names nobody who may sign: the companion would take no cache at all")
    return lines


def revoked_line(given: str) -> str:
    """The line of `revoked_keys` for a fingerprint, or for the public key in a file.

    Raises:
        SettingsError: neither of them.
    """
    if re.fullmatch(FINGERPRINT, given):
        return given
    if given.startswith("SHA256:"):
        raise SettingsError(f"{given[:80]!a} is no fingerprint: `ssh-keygen -lf KEY.pub` shows it")
    return " ".join(_public_key(given)[:2])
