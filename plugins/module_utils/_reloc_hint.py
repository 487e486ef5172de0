# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A position hint: about here, says the operator, to a vehicle that has lost itself.

It is bound to one vehicle, one cache, one boot of the companion and a few seconds of its boot clock, under a rising
sequence: in flight the companion's wall clock is worth nothing, and a hint from before is worse than none. Runs on the
companion too: standard library only, Python 3.8.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Optional

from ._errors import PositionHintError

__all__ = [
    "HINT_NAMESPACE",
    "MAX_ENVELOPE_BYTES",
    "MAX_RADIUS_M",
    "MIN_RADIUS_M",
    "Envelope",
    "PositionHint",
    "check_place",
    "refuse_hint",
]

HINT_NAMESPACE = "gps-denied-hint@v1"
MAX_ENVELOPE_BYTES = 32 * 1024
MIN_RADIUS_M, MAX_RADIUS_M = 1.0, 50_000.0
MAX_SEQUENCE = 2**53
MAX_LAT_DEG = 85.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", re.ASCII)


def refuse_hint(reason: str, message: str) -> PositionHintError:
    """The error for a reason; `details["reason"]` carries the code."""
    return PositionHintError(message, details={"reason": reason})


def check_place(*, lat_deg: float, lon_deg: float, radius_m: float) -> None:
    """Whether a position and a radius can be meant at all.

    Raises:
        PositionHintError: not finite, outside the globe, or an implausible radius.
    """
    if not (math.isfinite(lat_deg) and math.isfinite(lon_deg)):
        raise refuse_hint("position-invalid", f"the position lat {lat_deg}, lon {lon_deg} is not finite")
    if not (-MAX_LAT_DEG <= lat_deg <= MAX_LAT_DEG and -180.0 <= lon_deg <= 180.0):
        raise refuse_hint("position-invalid", f"the position lat {lat_deg}, lon {lon_deg} is not on the map")
    if not MIN_RADIUS_M <= radius_m <= MAX_RADIUS_M:  # nor NaN
        raise refuse_hint(
            "radius-invalid", f"the radius is {radius_m} m; {MIN_RADIUS_M:g} to {MAX_RADIUS_M:g} m are plausible"
        )


@dataclass(frozen=True)
class PositionHint:
    """What is signed. `valid_until_s` is on the boot clock of the boot `boot_id`; `issued_at` is for people."""

    vehicle_id: str
    content_id: str
    sequence: int
    lat_deg: float
    lon_deg: float
    radius_m: float
    boot_id: str
    valid_until_s: float
    issued_at: str
    run_id: str
    schema_version: int = 1
    type: str = "gps-denied-hint"

    def __post_init__(self) -> None:
        check_place(lat_deg=self.lat_deg, lon_deg=self.lon_deg, radius_m=self.radius_m)
        for name in ("vehicle_id", "boot_id", "run_id"):
            if not _ID.fullmatch(getattr(self, name)):
                raise refuse_hint("hint-malformed", f"the hint's {name} is not an identifier")
        if not re.fullmatch(r"[0-9a-f]{64}", self.content_id, re.ASCII):
            raise refuse_hint("hint-malformed", "the hint's content_id is not a SHA-256")
        if not 1 <= self.sequence <= MAX_SEQUENCE or not math.isfinite(self.valid_until_s):
            raise refuse_hint("hint-malformed", "the hint's sequence or time is impossible")
        if not (len(self.issued_at) <= 40 and self.issued_at.isprintable()):
            raise refuse_hint("hint-malformed", "the hint's issued_at is no time")
        if self.schema_version != 1 or self.type != "gps-denied-hint":
            raise refuse_hint("hint-malformed", "the hint is of another kind or version")

    def to_text(self) -> str:
        """The exact text that is signed."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def parse(cls, text: str) -> "PositionHint":
        """A hint from its text: exactly the known keys, each of its type.

        Raises:
            PositionHintError: `hint-malformed`, or what is wrong with the place.
        """
        data = _object(text)
        wanted = {item.name: str(item.type) for item in fields(cls)}
        if set(data) != set(wanted):
            raise refuse_hint("hint-malformed", "the hint has unknown or missing keys")
        for name, kind in wanted.items():
            value = data[name]
            if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
                data[name] = value = float(value)
            if isinstance(value, bool) or type(value).__name__ != kind:
                raise refuse_hint("hint-malformed", f"the hint's {name} is not of type {kind}")
        return cls(**data)


@dataclass(frozen=True)
class Envelope:
    """A hint's text and the signature over it, in one file: both are there, or neither."""

    text: str
    signature: Optional[str]

    @property
    def hint(self) -> PositionHint:
        return PositionHint.parse(self.text)

    def to_bytes(self) -> bytes:
        return json.dumps({"hint": self.text, "signature": self.signature}).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes) -> "Envelope":
        """An envelope from its bytes.

        Raises:
            PositionHintError: `hint-malformed`.
        """
        data = _object(content.decode("utf-8", "replace")) if len(content) <= MAX_ENVELOPE_BYTES else {}
        text, signature = data.get("hint"), data.get("signature")
        if not isinstance(text, str) or not (signature is None or isinstance(signature, str)) or len(data) != 2:
            raise refuse_hint("hint-malformed", "this is no hint in its envelope")
        return cls(text, signature)


def _object(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise refuse_hint("hint-malformed", "the hint is not a JSON object")
    return found
