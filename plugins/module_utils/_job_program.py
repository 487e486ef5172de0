# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the companion: Python 3.8, standard library only.

One long job that outlives the link. `_job_bundle` makes one text out of this file and its neighbours `_job_*.py`,
`_remote_job` sends that and calls it through a shell command:

    start      make the job's folder, keep this program in it, and launch `supervise` in a unit or session of its own
    supervise  run the command, copy its output to size-capped logs, enforce the limits, leave no process behind
    follow     wait for output from a byte offset on, and answer; once, or again and again for a while
    cancel     end the job with everything it started, and say whether it is gone
    clean      remove the folder of a job that has ended

An answer is one line, `ANSWER_MARK` and JSON, so that banners of the shell before it do no harm.
"""

from __future__ import annotations

import os
import sys
import time

from ._job_folder import JobError, lock_file, read_json, state_of, supervisor_pid, touch
from ._job_launch import install_and_start, stop_unit
from ._job_poll import VERSION, follow
from ._job_processes import marked, signal_all
from ._job_supervisor import Supervisor

__all__ = ["ANSWER_MARK", "main", "main_sent"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

ANSWER_MARK = "GPS-DENIED-JOB "
CANCEL_WAIT_S = 5.0
"""Longer than a supervisor takes between SIGTERM and SIGKILL."""


def cancel(folder: str) -> Dict[str, Any]:
    """End the job: ask the supervisor, then the unit, then everything that carries the run's mark."""
    spec = read_json(os.path.join(folder, "spec.json"))
    if spec is None:
        return {"state": "absent", "empty": True}
    lock = lock_file(os.path.join(folder, "start.lock"), wait=True)  # A start that is under way comes first.
    if lock is not None:
        os.close(lock)
    deadline = time.monotonic() + CANCEL_WAIT_S
    pid = supervisor_pid(folder)
    if pid:
        touch(os.path.join(folder, "cancel"))
        signal_all([pid], 15)
    while supervisor_pid(folder) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    stop_unit(spec["unit"], spec.get("mode"))
    run_id = spec["run_id"]
    deadline = time.monotonic() + 3.0
    left = marked(run_id)
    while left and time.monotonic() < deadline:
        signal_all(left, 9)
        time.sleep(0.02)
        left = marked(run_id)
    return {"state": state_of(folder)[0], "empty": not left, "left": len(left)}


def clean(folder: str) -> Dict[str, Any]:
    """Remove the folder; a job that runs keeps it."""
    import shutil

    if supervisor_pid(folder) is not None:
        raise JobError("the job still runs")
    if os.path.islink(folder):
        raise JobError("%s is a link" % folder)
    if os.path.isdir(folder):
        shutil.rmtree(folder)
    return {"state": "absent"}


def answer(text: str) -> None:
    """Written at once and past Python's buffers, which would complain at the end of a program that nobody hears."""
    view = memoryview((ANSWER_MARK + text + "\n").encode())
    while view:
        view = view[os.write(1, view) :]


def answer_with(act: Any) -> int:
    """Answer with what `act` returns, or with the reason why it could not."""
    import json

    try:
        value = act()
    except JobError as exc:
        value = {"error": str(exc)}
    except (OSError, ValueError, KeyError) as exc:
        value = {"error": "%s: %s" % (type(exc).__name__, exc)}
    answer(json.dumps(dict(value, v=VERSION)))
    return 0


def main(arguments: List[str]) -> int:
    """`supervise FOLDER`, or `follow FOLDER OUT ERR WAIT_S GATHER_S FOR_S`."""
    verb, folder = arguments[:2]
    if verb == "supervise":
        Supervisor(folder).run()
        return 0
    out, err = (int(word) for word in arguments[2:4])
    wait_s, gather_s, for_s = (float(word) for word in arguments[4:7])
    try:
        follow(folder, out=out, err=err, wait_s=wait_s, gather_s=gather_s, for_s=for_s, say=answer)
    except BrokenPipeError:
        return 1  # Nobody listens any more.
    except OSError as exc:
        problem = exc
        return answer_with(lambda: {"error": "%s: %s" % (type(problem).__name__, problem)})
    return 0


def main_sent(data: bytes) -> int:
    """Called with what came on standard input: one line of JSON with the verb, then this program's text."""
    import json

    head, _newline, source = data.partition(b"\n")
    request = json.loads(head.decode("utf-8"))
    verb, folder = request.pop("verb"), request["folder"]
    if verb == "start":
        return answer_with(lambda: install_and_start(request, source))
    return answer_with(lambda: cancel(folder) if verb == "cancel" else clean(folder))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
