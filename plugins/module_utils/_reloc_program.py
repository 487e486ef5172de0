# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`gps-denied-hint`: position hints on the companion, from a shell.

Runs on the companion: standard library only, Python 3.8. `status` and `put` are what the workstation calls, over a link
that may carry a kilobyte a second; `take` is how flight software reads a hint and acknowledges it, and with `--follow`
a whole reader. Each answers with one line of JSON; exit 1 is a refusal, with `reason` and `message`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any, Dict, List, Optional

from ._activation_state import DEFAULT_ROOT, CacheRoot
from ._errors import CacheBuildError
from ._reloc_hint import MAX_ENVELOPE_BYTES
from ._reloc_spool import describe_hints, put_hint, take_hint, wait_for_ack

__all__ = ["main"]

FOLLOW_S = 0.1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gps-denied-hint", description="Position hints for this companion.")
    parser.add_argument("--root", default=DEFAULT_ROOT, help="the cache's folder (default %(default)s)")
    parser.add_argument("--trust-dir", help="folder with vehicle_id, allowed_signers (default: ROOT/trust)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("status", help="what a hint for this companion must fit")
    putting = verbs.add_parser("put", help="take in the hint on standard input, and wait for its acknowledgement")
    putting.add_argument("--wait", type=float, default=0.0, metavar="SECONDS")
    putting.add_argument("--check", action="store_true", help="check the hint, and write nothing")
    taking = verbs.add_parser("take", help="read the newest hint and acknowledge it, as flight software does")
    taking.add_argument("--follow", action="store_true", help="go on with every new hint")
    return parser


def _say(answer: Dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer, sort_keys=True, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _refusal(exc: Exception) -> Dict[str, Any]:
    if isinstance(exc, CacheBuildError):
        return {"reason": exc.details.get("reason"), "message": exc.message}
    return {"reason": "storage-failed", "message": str(exc)}


def _put(root: CacheRoot, options: Any) -> Dict[str, Any]:
    content = sys.stdin.buffer.read(MAX_ENVELOPE_BYTES + 1)
    hint = put_hint(root, content, check=options.check)
    ack = None if options.check else wait_for_ack(root, content, timeout_s=options.wait)
    return {"sequence": hint.sequence, "written": not options.check, "ack": ack}


def main(arguments: Optional[List[str]] = None) -> int:
    """Act, and answer in one line; exit 0 where it was done."""
    options = _parser().parse_args(arguments)
    root = CacheRoot(options.root, options.trust_dir)
    while True:
        try:
            if options.verb == "status":
                _say(describe_hints(root))
            elif options.verb == "put":
                _say(_put(root, options))
            else:
                taken = take_hint(root)
                if taken is not None or not options.follow:
                    _say({"hint": taken})
        except (CacheBuildError, OSError) as exc:
            _say(_refusal(exc))
            if options.verb != "take" or not options.follow:
                return 1
        if options.verb != "take" or not options.follow:
            return 0
        time.sleep(FOLLOW_S)
