# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _tile_store_index
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import BuildLockHeldError, DownloadError
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore


def test_a_damaged_index_is_said(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DownloadError, match="the index of the tile store .* is damaged"):
        TileStore(tmp_path)


def test_a_store_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    TileStore(tmp_path).close()
    database = sqlite3.connect(tmp_path / "index.sqlite")
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(DownloadError, match="schema version 99"):
        TileStore(tmp_path)


def test_whoever_has_it_alone_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TileStore(tmp_path), pytest.raises(BuildLockHeldError, match="in use: a run has it open"):
        TileStore(tmp_path, alone=True)
    monkeypatch.setattr(_tile_store_index, "BUSY_TIMEOUT_S", 0.0)
    with TileStore(tmp_path, alone=True), pytest.raises(BuildLockHeldError, match="it is being made smaller"):
        TileStore(tmp_path)
