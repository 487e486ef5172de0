# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the whole suite: companions in containers, and the examples."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE / name) for name in ("companion", "fixtures", "faults")]

import companions as containers  # noqa: E402
from shared_data import SHARED_DATA  # noqa: E402

from operator_tool import _runner  # noqa: E402

__all__ = ["SHARED_DATA"]

if "COVERAGE_PROCESS_CONFIG" in os.environ:
    # The driver hands on what is listed alone: without this, `make coverage` would not see the plugins that it runs.
    _runner.PASSED_ON = (*_runner.PASSED_ON, "COVERAGE_PROCESS_CONFIG")

REPO = _HERE.parent
_COUNTER = itertools.count(1)
_PROGRAMS = ("podman", "runc", "mmdebstrap", "rsync", "ssh", "ssh-keygen", "nsenter", "ip")

CompanionFactory = Callable[..., containers.Companion]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the companions' images before the first test, outside the time limit of a test."""
    wants_companions = any("companion_image" in getattr(item, "fixturenames", ()) for item in session.items)
    if not wants_companions or session.config.option.collectonly:
        return
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        packages = (_HERE / "apt-packages.txt").read_text(encoding="utf-8").split()
        reason = f"{', '.join(missing)} missing" if missing else "not root"
        pytest.exit(
            f"tests with companions in containers cannot run ({reason}); as root: apt-get install {' '.join(packages)}",
            returncode=3,
        )
    containers.remove_abandoned()
    containers.provisioned_image()


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def companion_image() -> str:
    """The image of a provisioned companion."""
    return containers.provisioned_image()


@pytest.fixture
def make_companion(companion_image: str, tmp_path: Path) -> Iterator[CompanionFactory]:
    """Start companions; they are removed after the test.

    `make_companion("vehicle-02")` gives another provisioned one with the same key and known_hosts file;
    `bare=True` one without account and builder, whose user is its administrator.
    """
    started: list[containers.Companion] = []

    def make(name: str = "vehicle-01", *, bare: bool = False) -> containers.Companion:
        companion = containers.start_companion(
            name,
            container=f"gps-denied-{os.getpid()}-{next(_COUNTER)}",
            image=containers.bare_image() if bare else companion_image,
            folder=tmp_path / "companions",
            user=containers.ADMIN_USER if bare else containers.CACHE_USER,
        )
        started.append(companion)
        return companion

    yield make
    for companion in started:
        companion.remove()


@pytest.fixture
def companion(make_companion: CompanionFactory) -> containers.Companion:
    """One provisioned companion, fresh, under the vehicle id `vehicle-01`."""
    return make_companion()
