# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`gps-denied-verify`: the check at take-off as a program, with an exit code and a valid-until file for autopilots.

Runs on the companion: standard library only, Python 3.8. Exit 0 is GO; everything else is NO-GO: 1 with a reason code,
2 for wrong usage, and whatever the system says where the program was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from dataclasses import asdict
from typing import List, Optional

from ._activation_state import DEFAULT_ROOT, CacheRoot
from ._atomic_file import write_atomically
from ._generation_faults import Reason
from ._grant import parse_time
from ._takeoff_check import TakeoffAnswer, TakeoffQuestion, check_cache

__all__ = ["main", "write_valid_until"]

GO, NO_GO = 0, 1
DEFAULT_HOLD_S = 900.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gps-denied-verify",
        description="May this vehicle take off with the cache it has? Exit 0: GO. Exit 1: NO-GO, with a reason code.",
    )
    add = parser.add_argument
    add("--root", default=DEFAULT_ROOT, help="the cache's folder (default %(default)s)")
    add("--trust-dir", help="folder with vehicle_id, allowed_signers, revoked_keys (default: ROOT/trust)")
    add("--flight", metavar="ID", help="the flight that the grant must be for")
    add("--vehicle", metavar="ID", help="the vehicle that this must be")
    add("--content-id", metavar="SHA256", help="the content that must be active")
    add("--route", metavar="FILE", help="GeoJSON or QGC WPL 110: every tile under the route must be in the cache")
    add("--fast", action="store_true", help="kinds, names and sizes of all files, bytes of the small ones only")
    add(
        "--time", type=float, metavar="EPOCH_S", help="judge by this time (a satellite receiver's) instead of the clock"
    )
    add("--valid-until", metavar="FILE", help="on GO write here until when it holds; on NO-GO remove the file")
    add("--hold-s", type=float, default=DEFAULT_HOLD_S, help="for how long a GO holds at most (default %(default)s)")
    add("--json", action="store_true", help="answer with one JSON object")
    return parser


def write_valid_until(path: str, answer: TakeoffAnswer, *, now_epoch_s: float, hold_s: float) -> None:
    """With GO, one line: seconds since the epoch, generation, flight. With NO-GO, no file.

    Raises:
        OSError: the file could not be made durable, or not be removed.
    """
    if not answer.go:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    until = now_epoch_s + hold_s
    if answer.valid_until is not None:
        until = min(until, parse_time(answer.valid_until))
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    write_atomically(path, f"{int(until)} {answer.generation} {answer.flight_id}\n".encode())


def _line(answer: TakeoffAnswer) -> str:
    if answer.go:
        who = f"flight {answer.flight_id} vehicle {answer.vehicle_id}"
        text = f"GO {answer.generation} {who} until {answer.valid_until}"
    else:
        text = f"NO-GO {answer.reason}: {answer.message}"
    # Names come from files and callers: nothing of them may steer a terminal or forge a second line.
    return text.encode("unicode_escape").decode("ascii")


def main(arguments: Optional[List[str]] = None) -> int:
    """Ask, write, and give the exit code."""
    options = _parser().parse_args(arguments)
    question = TakeoffQuestion(
        content_id=options.content_id,
        vehicle_id=options.vehicle,
        flight_id=options.flight,
        full=not options.fast,
        route_path=options.route,
        now_epoch_s=options.time,
    )
    try:
        answer = check_cache(CacheRoot(options.root, options.trust_dir), question)
        if options.valid_until:
            now = time.time() if options.time is None else options.time
            write_valid_until(options.valid_until, answer, now_epoch_s=now, hold_s=options.hold_s)
    except Exception as exc:  # noqa: BLE001 -- a defect of the verifier must read as NO-GO, and never as a traceback
        answer = TakeoffAnswer(
            go=False,
            mode="fast" if options.fast else "full",
            reason=Reason.VERIFIER_FAILED.value,
            message=f"{type(exc).__name__}: {exc}",
        )
        if options.valid_until:
            with contextlib.suppress(OSError):
                os.unlink(options.valid_until)
    text = json.dumps(asdict(answer), sort_keys=True) if options.json else _line(answer)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError:
        return NO_GO
    return GO if answer.go else NO_GO
