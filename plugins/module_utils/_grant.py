# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A grant: this cache, for this vehicle, this flight and this time, under a rising counter.

Runs on the companion too: standard library only, Python 3.8.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, List, Optional, Tuple

from ._activation_state import MAX_COUNTER
from ._generation_faults import Reason, refuse

__all__ = ["GRANT_NAMESPACE", "MAX_GRANT_BYTES", "Grant", "check_grant", "format_time", "parse_time"]

GRANT_NAMESPACE = "gps-denied-grant@v1"
GRANT_TYPE = "gps-denied-grant"
MAX_GRANT_BYTES = 8 * 1024
MIN_TRUSTED_EPOCH_S = 1_767_225_600
"""2026-01-01: a clock before this has lost its battery, not its way."""
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", re.ASCII)


def format_time(epoch_s: float) -> str:
    """UTC with seconds, as grants write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(epoch_s)))


def parse_time(text: str) -> int:
    """Seconds since the epoch.

    Raises:
        ValueError: not `YYYY-MM-DDThh:mm:ssZ`.
    """
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text[:40]!a} is not a UTC time")
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


@dataclass(frozen=True)
class Grant:
    """What the signer allows. Times are UTC texts; `counter` rises with every grant for one vehicle."""

    vehicle_id: str
    flight_id: str
    content_id: str
    counter: int
    not_before: str
    not_after: str
    issued_at: str
    run_id: str
    schema_version: int = 1
    type: str = GRANT_TYPE

    def __post_init__(self) -> None:
        for name in ("vehicle_id", "run_id"):
            if not _ID.fullmatch(getattr(self, name)):
                raise refuse(
                    Reason.GRANT_MALFORMED, f"the grant's {name} {getattr(self, name)[:60]!a} is not an identifier"
                )
        if not (0 < len(self.flight_id) <= 200 and self.flight_id.isprintable()):
            raise refuse(Reason.GRANT_MALFORMED, "the grant's flight_id is empty, too long or not printable")
        if not re.fullmatch(r"[0-9a-f]{64}", self.content_id, re.ASCII):
            raise refuse(Reason.GRANT_MALFORMED, "the grant's content_id is not a SHA-256")
        if not 1 <= self.counter <= MAX_COUNTER:
            raise refuse(Reason.GRANT_MALFORMED, f"the grant's counter {self.counter} is outside 1 to {MAX_COUNTER}")
        if self.schema_version != 1 or self.type != GRANT_TYPE:
            raise refuse(Reason.GRANT_MALFORMED, "the grant is of another kind or version")
        try:
            begins, ends = parse_time(self.not_before), parse_time(self.not_after)
            parse_time(self.issued_at)
        except ValueError as exc:
            raise refuse(Reason.GRANT_MALFORMED, f"the grant has a wrong time: {exc}") from None
        if begins >= ends:
            raise refuse(Reason.GRANT_MALFORMED, "the grant ends before it begins")

    @classmethod
    def issue(
        cls,
        *,
        vehicle_id: str,
        flight_id: str,
        content_id: str,
        counter: int,
        run_id: str,
        now_epoch_s: float,
        valid_for_s: float,
        backdate_s: float = 300.0,
    ) -> "Grant":
        """A grant from a little before now, so that a companion whose clock lags by less accepts it."""
        return cls(
            vehicle_id=vehicle_id,
            flight_id=flight_id,
            content_id=content_id,
            counter=counter,
            not_before=format_time(now_epoch_s - backdate_s),
            not_after=format_time(now_epoch_s + valid_for_s),
            issued_at=format_time(now_epoch_s),
            run_id=run_id,
        )

    def to_text(self) -> str:
        """The exact text that is signed and stored."""
        return json.dumps(asdict(self), sort_keys=True, indent=1) + "\n"

    @classmethod
    def parse(cls, content: bytes) -> "Grant":
        """A grant from its bytes: exactly the known keys, each once, each of its type.

        Raises:
            CacheVerifyError: `grant-malformed`.
        """
        if len(content) > MAX_GRANT_BYTES:
            raise refuse(Reason.GRANT_MALFORMED, f"the grant is larger than {MAX_GRANT_BYTES} bytes")
        try:
            data = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise refuse(Reason.GRANT_MALFORMED, "the grant is not JSON, or names a key twice") from None
        names = {item.name for item in fields(cls)}
        if not isinstance(data, dict) or set(data) != names:
            raise refuse(Reason.GRANT_MALFORMED, "the grant has unknown or missing keys")
        for name, value in data.items():
            wanted = int if name in ("counter", "schema_version") else str
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise refuse(Reason.GRANT_MALFORMED, f"the grant's {name} is not of type {wanted.__name__}")
        return cls(**data)


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("key named twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def check_grant(
    grant: Grant, *, content_id: str, vehicle_id: Optional[str], flight_id: Optional[str], now_epoch_s: Optional[float]
) -> None:
    """Hold a grant against this content, vehicle, flight and moment; None leaves a comparison out.

    Raises:
        CacheVerifyError: with the reason code of the first that differs.
    """
    if grant.content_id != content_id:
        raise refuse(
            Reason.GRANT_CONTENT,
            f"the grant is for content {grant.content_id[:12]}, and the cache is {content_id[:12]}",
        )
    if vehicle_id is not None and grant.vehicle_id != vehicle_id:
        raise refuse(Reason.GRANT_VEHICLE, f"the grant is for vehicle {grant.vehicle_id}, and this is {vehicle_id}")
    if flight_id is not None and grant.flight_id != flight_id:
        raise refuse(
            Reason.GRANT_FLIGHT, f"the grant is for flight {grant.flight_id}, and flight {flight_id[:200]} is asked for"
        )
    if now_epoch_s is None:
        return
    if now_epoch_s < MIN_TRUSTED_EPOCH_S:
        raise refuse(Reason.CLOCK_UNTRUSTED, f"the clock says {format_time(max(now_epoch_s, 0))}: it was never set")
    if now_epoch_s < parse_time(grant.not_before):
        raise refuse(
            Reason.GRANT_NOT_YET_VALID, f"the grant begins at {grant.not_before}, and it is {format_time(now_epoch_s)}"
        )
    if now_epoch_s >= parse_time(grant.not_after):
        raise refuse(
            Reason.GRANT_EXPIRED, f"the grant ended at {grant.not_after}, and it is {format_time(now_epoch_s)}"
        )
