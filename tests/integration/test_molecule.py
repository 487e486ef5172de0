# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""Each molecule scenario, as a person runs it, with a private home for Ansible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path.parent.name for path in REPO.glob("extensions/molecule/*/molecule.yml"))


@pytest.fixture
def ansible_home() -> Iterator[Path]:
    """A short path: sockets of open connections lie below it, and the kernel allows them 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="mol-"))
    yield folder
    shutil.rmtree(folder)


def test_there_is_a_scenario_for_each_promise() -> None:
    assert SCENARIOS == ["default", "enrol", "fleet", "full_disk", "landing", "provision", "reloc", "untrusted"]


@pytest.mark.timeout(420)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_scenario_passes(scenario: str, companion_image: str, ansible_home: Path) -> None:
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_", "GPS_DENIED_"))
    }
    environment = {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_HOME": str(ansible_home),
        "XDG_CACHE_HOME": str(ansible_home / "cache"),
        "MOLECULE_COMMAND_BORDERS": "false",
        "NO_COLOR": "1",
        "GPS_DENIED_TEST_OWNER": str(os.getpid()),
    }
    if "GPS_DENIED_TEST_CACHE" in os.environ:
        environment["GPS_DENIED_TEST_CACHE"] = os.environ["GPS_DENIED_TEST_CACHE"]
    done = subprocess.run(
        ["molecule", "test", "--scenario-name", scenario],
        cwd=REPO,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
