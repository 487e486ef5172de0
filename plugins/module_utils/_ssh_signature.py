# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures over grants and position hints, in OpenSSH's SSHSIG format, through `ssh-keygen -Y`.

Runs on the companion too: standard library only, Python 3.8. Who may sign, when and for what is decided here, so that
each refusal has its own reason; the mathematics is ssh-keygen's, and so is the signing, with a file, an agent or a
FIDO key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shlex
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from ._errors import SettingsError
from ._generation_faults import Reason, refuse
from ._grant import GRANT_NAMESPACE, parse_time

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["AllowedSigner", "SshSignature", "parse_allowed_signers", "sign_text", "verify_signature"]

MAX_SIGNATURE_BYTES = 16 * 1024
MAX_TRUST_BYTES = 256 * 1024
SSH_KEYGEN_TIMEOUT_S = 20.0
SIGN_TIMEOUT_S = 120.0
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_ED25519 = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com")
_ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
_ED25519_PRIME = 2**255 - 19
_ED25519_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_ED25519_SMALL = {0, 1, _ED25519_PRIME - 1, _ED25519_ORDER_8, _ED25519_PRIME - _ED25519_ORDER_8}
_KEY_TYPE = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[A-Za-z0-9@.-]+", re.ASCII)
_SSH_TIME = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:([0-9]{2})([0-9]{2})([0-9]{2})?)?(Z?)", re.ASCII)


@dataclass(frozen=True)
class SshSignature:
    """The parts of an SSHSIG that decide whether it may count."""

    key_blob: bytes
    key_type: str
    namespace: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it."""
        digest = base64.b64encode(hashlib.sha256(self.key_blob).digest()).decode().rstrip("=")
        return "SHA256:" + digest

    @classmethod
    def parse(cls, content: bytes) -> "SshSignature":
        """One armoured signature and nothing else.

        Raises:
            CacheVerifyError: `signature-malformed`.
        """
        error = refuse(Reason.SIGNATURE_MALFORMED, "the signature is not one SSH signature")
        lines = content.strip().splitlines()
        if len(content) > MAX_SIGNATURE_BYTES or len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
            raise error
        try:
            blob = base64.b64decode(b"".join(lines[1:-1]), validate=True)
            if blob[:6] != b"SSHSIG" or struct.unpack(">I", blob[6:10])[0] != 1:
                raise error
            key_blob, rest = _take(blob[10:])
            namespace, rest = _take(rest)
            reserved, rest = _take(rest)
            algorithm, rest = _take(rest)
            signature, rest = _take(rest)
            key_type = _take(key_blob)[0].decode("ascii")
            if key_type in _ED25519 and not (_is_canonical(signature) and _is_sound_key(key_blob)):
                raise error
            if rest or reserved or algorithm not in (b"sha256", b"sha512") or not signature:
                raise error
            return cls(key_blob, key_type, namespace.decode("ascii"))
        except (binascii.Error, struct.error, UnicodeDecodeError, ValueError):
            raise error from None


def _take(content: bytes) -> Tuple[bytes, bytes]:
    (length,) = struct.unpack(">I", content[:4])
    if length > len(content) - 4:
        raise ValueError("cut")
    return content[4 : 4 + length], content[4 + length :]


def _is_canonical(signature: bytes) -> bool:
    """Whether the number S is below the group's order (RFC 8032, 5.1.7), which OpenSSH itself does not ask."""
    raw = _take(_take(signature)[1])[0]
    return len(raw) == 64 and int.from_bytes(raw[32:], "little") < _ED25519_ORDER


def _is_sound_key(key_blob: bytes) -> bool:
    """Whether a key is a point written in the one way (RFC 8032, 5.1.3), and none of the eight of small order.

    OpenSSH asks neither, and a key of small order fits signatures that nobody made.
    """
    raw = _take(_take(key_blob)[1])[0]
    y = int.from_bytes(raw, "little") % 2**255
    return len(raw) == 32 and y < _ED25519_PRIME and y not in _ED25519_SMALL


@dataclass(frozen=True)
class AllowedSigner:
    """A line of the allowed signers file; times in seconds since the epoch, None where not limited."""

    principal: str
    key_blob: bytes
    key_type: str
    namespaces: Optional[Tuple[str, ...]]
    valid_after: Optional[int]
    valid_before: Optional[int]


def _words(line: str) -> List[str]:
    """Split at blanks outside double quotes, keeping the quotes."""
    return re.findall(r'(?:[^\s"]|"[^"]*")+', line)


def _ssh_time(text: str) -> int:
    match = _SSH_TIME.fullmatch(text)
    if match is None:
        raise ValueError(text)
    year, month, day, hour, minute, second, _zulu = match.groups()
    return parse_time(f"{year}-{month}-{day}T{hour or '00'}:{minute or '00'}:{second or '00'}Z")


def parse_allowed_signers(content: bytes) -> Tuple[AllowedSigner, ...]:
    """The allowed signers file of ssh-keygen(1): `principal [options] keytype base64 [comment]`; times are read as UTC.

    Raises:
        CacheVerifyError: `trust-malformed`: a line not understood; nothing is guessed.
    """
    signers = []
    for number, raw in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        words = _words(line)
        try:
            principal = words[0].strip('"')
            has_options = not _KEY_TYPE.fullmatch(words[1])
            options = _options(words[1]) if has_options else {}
            key_type, encoded = words[2:4] if has_options else words[1:3]
            blob = base64.b64decode(encoded, validate=True)
            if _take(blob)[0].decode("ascii") != key_type:
                raise ValueError(key_type)
            namespaces = tuple(options["namespaces"].split(",")) if "namespaces" in options else None
            after = _ssh_time(options["valid-after"]) if "valid-after" in options else None
            before = _ssh_time(options["valid-before"]) if "valid-before" in options else None
        except (IndexError, ValueError, struct.error, UnicodeDecodeError):
            raise refuse(
                Reason.TRUST_MALFORMED, f"line {number} of allowed_signers is not understood", line=number
            ) from None
        signers.append(AllowedSigner(principal, blob, key_type, namespaces, after, before))
    return tuple(signers)


