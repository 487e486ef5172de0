# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheVerifyError, SettingsError
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_faults import Reason, reason_of
from ansible_collections.gps_denied.preflight.plugins.module_utils._grant import GRANT_NAMESPACE
from ansible_collections.gps_denied.preflight.plugins.module_utils._ssh_signature import (
    SshSignature,
    parse_allowed_signers,
    sign_text,
    verify_signature,
)
from cache_samples import Signer

TEXT = b'{"a": 1}\n'
NOW = 1_800_000_000.0  # 2027-01-15


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Signer]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: Signer.create(folder, name) for name in ("first", "second")}


def trust(folder: Path, signers: str | None, revoked: str | None = None) -> str:
    for name, content in (("allowed_signers", signers), ("revoked_keys", revoked)):
        if content is not None:
            (folder / name).write_text(content, encoding="utf-8")
    return str(folder)


def refused(text: bytes, signature: bytes | None, folder: str, now: float = NOW) -> Reason:
    with pytest.raises(CacheVerifyError) as caught:
        verify_signature(text, signature, trust_dir=folder, now_epoch_s=now)
    return reason_of(caught.value)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_good_signature_names_its_signer(tmp_path: Path, kind: str) -> None:
    signer = Signer.create(tmp_path, "operator", kind)
    folder = trust(tmp_path, f"# who may sign\n\n{signer.line()}")
    signature = sign_text(TEXT, key_path=str(signer.key))
    assert verify_signature(TEXT, signature, trust_dir=folder, now_epoch_s=NOW) == "operator"
    assert refused(TEXT + b" ", signature, folder) is Reason.SIGNATURE_INVALID


def test_each_refusal_has_its_own_reason(tmp_path: Path, keys: dict[str, Signer]) -> None:
    first, second = keys["first"], keys["second"]
    good = first.sign(TEXT)
    folder = trust(tmp_path, first.line())
    assert refused(TEXT, None, folder) is Reason.GRANT_UNSIGNED
    assert refused(TEXT, b"", folder) is Reason.GRANT_UNSIGNED
    assert refused(TEXT, b"signed, honestly", folder) is Reason.SIGNATURE_MALFORMED
    assert refused(TEXT, good + good, folder) is Reason.SIGNATURE_MALFORMED
    assert refused(TEXT, first.sign(TEXT, "file"), folder) is Reason.SIGNATURE_NAMESPACE
    assert refused(TEXT, second.sign(TEXT), folder) is Reason.SIGNER_UNKNOWN
    assert refused(TEXT, good, str(tmp_path / "nowhere")) is Reason.TRUST_MISSING
    assert refused(TEXT, good, trust(tmp_path, "")) is Reason.SIGNER_UNKNOWN
    assert refused(TEXT, good, trust(tmp_path, first.line('namespaces="git"'))) is Reason.SIGNER_UNKNOWN
    both = first.line(f'namespaces="git,{GRANT_NAMESPACE}"')
    assert verify_signature(TEXT, good, trust_dir=trust(tmp_path, both), now_epoch_s=NOW) == "first"


def test_a_key_counts_between_its_dates_only(tmp_path: Path, keys: dict[str, Signer]) -> None:
    good = keys["first"].sign(TEXT)
    window = keys["first"].line('valid-after="20270101",valid-before="20270201Z"')
    folder = trust(tmp_path, window)
    assert verify_signature(TEXT, good, trust_dir=folder, now_epoch_s=NOW) == "first"
    for moment in (NOW - 30 * 86400, NOW + 30 * 86400):
        assert refused(TEXT, good, folder, moment) is Reason.SIGNER_NOT_VALID_NOW


def test_a_rotated_key_counts_beside_the_old_one_and_the_old_one_until_it_is_revoked(
    tmp_path: Path, keys: dict[str, Signer]
) -> None:
    first, second = keys["first"], keys["second"]
    folder = trust(tmp_path, first.line() + second.line())
    for key in (first, second):
        assert verify_signature(TEXT, key.sign(TEXT), trust_dir=folder, now_epoch_s=NOW) == key.key.name
    trust(tmp_path, None, f"# lost on 3 May\n{first.public} first\n")
    assert refused(TEXT, first.sign(TEXT), folder) is Reason.SIGNER_REVOKED
    assert verify_signature(TEXT, second.sign(TEXT), trust_dir=folder, now_epoch_s=NOW) == "second"
    trust(tmp_path, None, SshSignature.parse(second.sign(TEXT)).fingerprint + "\n")
    assert refused(TEXT, second.sign(TEXT), folder) is Reason.SIGNER_REVOKED


