# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The companion's side of the first look: versions, machine, and every place that a run writes to. It writes nothing.

Travels through standard input, so that it needs no temporary folder itself; answers one line of JSON behind the mark
that it is given. Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any, Dict, List

# run_command belongs to modules; this travels without them.
# pylint: disable=ansible-bad-function

__all__ = ["look", "main"]

WORD_BYTES = 4096
WORD_S = 20.0
TEMPORARY = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108 - where Python itself looks


def _place(path: str) -> Dict[str, Any]:
    """The folder itself, or the nearest one above that is there; -1 inodes where there is no such limit."""
    at = os.path.abspath(path)
    while not os.path.isdir(at) and at != "/":
        at = os.path.dirname(at)
    found = os.statvfs(at)
    return {
        "path": path,
        "at": at,
        "device": os.stat(at).st_dev,
        "read_only": bool(found.f_flag & os.ST_RDONLY),
        "writable": os.access(at, os.W_OK | os.X_OK),
        "free_bytes": found.f_bavail * found.f_frsize,
        "free_inodes": found.f_favail if found.f_files else -1,
    }


def _temporary() -> List[Dict[str, Any]]:
    """The folders for temporary files that are there, in the order in which Python tries them."""
    named = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    return [_place(path) for path in (*named, *TEMPORARY) if path and os.path.isdir(path)]


def _version(program: str) -> Dict[str, Any]:
    """What a program says of its version: bounded in time and length, whatever it does."""
    path = shutil.which(program)
    if path is None:
        return {"path": None}
    try:
        process = subprocess.Popen(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as exc:
        # The interpreter that its first line names may be the one that is missing.
        return {"path": path, "rc": 126, "said": str(exc.strerror)}
    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(WORD_S, end)
    timer.daemon = True
    timer.start()
    try:
        said = process.stdout.read(WORD_BYTES) if process.stdout else b""
        if len(said) == WORD_BYTES:
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    finally:
        timer.cancel()
    return {"path": path, "rc": 124 if overdue.is_set() else code, "said": said.decode("utf-8", "replace")}


def look(request: Dict[str, Any]) -> Dict[str, Any]:
    """The facts; `request` names the cache root and the programs to ask."""
    root = str(request["root"])
    return {
        "python_version": platform.python_version(),
        "machine": platform.machine(),
        "programs": {name: _version(name) for name in request["programs"]},
        "places": [_place(os.path.join(root, name)) for name in request["folders"]],
        "temporary": _temporary(),
    }


def main(request: Dict[str, Any]) -> None:
    """Look, and answer."""
    sys.stdout.write("\n%s%s\n" % (request["mark"], json.dumps(look(request))))