def _options(text: str) -> Dict[str, str]:
    found: Dict[str, str] = {}
    for item in re.findall(r'(?:[^,"]|"[^"]*")+', text):
        name, _equals, value = item.partition("=")
        if name not in ("namespaces", "valid-after", "valid-before") or name in found or not value:
            raise ValueError(item)
        found[name] = value.strip('"')
    return found


def _read(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_TRUST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise refuse(Reason.TRUST_MISSING, f"{path} cannot be read: {exc.strerror}") from None
    if len(content) > MAX_TRUST_BYTES:
        raise refuse(Reason.TRUST_MALFORMED, f"{path} is larger than {MAX_TRUST_BYTES} bytes")
    return content


def _revoked(content: bytes, signature: SshSignature) -> bool:
    """`revoked_keys` lists public keys or SHA256 fingerprints, one a line."""
    key = base64.b64encode(signature.key_blob).decode()
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not any(word.startswith(("SHA256:", "AAAA")) for word in words):
            raise refuse(Reason.TRUST_MALFORMED, f"line {number} of revoked_keys is not understood", line=number)
        if key in words or signature.fingerprint in words:
            return True
    return False


def verify_signature(
    text: bytes, signature: Optional[bytes], *, trust_dir: str, now_epoch_s: float, namespace: str = GRANT_NAMESPACE
) -> str:
    """Hold a signature against the signers that this companion trusts.

    Args:
        namespace: what the signature must have been made for; one for grants says nothing about anything else.

    Returns:
        The signer's name from `allowed_signers`.

    Raises:
        CacheVerifyError: with a reason code of its own for each way to be wrong.
    """
    listed = _read(os.path.join(trust_dir, "allowed_signers"))
    if listed is None:
        raise refuse(
            Reason.TRUST_MISSING, f"only what is signed counts here, and {trust_dir}/allowed_signers is missing"
        )
    if not signature:
        raise refuse(Reason.GRANT_UNSIGNED, "there is no signature, and only what is signed counts here")
    parsed = SshSignature.parse(signature)
    if parsed.namespace != namespace:
        raise refuse(Reason.SIGNATURE_NAMESPACE, f"the signature is for {parsed.namespace[:60]!a}, not for {namespace}")
    if _revoked(_read(os.path.join(trust_dir, "revoked_keys")) or b"", parsed):
        raise refuse(Reason.SIGNER_REVOKED, f"the key {parsed.fingerprint} is revoked", fingerprint=parsed.fingerprint)
    known = [signer for signer in parse_allowed_signers(listed) if signer.key_blob == parsed.key_blob]
    known = [signer for signer in known if signer.namespaces is None or namespace in signer.namespaces]
    if not known:
        raise refuse(
            Reason.SIGNER_UNKNOWN, f"no allowed signer has the key {parsed.fingerprint}", fingerprint=parsed.fingerprint
        )
    valid = [
        signer
        for signer in known
        if (signer.valid_after is None or now_epoch_s >= signer.valid_after)
        and (signer.valid_before is None or now_epoch_s < signer.valid_before)
    ]
    if not valid:
        raise refuse(Reason.SIGNER_NOT_VALID_NOW, f"the key of {known[0].principal} may not sign at this time")
    _check_mathematics(text, signature, valid[0], namespace)
    return valid[0].principal


def _check_mathematics(text: bytes, signature: bytes, signer: AllowedSigner, namespace: str) -> None:
    key = base64.b64encode(signer.key_blob).decode()
    with tempfile.TemporaryDirectory(prefix="gps-denied-verify-") as folder:
        signers_path, signature_path = os.path.join(folder, "signers"), os.path.join(folder, "signature")
        with open(signers_path, "w", encoding="ascii") as stream:
            stream.write(f"signer {signer.key_type} {key}\n")
        with open(signature_path, "wb") as binary:
            binary.write(signature)
        command = [
            "ssh-keygen",
            "-Y",
            "verify",
            "-f",
            signers_path,
            "-I",
            "signer",
            "-n",
            namespace,
            "-s",
            signature_path,
        ]
        try:
            done = subprocess.run(command, input=text, capture_output=True, timeout=SSH_KEYGEN_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise refuse(Reason.VERIFIER_FAILED, f"ssh-keygen did not run: {type(exc).__name__}") from None
    if done.returncode != 0:
        raise refuse(Reason.SIGNATURE_INVALID, "the signature does not fit the text")


def sign_text(text: bytes, *, key_path: str, namespace: str = GRANT_NAMESPACE) -> bytes:
    """The armoured signature over a text, made on the workstation.

    Args:
        text: what is signed.
        namespace: what the signature is for.
        key_path: a private key, or the public half of a key that an agent or a FIDO token holds.

    Raises:
        SettingsError: the key is missing, refused, or ssh-keygen is not there.
    """
    command = ["ssh-keygen", "-Y", "sign", "-f", key_path, "-n", namespace]
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=SIGN_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SettingsError(f"cannot sign: {shlex.join(command[:3])} gave {type(exc).__name__}") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SettingsError(f"cannot sign with {key_path}: {said[-1][:200] if said else 'ssh-keygen failed'}")
    return done.stdout
