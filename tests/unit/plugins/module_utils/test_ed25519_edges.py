# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ed25519 signatures at the edges of RFC 8032, made here with the curve's own arithmetic, held against the grant check.

The arithmetic follows the definitions in RFC 8032, 5.1, and is itself held against `cryptography`, byte by byte.
"""

from __future__ import annotations

import base64
import hashlib
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheVerifyError
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_faults import Reason, reason_of
from ansible_collections.gps_denied.preflight.plugins.module_utils._grant import GRANT_NAMESPACE
from ansible_collections.gps_denied.preflight.plugins.module_utils._ssh_signature import verify_signature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
TEXT = b'{"content_id": "00"}\n'
NOW = 1_800_000_000.0
Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def add(one: Point, two: Point) -> Point:
    """RFC 8032, 5.1.4, on x and y alone; the one inversion serves both."""
    (x1, y1), (x2, y2) = one, two
    product = D * x1 * x2 * y1 * y2 % P
    inverse = pow((1 + product) * (1 - product), -1, P)
    x = (x1 * y2 + x2 * y1) * (1 - product) * inverse
    y = (y1 * y2 + x1 * x2) * (1 + product) * inverse
    return x % P, y % P


def times(number: int, point: Point) -> Point:
    found = NEUTRAL
    for bit in f"{number:b}":
        found = add(found, found)
        if bit == "1":
            found = add(found, point)
    return found


def point_at(y: int, sign: int) -> Point | None:
    """The point with this y, if there is one."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square:
        return None
    return (P - x if x % 2 != sign else x) % P, y


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def base_point() -> Point:
    found = point_at(4 * pow(5, P - 2, P) % P, 0)
    assert found is not None
    return found


def small_order_points() -> list[Point]:
    """The eight points whose order divides eight: the multiples of L times the first point that gives them all."""
    y = 2
    while True:
        point = point_at(y, 0)
        seed = times(L, point) if point else NEUTRAL
        found = {times(turn, seed) for turn in range(1, 9)}
        if len(found) == 8:
            return sorted(found)
        y += 1


BASE = base_point()
SMALL = small_order_points()


@dataclass(frozen=True)
class Key:
    """A secret key of 32 bytes, as RFC 8032, 5.1.5 opens it."""

    secret: bytes

    @property
    def scalar(self) -> int:
        half = int.from_bytes(hashlib.sha512(self.secret).digest()[:32], "little")
        return half & ((1 << 254) - 8) | 1 << 254

    @cached_property
    def public(self) -> bytes:
        return encoded(times(self.scalar, BASE))

    def sign(self, message: bytes, *, beside: Point = NEUTRAL) -> bytes:
        """RFC 8032, 5.1.6; `beside` is added to R, which is then another point."""
        nonce = int.from_bytes(hashlib.sha512(hashlib.sha512(self.secret).digest()[32:] + message).digest(), "little")
        point = encoded(add(times(nonce % L, BASE), beside))
        number = (nonce + challenge(point, self.public, message) * self.scalar) % L
        return point + number.to_bytes(32, "little")


def challenge(point: bytes, public: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(point + public + message).digest(), "little") % L


