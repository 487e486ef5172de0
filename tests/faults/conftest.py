# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the fault tests: a disk whose power can be cut, and the companion's programs as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._cache_program import install_programs
from power import LoopDisk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    """A small ext4 on a loop device; fails, with what is missing, where it cannot be made."""
    found = LoopDisk.create(tmp_path)
    yield found
    found.remove()


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with gps-denied-verify, gps-denied-cache and the shell check."""
    folder = tmp_path_factory.mktemp("programs")
    install_programs(str(folder))
    return folder / "bin"
