# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A driver that is killed with -9 outside the build: its companion is free for another workstation, over SSH."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import ExitCode
from companion_failures import CompanionOnDisk
from pipeline_kills import Kill, Pipeline

from operator_tool._runner import TIDY_S


@pytest.fixture
def workstations(companion_on_disk: CompanionOnDisk) -> Iterator[tuple[Pipeline, Pipeline]]:
    """Two of them, and one companion."""
    with tempfile.TemporaryDirectory(prefix="a-") as one, tempfile.TemporaryDirectory(prefix="b-") as two:
        pair = Pipeline(companion_on_disk, Path(one)), Pipeline(companion_on_disk, Path(two))
        for workstation in pair:
            workstation.reset()
        yield pair


def killed_in(workstation: Pipeline, phase: str, *, tidier_too: bool = False) -> None:
    """Begin a run, and kill its driver with -9 as soon as the phase has begun; it was not done before that."""
    driver = workstation.begin()
    if tidier_too:
        for pid in shells_of(driver):
            os.kill(pid, signal.SIGKILL)
    assert workstation.kill(driver, Kill("driver", phase)) == [driver.pid]
    assert workstation.end(driver).status == -signal.SIGKILL
    assert workstation.phases()[-1] == phase


def shells_of(driver: subprocess.Popen[bytes]) -> list[int]:
    """The shells that would tidy up after the driver."""
    while True:
        children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
        found = [int(pid) for pid in children if b"_after_kill" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if found:
            return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("phase", ["companion_bringup", "sync", "activate"])
def test_another_workstation_gets_the_companion(workstations: tuple[Pipeline, Pipeline], phase: str) -> None:
    one, two = workstations
    killed_in(one, phase)
    assert one.settled(lambda: one.left_of_the_build() + one.left_running(), within_s=TIDY_S) == []
    if phase == "activate":
        assert two.run().status == ExitCode.SUCCESS


@pytest.mark.timeout(300)
def test_without_what_tidies_up_the_companion_stays_locked(workstations: tuple[Pipeline, Pipeline]) -> None:
    """Positive control: the lock is there, and is respected."""
    one, two = workstations
    killed_in(one, "sync", tidier_too=True)
    assert one.settled(one.left_of_the_build, within_s=1.0) != []
    ended = two.run()
    assert ended.report is not None
    assert ended.report["failure_exception_type"] == "BuildLockHeldError"
