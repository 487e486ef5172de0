# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""What the adapter to ansible-runner does when somebody is killed."""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._progress import ProgressSink

from operator_tool._progress_socket import progress_socket
from operator_tool._runner import private_folder
from operator_tool._worker_watch import PATIENCE_S, WorkerWatch, living_workers


def test_the_private_folder_is_the_users_own_and_goes_with_its_use() -> None:
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "secret").touch()
    assert not folder.exists()


def test_the_private_folder_goes_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import time\nfrom operator_tool import _runner\n"
        "with _runner.private_folder() as folder:\n (folder / 'secret').touch()\n"
        " print(folder, flush=True)\n time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XDG_RUNTIME_DIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as driver:
        assert driver.stdout is not None
        folder = Path(driver.stdout.readline().strip())
        assert (folder / "secret").exists()
        (tidier,) = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
        gone = os.pidfd_open(int(tidier))
        driver.kill()
    assert select.select([gone], [], [], 30.0)[0]
    os.close(gone)
    assert not folder.exists()


def event(name: str, host: str) -> dict[str, object]:
    return {"event": name, "event_data": {"host": host, "task_uuid": "1"}}


@pytest.fixture
def playbook() -> subprocess.Popen[str]:
    """A process with two forks of its own, whose pids it prints."""
    code = (
        "import os, time\nfor _ in range(2):\n pid = os.fork()\n if not pid: time.sleep(60)\n print(pid, flush=True)\n"
        "time.sleep(60)"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_killed_worker_is_missed_once_it_has_been_gone_for_a_while(playbook: subprocess.Popen[str]) -> None:
    now = [0.0]
    watch = WorkerWatch(clock=lambda: now[0])
    with playbook:
        assert playbook.stdout is not None
        first, second = (int(playbook.stdout.readline()) for _ in range(2))
        for host in ("one", "two"):
            watch.take(event("runner_on_start", host))
        assert not watch.one_is_lost(playbook.pid)
        os.kill(first, signal.SIGKILL)
        while living_workers(playbook.pid) == 2:
            pass
        now[0] = 1.0
        assert not watch.one_is_lost(playbook.pid)
        now[0] = 1.0 + PATIENCE_S / 2
        watch.take(event("runner_on_ok", "one"))
        assert not watch.one_is_lost(playbook.pid)
        watch.take(event("runner_on_start", "one"))
        assert not watch.one_is_lost(playbook.pid)
        now[0] += PATIENCE_S + 1.0
        assert watch.one_is_lost(playbook.pid)
        playbook.kill()
    os.kill(second, signal.SIGKILL)


def test_who_is_gone_has_no_workers() -> None:
    assert living_workers(2**22 + 1) == 0


def test_progress_arrives_however_long_the_folders_name_is(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    arrived: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    with progress_socket(folder, arrived.put) as path:
        sink = ProgressSink(run_id="r", run_dir=str(tmp_path), socket_path=str(path), display=print, redact=str)
        sink.emit("progress", done=1)
        sink.emit("progress", done=2)
    assert [arrived.get(timeout=10)["done"] for _unused in range(2)] == [1, 2]
