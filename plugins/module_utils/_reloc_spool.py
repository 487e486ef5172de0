# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hint's way on the companion: taken in from the workstation, read and acknowledged by the flight software.

`<cache root>/hints/hint.json` holds the last hint, `ack.json` what became of the last that was read. Both only ever
move to a higher sequence, each by one rename; the layout is in docs/reference/position-hint.md. Runs on the companion:
standard library only, Python 3.8.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any, Dict, Optional, Tuple

from ._activation_lock import boot_id, exclusive
from ._activation_state import CacheRoot
from ._atomic_file import write_atomically
from ._audit import append_audit
from ._errors import CacheVerifyError, PositionHintError
from ._reloc_hint import HINT_NAMESPACE, MAX_ENVELOPE_BYTES, Envelope, PositionHint, refuse_hint
from ._reloc_map import active_content, check_on_map, count_windows
from ._ssh_signature import verify_signature

__all__ = ["describe_hints", "put_hint", "take_hint", "wait_for_ack"]

FOLDER, HINT_NAME, ACK_NAME = "hints", "hint.json", "ack.json"
MAX_ACK_BYTES = 16 * 1024
POLL_S = 0.02


def _boot_clock_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _read(path: str, limit_bytes: int) -> Optional[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as stream:
        return stream.read(limit_bytes + 1)


def _held(root: CacheRoot) -> Optional[Envelope]:
    content = _read(root.join(FOLDER, HINT_NAME), MAX_ENVELOPE_BYTES)
    try:
        return Envelope.parse(content) if content is not None else None
    except PositionHintError:
        return None


def _ack(root: CacheRoot) -> Dict[str, Any]:
    try:
        found = json.loads(_read(root.join(FOLDER, ACK_NAME), MAX_ACK_BYTES) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _taken_sequence(root: CacheRoot) -> int:
    sequence = _ack(root).get("sequence", 0)
    return sequence if isinstance(sequence, int) and not isinstance(sequence, bool) else 0


def _last_sequence(root: CacheRoot) -> int:
    """The highest sequence that was ever taken in or read here."""
    try:
        held = _held(root)
        sequence = held.hint.sequence if held else 0
    except PositionHintError:
        sequence = 0
    return max(sequence, _taken_sequence(root))


def describe_hints(root: CacheRoot) -> Dict[str, Any]:
    """What the workstation needs to know before it makes a hint.

    Raises:
        PositionHintError: no cache is active here.
    """
    content_id, flight_id = active_content(root)
    return {
        "vehicle_id": root.vehicle_id(),
        "enrolled": root.enrolled(),
        "content_id": content_id,
        "flight_id": flight_id,
        "sequence": _last_sequence(root),
        "boot_id": boot_id(),
        "boottime_s": round(_boot_clock_s(), 3),
    }


def _check(root: CacheRoot, envelope: Envelope, *, floor: int) -> Tuple[PositionHint, Optional[str]]:
    """The hint and its signer, where it may count on this companion now."""
    hint = envelope.hint
    signer = None
    try:
        vehicle_id = root.vehicle_id()
        if root.enrolled():
            signature = envelope.signature.encode() if envelope.signature else None
            signer = verify_signature(
                envelope.text.encode(),
                signature,
                trust_dir=root.trust_dir,
                now_epoch_s=time.time(),
                namespace=HINT_NAMESPACE,
            )
    except CacheVerifyError as exc:
        reason = str(exc.details.get("reason")).replace("grant-", "hint-")
        raise refuse_hint(reason, f"the hint is refused: {exc.message}") from None
    if vehicle_id is not None and hint.vehicle_id != vehicle_id:
        raise refuse_hint("other-vehicle", f"the hint is for vehicle {hint.vehicle_id}, and this is {vehicle_id}")
    if hint.boot_id != boot_id() or _boot_clock_s() >= hint.valid_until_s:
        raise refuse_hint("hint-stale", f"hint {hint.sequence} is no longer valid")
    if hint.sequence <= floor:
        raise refuse_hint("hint-replayed", f"hint {hint.sequence} is not newer than the last one, {floor}")
    if hint.content_id != active_content(root)[0]:
        raise refuse_hint("other-cache", "the hint was made for another cache than the active one")
    check_on_map(root, hint)
    return hint, signer


def put_hint(root: CacheRoot, content: bytes, *, check: bool = False) -> PositionHint:
    """Take a hint in: checked, then written in one piece where the flight software looks for it.

    Args:
        content: the envelope.
        check: only check.

    Raises:
        PositionHintError: with the reason; nothing was written.
        OSError: the storage failed.
    """
    envelope = Envelope.parse(content)
    with exclusive(root):
        try:
            hint, signer = _check(root, envelope, floor=_last_sequence(root))
        except PositionHintError as exc:
            if not check:
                _audit(root, "hint-refused", {"reason": exc.details.get("reason")})
            raise
        if check:
            return hint
        os.makedirs(root.join(FOLDER), mode=0o755, exist_ok=True)
        write_atomically(root.join(FOLDER, HINT_NAME), envelope.to_bytes())
        _audit(root, "hint", {**_facts(hint), "signer": signer})
    return hint


def take_hint(root: CacheRoot) -> Optional[Dict[str, Any]]:
    """The flight software's side: the newest hint where it may count, acknowledged; None where there is nothing new.

    A hint that may not count is acknowledged as refused, so that the operator learns why, and moves no sequence; one
    that was answered before is passed over in silence.

    Returns:
        lat_deg, lon_deg, radius_m, sequence, and `windows`: how many of the index lie within, None without an index.

    Raises:
        PositionHintError: the new hint is refused.
        OSError: the storage failed.
    """
    envelope = _held(root)
    if envelope is None:
        return None
    floor, digest = _taken_sequence(root), _digest(envelope)
    if _ack(root).get("hint_sha256") == digest:
        return None
    try:
        hint, signer = _check(root, envelope, floor=floor)
    except PositionHintError as exc:
        _acknowledge(root, digest, sequence=floor, status="refused", reason=str(exc.details.get("reason")))
        raise
    windows = count_windows(root, hint)
    _acknowledge(root, digest, sequence=hint.sequence, status="accepted", windows=windows)
    return {**_facts(hint), "windows": windows, "signer": signer}


def _facts(hint: PositionHint) -> Dict[str, Any]:
    return {
        "sequence": hint.sequence,
        "lat_deg": hint.lat_deg,
        "lon_deg": hint.lon_deg,
        "radius_m": hint.radius_m,
        "run_id": hint.run_id,
    }


def _acknowledge(
    root: CacheRoot,
    digest: str,
    *,
    sequence: int,
    status: str,
    reason: Optional[str] = None,
    windows: Optional[int] = None,
) -> None:
    ack = {
        "schema_version": 1,
        "sequence": sequence,
        "hint_sha256": digest,
        "status": status,
        "reason": reason,
        "windows": windows,
        "boottime_s": round(_boot_clock_s(), 3),
    }
    write_atomically(root.join(FOLDER, ACK_NAME), json.dumps(ack, sort_keys=True).encode() + b"\n")
    with exclusive(root):
        _audit(root, "hint-" + status, {"sequence": sequence, "reason": reason, "windows": windows})


def wait_for_ack(root: CacheRoot, content: bytes, *, timeout_s: float) -> Optional[Dict[str, Any]]:
    """What the flight software said of exactly this hint; None where it said nothing in time."""
    digest = _digest(Envelope.parse(content))
    deadline = time.monotonic() + timeout_s
    while True:
        ack = _ack(root)
        if ack.get("hint_sha256") == digest:
            return ack
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL_S)


def _digest(envelope: Envelope) -> str:
    return hashlib.sha256(envelope.text.encode()).hexdigest()


def _audit(root: CacheRoot, event: str, facts: Dict[str, Any]) -> None:
    append_audit(root.join("audit.ndjson"), {"event": event, "at": round(time.time(), 3), **facts})
