# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The check at take-off: may this vehicle fly this flight now with the cache it has? GO or NO-GO, with a reason code.

Runs on the companion: standard library only, Python 3.8, no network. Any doubt is NO-GO.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any, Dict, Optional

from ._activation_state import CacheRoot
from ._errors import CacheBuildError
from ._generation import MAX_REQUEST_BYTES, open_generation, read_manifest, read_small_file, verify_files
from ._generation_faults import Reason, reason_of, refuse
from ._grant import MAX_GRANT_BYTES, Grant, check_grant
from ._ssh_signature import MAX_SIGNATURE_BYTES, verify_signature
from ._takeoff_check_route import check_coverage, read_route

__all__ = ["TakeoffAnswer", "TakeoffQuestion", "check_cache"]


@dataclass(frozen=True)
class TakeoffQuestion:
    """What is asked; None leaves a comparison out.

    `full` hashes every byte; otherwise kinds, names and sizes of all files and the bytes of the small ones.
    `now_epoch_s` replaces the clock, for instance by the satellite receiver's time before it is lost.
    """

    content_id: Optional[str] = None
    vehicle_id: Optional[str] = None
    flight_id: Optional[str] = None
    full: bool = True
    route_path: Optional[str] = None
    now_epoch_s: Optional[float] = None


@dataclass(frozen=True)
class TakeoffAnswer:
    """GO or NO-GO. `reason` and `message` are None with GO; what could be read of the cache is told in both cases."""

    go: bool
    mode: str
    reason: Optional[str] = None
    message: Optional[str] = None
    file: Optional[str] = None
    generation: Optional[str] = None
    content_id: Optional[str] = None
    inputs_id: Optional[str] = None
    counter: Optional[int] = None
    vehicle_id: Optional[str] = None
    flight_id: Optional[str] = None
    valid_until: Optional[str] = None
    signer: Optional[str] = None
    size_bytes: Optional[int] = None
    file_count: Optional[int] = None
    route_tiles: Optional[int] = None


def check_cache(root: CacheRoot, question: TakeoffQuestion) -> TakeoffAnswer:
    """Answer the question; refusals are part of the answer, and only a bug raises."""
    seen: Dict[str, Any] = {"mode": "full" if question.full else "fast"}
    try:
        _check(root, question, seen)
    except CacheBuildError as exc:
        named = exc.details.get("file")
        return TakeoffAnswer(go=False, reason=reason_of(exc).value, message=exc.message, file=named, **seen)
    except OSError as exc:
        return TakeoffAnswer(go=False, reason=Reason.STORAGE.value, message=f"the cache cannot be read: {exc}", **seen)
    return TakeoffAnswer(go=True, **seen)


def _check(root: CacheRoot, question: TakeoffQuestion, seen: Dict[str, Any]) -> None:
    now = time.time() if question.now_epoch_s is None else question.now_epoch_s
    name = root.link_target("current")
    if name is None:
        raise refuse(Reason.NO_CACHE, f"no cache is active under {root.path}")
    seen["generation"], seen["counter"] = str(name), name.counter
    with open_generation(root.path, str(name)) as folder_fd:
        manifest = read_manifest(folder_fd)
        content_id = manifest.content_id
        seen.update(content_id=content_id, size_bytes=manifest.size_bytes, file_count=len(manifest.entries))
        if content_id[:12] != name.content_id12:
            raise refuse(Reason.CURRENT_INVALID, f"the generation {name} holds other content: {content_id[:12]}")
        request = read_small_file(folder_fd, "request.json", max_bytes=MAX_REQUEST_BYTES)
        seen["inputs_id"] = None if request is None else hashlib.sha256(request).hexdigest()
        _check_grant(root, question, seen, folder_fd, now)
        if question.content_id is not None and question.content_id != content_id:
            raise refuse(
                Reason.CONTENT_ID_MISMATCH,
                f"the active cache is {content_id[:12]}, and {question.content_id[:12]} is asked for",
            )
        verify_files(folder_fd, manifest, full=question.full)
        if question.route_path is not None:
            coverage = check_coverage(f"/proc/self/fd/{folder_fd}/tiles.pmtiles", read_route(question.route_path))
            seen["route_tiles"] = coverage.tile_count


def _check_grant(root: CacheRoot, question: TakeoffQuestion, seen: Dict[str, Any], folder_fd: int, now: float) -> None:
    text = read_small_file(folder_fd, "grant.json", max_bytes=MAX_GRANT_BYTES)
    if text is None:
        raise refuse(Reason.GRANT_MISSING, "the active cache has no grant", file="grant.json")
    grant = Grant.parse(text)
    seen.update(vehicle_id=grant.vehicle_id, flight_id=grant.flight_id, valid_until=grant.not_after)
    if root.enrolled():
        signature = read_small_file(folder_fd, "grant.json.sig", max_bytes=MAX_SIGNATURE_BYTES)
        seen["signer"] = verify_signature(text, signature, trust_dir=root.trust_dir, now_epoch_s=now)
    known = root.vehicle_id()
    check_grant(
        grant,
        content_id=str(seen["content_id"]),
        vehicle_id=known or question.vehicle_id,
        flight_id=question.flight_id,
        now_epoch_s=now,
    )
    if known is not None and question.vehicle_id is not None and known != question.vehicle_id:
        raise refuse(Reason.GRANT_VEHICLE, f"this is vehicle {known}, and {question.vehicle_id} is asked for")
    if grant.counter != seen["counter"] or grant.counter < root.counter_floor():
        raise refuse(Reason.GRANT_REPLAYED, f"the grant's counter {grant.counter} is not the newest of this vehicle")
