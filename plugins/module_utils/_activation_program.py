# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`gps-denied-cache`: seal, activate, roll back and collect garbage from a shell on the companion.

Runs on the companion: standard library only, Python 3.8. The playbooks use the modules of the same verbs; this program
is for hands, and for the tests that kill it while it works. `activate` prints `ACK <generation>` as its last line.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Dict, List, Optional

from ._activation import activate
from ._activation_garbage import collect_garbage
from ._activation_lock import check_token, exclusive
from ._activation_rollback import roll_back
from ._activation_seal import seal_build
from ._activation_state import DEFAULT_ROOT, CacheRoot
from ._errors import CacheBuildError
from ._generation_faults import Reason, reason_of, refuse
from ._generation_info import describe_cache

__all__ = ["main"]

MAX_TEXT_BYTES = 64 * 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gps-denied-cache", description="Work on the cache of this companion.")
    parser.add_argument("--root", default=DEFAULT_ROOT, help="the cache's folder (default %(default)s)")
    parser.add_argument(
        "--trust-dir", help="folder with vehicle_id, allowed_signers, revoked_keys (default: ROOT/trust)"
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("info", help="what is here, as JSON")
    sealing = verbs.add_parser("seal", help="make a finished build final")
    sealing.add_argument("source")
    activation = verbs.add_parser("activate", help="make a sealed build the current cache")
    activation.add_argument("sealed")
    rolling = verbs.add_parser("rollback", help="activate old content under a newly signed grant")
    rolling.add_argument("generation")
    for verb in (activation, rolling):
        verb.add_argument("--grant", required=True, metavar="FILE")
        verb.add_argument("--signature", metavar="FILE")
    for verb in (sealing, activation, rolling):
        verb.add_argument("--run-id", default="by-hand")
        verb.add_argument("--token", type=int)
    verbs.add_parser("collect-garbage", help="remove generations that nobody needs")
    return parser


def _read(path: Optional[str]) -> Optional[bytes]:
    if path is None:
        return None
    try:
        with open(path, "rb") as stream:
            return stream.read(MAX_TEXT_BYTES)
    except OSError as exc:
        raise refuse(Reason.GRANT_MISSING, f"{path} cannot be read: {exc.strerror}") from None


def _perform(options: Any) -> str:
    root = CacheRoot(options.root, options.trust_dir)
    if options.verb == "info":
        return json.dumps(describe_cache(root), indent=1, sort_keys=True)
    if options.verb == "seal":
        sealed: Dict[str, Any] = seal_build(
            root,
            source=options.source,
            archive=None,
            request_text=None,
            report_text=None,
            run_id=options.run_id,
            token=options.token,
        )[1]
        return json.dumps(sealed, sort_keys=True)
    if options.verb == "collect-garbage":
        with exclusive(root):
            check_token(root, "collect-garbage", None)
            return "\n".join(f"removed {name}" for name in collect_garbage(root)) or "nothing to remove"
    common: Dict[str, Any] = {
        "run_id": options.run_id,
        "token": options.token,
        "grant_text": _read(options.grant) or b"",
        "signature": _read(options.signature),
    }
    if options.verb == "rollback":
        done = roll_back(root, generation=options.generation, **common)
    else:
        done = activate(root, sealed_path=options.sealed, **common)
    return f"ACK {done.generation}"


def main(arguments: Optional[List[str]] = None) -> int:
    """Act, and tell the outcome in one line; exit 0 where it was done."""
    options = _parser().parse_args(arguments)
    try:
        sys.stdout.write(_perform(options) + "\n")
        sys.stdout.flush()
    except CacheBuildError as exc:
        said = exc.message.encode("unicode_escape").decode("ascii")
        sys.stderr.write(f"REFUSED {reason_of(exc).value}: {said}\n")
        return 1
    except OSError as exc:
        sys.stderr.write(f"REFUSED {Reason.STORAGE.value}: {exc}\n")
        return 1
    return 0
