# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""What is left to do for a driver that was killed with -9: `python -m operator_tool._after_kill PRIVATE_FOLDER`.

ansible-playbook ends with its driver; what it held on the companions does not: the lock there is a record, since no
process of ours lives there between two tasks. The driver leaves word of its run in its private folder, and the shell
that removes the folder starts this first. Only a run whose every process has ended is tidied up after, and only as long
as the companion's lock is still its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ._inventory import Inventory

END_S = 5.0
"""Workers that end a build on a companion need a second or two."""
RELEASE_S = 40.0
WORD_FILE = "after_kill.json"


def leave_word(folder: Path, *, run_dir: str, inventory: Inventory, variables: Mapping[str, Any]) -> None:
    """Write down, in the driver's private folder, which run would have to be tidied up after, and on which companions.

    `variables` name files with secrets, and hold none.
    """
    word = {"run_dir": run_dir, "inventory": asdict(inventory), "variables": dict(variables)}
    (folder / WORD_FILE).write_text(json.dumps(word))


def release_companions(folder: Path, *, inventory: Inventory, variables: Mapping[str, Any]) -> None:
    """Free the locks of a run that was stopped in mid-work, and remove its folders on the companions."""
    from ._runner import run_playbook

    place = folder / "release"
    place.mkdir()
    run_playbook("release_companions", private_dir=place, inventory=inventory, variables=variables)


def playbooks_of(folder: Path) -> list[int]:
    """This run's ansible-playbook and its workers: they were given variables in the driver's private folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                if any(word.endswith("/ansible-playbook") for word in words[:2]) and any(
                    f"{folder}/" in word for word in words
                ):
                    found.append(int(entry.name))
    return found


def end_playbooks(folder: Path, *, within_s: float) -> None:
    """Wait until none of them is left; kill those that are left then."""
    deadline = time.monotonic() + within_s
    while pids := playbooks_of(folder):
        late = time.monotonic() >= deadline
        with contextlib.ExitStack() as handles:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    handle = os.pidfd_open(pid)
                    handles.callback(os.close, handle)
                    if late and pid in playbooks_of(folder):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                    select.select([handle], [], [], max(0.1, deadline - time.monotonic()))


def holds_companions(run_dir: str) -> bool:
    """Whether the run may have left something on a companion: its locks are asked for first and given back last."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError
    from ansible_collections.gps_denied.preflight.plugins.module_utils._run import open_run

    if not os.path.isdir(run_dir):
        return False
    try:
        run = open_run(run_dir)
        of_hosts = [run.facts(host=str(host)) for host in run.facts().get("companions") or ()]
    except (CacheBuildError, OSError, ValueError):
        return True
    return any(facts.get("lock_asked") and not facts.get("lock_released") for facts in of_hosts)


@contextlib.contextmanager
def _cancelled_after(limit_s: float) -> Iterator[None]:
    """SIGTERM for this process after a while: the adapter to Ansible takes it as the wish to cancel."""
    timer = threading.Timer(limit_s, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _main() -> None:
    folder = Path(sys.argv[1])
    end_playbooks(folder, within_s=END_S)
    try:
        word = json.loads((folder / WORD_FILE).read_bytes())
    except (OSError, ValueError):
        return
    if not holds_companions(word["run_dir"]):
        return
    with _cancelled_after(RELEASE_S):
        release_companions(folder, inventory=Inventory(**word["inventory"]), variables=word["variables"])


if __name__ == "__main__":
    _main()
