# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run leaves on a companion when it ends, however it ends: no job, no folder of its own, no lock."""

from __future__ import annotations

import time
from typing import Any, Dict, Optional

from ..module_utils._errors import BuildLockHeldError, CacheActivateError, CacheBuildError
from ..module_utils._remote_job import ConnectionLost, RemoteJob
from ..module_utils._run import Run
from ._companion_action import CompanionAction
from ._job_spec import job_spec

__all__ = ["clean_up_companion"]

LOOKS = 5
LOOK_AGAIN_S = 0.5


def clean_up_companion(
    action: CompanionAction, run: Run, task_vars: Dict[str, Any], *, still_at_work: bool = False
) -> bool:
    """Best effort: a companion that has gone away is not made to fail twice; its next run clears the same folders.

    Args:
        still_at_work: the run has not been stopped before, so that the lock is its own.

    Returns:
        Whether there was anything to do: a run that never had the companion's lock has left nothing there.
    """
    facts = action.facts_of(run)
    if not facts.get("lock_asked") or facts.get("lock_released"):
        return False
    root = run.config.companion_cache_root
    run_ids = {run.run_id, str(facts.get("job_run_id") or run.run_id)}
    folders = [f"{root}/{kind}/{run_id}" for kind in ("work", "jobs") for run_id in sorted(run_ids)]
    if facts.get("outcome") == "success":
        # Whole: what failed runs of other flights have left is as good as stale now, and the lock is held.
        folders.append(f"{root}/incoming")
    stopped = facts.get("outcome") is None and not still_at_work
    try:
        token = facts.get("lock_token")
        if stopped:
            token = _token_still_held(action, run, token, task_vars)
            if token is None:
                return False
        for _look in range(LOOKS):
            for run_id in sorted(run_ids):
                spec = job_spec(run.config, run_id)
                if action.command("test", "-e", f"{spec.folder}/spec.json").rc == 0:
                    # It ended, or its run was stopped: nothing of it may write on while its folder goes.
                    RemoteJob(action.job_transport, spec, python=action.companion_python(task_vars)).cancel()
            action.command("rm", "-rf", "--", *folders)
            if not stopped:
                break
            # A job that was just being started may come up behind our back.
            time.sleep(LOOK_AGAIN_S)
            if not action.command("ls", "-d", "--", *folders).stdout.strip():
                break
        lock = {"root": root, "run_id": run.run_id, "token": token, "state": "released"}
        action.module("cache_lock", lock, task_vars)
        run.journal.record("fact", host=action.host, lock_released=True)
    except (CacheBuildError, ConnectionLost) as exc:
        run.journal.record("warning", host=action.host, text=f"could not clean up on {action.host}: {exc}")
    return True


def _token_still_held(
    action: CompanionAction, run: Run, token: Optional[int], task_vars: Dict[str, Any]
) -> Optional[int]:
    """The token of a run that was stopped in mid-work; None where another run has come, or all is tidied up already.

    The next run may go on with this one's build: from then on nothing of it is this run's to end. A run that was
    stopped while it took the lock does not know its token; asking again as nobody's successor tells it.
    """
    lock: Dict[str, Any] = {"root": run.config.companion_cache_root, "run_id": run.run_id}
    if token is None:
        lock.update(state="acquired", holder=f"the end of run {run.run_id}", owner=f"the end of run {run.run_id}")
    else:
        lock.update(state="renewed", token=token)
    try:
        return int(action.module("cache_lock", lock, task_vars)["cache"]["token"])
    except (CacheActivateError, BuildLockHeldError):
        return None
