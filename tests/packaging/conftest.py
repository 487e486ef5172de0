# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection and the wheel, each built once for all tests of packaging."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import hatch_build  # noqa: E402  (the repository's root is on no path)

Run = Callable[[Sequence[str | Path], Path, dict[str, str]], str]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command in a folder with an environment that holds nothing but what is given; return what it prints."""

    def _run(command: Sequence[str | Path], cwd: Path, env: dict[str, str]) -> str:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(cwd), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return _run


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection's tarball."""
    return hatch_build.build_tarball(ROOT, tmp_path_factory.mktemp("tarball"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """The wheel, built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        ROOT,
        {"HOME": str(folder)},
    )
    return next(folder.glob("*.whl"))
