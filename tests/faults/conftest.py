# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the fault tests: a disk whose power can be cut, and the companion's programs as files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._cache_program import install_programs
from companion_failures import DISK_BYTES, CompanionOnDisk, start_on_disk
from companions import podman
from power import LoopDisk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    """A small ext4 on a loop device; fails, with what is missing, where it cannot be made."""
    found = LoopDisk.create(tmp_path)
    yield found
    found.remove()


@pytest.fixture
def companion_on_disk(companion_image: str, tmp_path: Path) -> Iterator[CompanionOnDisk]:
    """A provisioned companion `vehicle-01` whose cache is on a disk of its own, with an older cache current."""
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = LoopDisk.create(folder, size_bytes=DISK_BYTES)
    container = f"gps-denied-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        companion = start_on_disk(
            "vehicle-01", container=container, image=companion_image, folder=tmp_path / "companions", disk=disk
        )
        yield companion
    finally:
        podman("rm", "--force", "--ignore", "--time", "0", container)
        disk.remove()


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with gps-denied-verify, gps-denied-cache and the shell check."""
    folder = tmp_path_factory.mktemp("programs")
    install_programs(str(folder))
    return folder / "bin"