def text(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def message_of(content: bytes) -> bytes:
    """What SSHSIG signs."""
    namespace = text(GRANT_NAMESPACE.encode())
    return b"SSHSIG" + namespace + text(b"") + text(b"sha512") + text(hashlib.sha512(content).digest())


def key_blob(public: bytes) -> bytes:
    return text(b"ssh-ed25519") + text(public)


def armoured(public: bytes, raw: bytes) -> bytes:
    parts = [key_blob(public), GRANT_NAMESPACE.encode(), b"", b"sha512", text(b"ssh-ed25519") + text(raw)]
    blob = b"SSHSIG" + struct.pack(">I", 1) + b"".join(text(part) for part in parts)
    return b"\n".join([b"-----BEGIN SSH SIGNATURE-----", base64.b64encode(blob), b"-----END SSH SIGNATURE-----", b""])


@pytest.fixture
def verdict(tmp_path: Path) -> Callable[[bytes, bytes], Reason | None]:
    """What the check says of a signature by an allowed signer with this key; None where it is accepted."""

    def check(public: bytes, raw: bytes) -> Reason | None:
        line = f"operator ssh-ed25519 {base64.b64encode(key_blob(public)).decode()}\n"
        (tmp_path / "allowed_signers").write_text(line, encoding="ascii")
        try:
            verify_signature(TEXT, armoured(public, raw), trust_dir=str(tmp_path), now_epoch_s=NOW)
        except CacheVerifyError as exc:
            return reason_of(exc)
        return None

    return check


Verdict = Callable[[bytes, bytes], "Reason | None"]
KEY = Key(b"\x07" * 32)
GOOD = KEY.sign(message_of(TEXT))


def test_the_arithmetic_here_makes_the_same_keys_and_signatures_as_cryptography(verdict: Verdict) -> None:
    dice = random.Random(8032)
    for _turn in range(5):
        key, message = Key(dice.randbytes(32)), dice.randbytes(dice.randrange(200))
        other = Ed25519PrivateKey.from_private_bytes(key.secret)
        assert key.public == other.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        assert key.sign(message) == other.sign(message)
    assert times(L, BASE) == NEUTRAL
    assert len(SMALL) == 8
    assert verdict(KEY.public, GOOD) is None


def test_a_number_that_is_not_below_the_order_is_refused(verdict: Verdict) -> None:
    number = int.from_bytes(GOOD[32:], "little")
    raised = [number + turn * L for turn in range(1, 16) if number + turn * L < 2**256]
    assert len(raised) >= 14
    for other in (*raised, L, L + 1, 2**252 + 2**251, 2**253, 2**255 - 1, 2**256 - 1):
        raw = GOOD[:32] + other.to_bytes(32, "little")
        assert verdict(KEY.public, raw) is Reason.SIGNATURE_MALFORMED, hex(other)
    for other in (0, 1, L - 1, L - number, (number + 1) % L):
        assert verdict(KEY.public, GOOD[:32] + other.to_bytes(32, "little")) is Reason.SIGNATURE_INVALID, hex(other)


def test_a_signature_of_another_length_is_refused(verdict: Verdict) -> None:
    for length in range(64):
        assert verdict(KEY.public, GOOD[:length]) is Reason.SIGNATURE_MALFORMED, length
    for raw in (GOOD + b"\0", b"\0" + GOOD, GOOD + GOOD, GOOD[32:] + GOOD):
        assert verdict(KEY.public, raw) is Reason.SIGNATURE_MALFORMED


def test_a_key_of_small_order_signs_nothing(verdict: Verdict) -> None:
    """With such a key R = [S]B - [k]A has few values, so anybody who tries a few texts can sign for it."""
    for point in SMALL:
        for noncanonical in (False, True):
            y = point[1] + (P if noncanonical else 0)
            if y >= 2**255:
                continue
            for sign in (0, 1):  # A neutral element with the sign set is no point, and OpenSSH reads it all the same.
                public = (y | sign << 255).to_bytes(32, "little")
                for other in SMALL:
                    raw = encoded(other) + bytes(32)
                    assert verdict(public, raw) is Reason.SIGNATURE_MALFORMED, (public.hex(), raw.hex())


def test_a_key_that_is_written_another_way_is_refused(verdict: Verdict) -> None:
    """RFC 8032, 5.1.3: y is below p."""
    for y in range(19):
        for sign in (0, 1):
            public = (y + P | sign << 255).to_bytes(32, "little")
            assert verdict(public, GOOD) is Reason.SIGNATURE_MALFORMED, y
    for length in (0, 31, 33):
        assert verdict((KEY.public * 2)[:length], GOOD) is Reason.SIGNATURE_MALFORMED, length


def test_a_point_r_that_is_another_one_or_written_another_way_is_refused(verdict: Verdict) -> None:
    message = message_of(TEXT)
    for point in SMALL:
        if point != NEUTRAL:  # With the factor eight of a lax check each of these would do.
            assert verdict(KEY.public, KEY.sign(message, beside=point)) is Reason.SIGNATURE_INVALID
    assert verdict(KEY.public, KEY.sign(message, beside=NEUTRAL)) is None
    for y, sign in ((0, 0), (1, 0), (1, 1), (P - 1, 1), (P, 0), (P + 1, 0), (P + 1, 1), (2**255 - 1, 1)):
        # S that fits this R, as far as one can: [S]B = [k]A with R taken for the neutral element.
        point_bytes = (y | sign << 255).to_bytes(32, "little")
        number = challenge(point_bytes, KEY.public, message) * KEY.scalar % L
        found = verdict(KEY.public, point_bytes + number.to_bytes(32, "little"))
        assert found is (None if (y, sign) == (1, 0) else Reason.SIGNATURE_INVALID), (y, sign)
    turned = bytes([*GOOD[:31], GOOD[31] ^ 0x80]) + GOOD[32:]
    assert verdict(KEY.public, turned) is Reason.SIGNATURE_INVALID


def test_a_signature_over_anything_but_the_wrapped_text_is_refused(verdict: Verdict) -> None:
    for message in (TEXT, hashlib.sha512(TEXT).digest(), message_of(TEXT)[6:], message_of(TEXT + b" ")):
        assert verdict(KEY.public, KEY.sign(message)) is Reason.SIGNATURE_INVALID
    assert verdict(Key(b"\x08" * 32).public, GOOD) is Reason.SIGNATURE_INVALID