@pytest.mark.parametrize(
    "line",
    [
        "operator", "operator ssh-ed25519", "operator ssh-ed25519 !!!!", "operator ssh-ed25519 AAAA",
        "operator cert-authority ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==",
        'operator valid-before="soon" ssh-ed25519 AAAA',
        "operator ssh-rsa " + base64.b64encode(b"\x00\x00\x00\x0bssh-ed25519").decode(),
    ],
)  # fmt: skip
def test_a_line_that_is_not_understood_closes_the_door(tmp_path: Path, keys: dict[str, Signer], line: str) -> None:
    folder = trust(tmp_path, keys["first"].line() + line + "\n")
    assert refused(TEXT, keys["first"].sign(TEXT), folder) is Reason.TRUST_MALFORMED
    folder = trust(tmp_path, keys["first"].line(), "what is this\n")
    assert refused(TEXT, keys["first"].sign(TEXT), folder) is Reason.TRUST_MALFORMED


def test_every_changed_bit_of_a_signature_is_refused(tmp_path: Path, keys: dict[str, Signer]) -> None:
    good = keys["first"].sign(TEXT)
    folder = trust(tmp_path, keys["first"].line())
    lines = good.splitlines()
    blob = base64.b64decode(b"".join(lines[1:-1]))
    for position in range(0, len(blob), 3):
        changed = bytearray(blob)
        changed[position] ^= 1 << position % 8
        armoured = b"\n".join([lines[0], base64.b64encode(bytes(changed)), lines[-1], b""])
        assert refused(TEXT, armoured, folder).value.startswith("sign"), position


def test_a_signature_whose_number_is_raised_by_the_group_order_is_refused(
    tmp_path: Path, keys: dict[str, Signer]
) -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    good = keys["first"].sign(TEXT)
    lines = good.splitlines()
    blob = base64.b64decode(b"".join(lines[1:-1]))
    scalar = int.from_bytes(blob[-32:], "little") + order
    forged = blob[:-32] + scalar.to_bytes(32, "little")
    armoured = b"\n".join([lines[0], base64.b64encode(forged), lines[-1], b""])
    assert refused(TEXT, armoured, trust(tmp_path, keys["first"].line())) is Reason.SIGNATURE_MALFORMED


def test_a_key_that_cannot_sign_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot sign with .*nowhere"):
        sign_text(TEXT, key_path=str(tmp_path / "nowhere"))


def test_options_are_read_as_ssh_keygen_writes_them(keys: dict[str, Signer]) -> None:
    line = keys["first"].line('namespaces="a,b",valid-after="20270101120000Z"')
    (signer,) = parse_allowed_signers(line.encode())
    assert (signer.namespaces, signer.valid_after, signer.valid_before) == (("a", "b"), 1798804800, None)


def test_trust_that_cannot_be_read_and_a_missing_ssh_keygen_close_the_door(
    tmp_path: Path, keys: dict[str, Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = keys["first"].sign(TEXT)
    folder = trust(tmp_path, keys["first"].line())
    (tmp_path / "revoked_keys").mkdir()
    assert refused(TEXT, good, folder) is Reason.TRUST_MISSING
    (tmp_path / "revoked_keys").rmdir()
    assert refused(TEXT, good, trust(tmp_path, keys["first"].line() + "#" * 300_000)) is Reason.TRUST_MALFORMED
    assert refused(TEXT, b"x" * 20_000, trust(tmp_path, keys["first"].line())) is Reason.SIGNATURE_MALFORMED
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(TEXT, good, folder) is Reason.VERIFIER_FAILED
    with pytest.raises(SettingsError, match="gave FileNotFoundError"):
        sign_text(TEXT, key_path=str(keys["first"].key))
