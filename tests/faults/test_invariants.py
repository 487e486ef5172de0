# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checker finds nothing on what is whole, and names what is broken."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileState, TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store_writer import TileRecord
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile
from cache_samples import activate_build
from invariants import companion_faults, run_faults, store_faults


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A companion's cache with a current and a previous generation, at rest."""
    path = tmp_path / "cache"
    for seed in range(3):
        activate_build(CacheRoot(str(path)), seed=seed)
    shutil.rmtree(path / "work")
    return path


def current(root: Path) -> Path:
    return (root / "current").resolve()


def link(root: Path, name: str, target: str) -> None:
    (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(target)


def rewrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


BREAKS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "other bytes": ("I2: current .* other bytes", lambda root: rewrite(current(root) / "index/graph.bin", b"x")),
    "missing file": ("I2: .* is missing", lambda root: (current(root) / "index/graph.bin").unlink()),
    "extra file": ("I2: .* is too much", lambda root: rewrite(touched(current(root) / "index/zz"), b"x")),
    "writable file": ("I2: .* may be written", lambda root: (current(root) / "request.json").chmod(0o644)),
    "link in the cache": ("I2: .* no plain file", lambda root: link(current(root), "index/graph.bin", "/etc/passwd")),
    "no grant": ("I2: current .*grant.json", lambda root: (current(root) / "grant.json").unlink()),
    "torn manifest": ("I2: .*manifest says", lambda root: rewrite(current(root) / "MANIFEST", b"torn")),
    "grant for other content": ("I2: .*grant is for 3 00", lambda root: other_grant(current(root) / "grant.json")),
    "current elsewhere": ("I2: current points to /etc", lambda root: link(root, "current", "/etc")),
    "current a folder": ("I2: current is no link", lambda root: folder_instead(root / "current")),
    "current gone": ("I2: there is a previous cache", lambda root: (root / "current").unlink()),
    "turned back": ("I1: .* counter 3 was used", lambda root: link(root, "current", os.readlink(root / "previous"))),
    "audit cut": ("I10: line 1 of", lambda root: without_line(root / "audit.ndjson", 0)),
    "order": ("I6: activations are out of order", lambda root: turned_round(root / "audit.ndjson")),
    "foreign file": ("I12: payload does not belong", lambda root: touched(root / "payload")),
    "for everybody": ("I12: everybody may write jobs", lambda root: (root / "jobs").chmod(0o777)),
    "work": ("I9: work/run is left", lambda root: (root / "work/run").mkdir(parents=True)),
    "trash": ("I9: .trash/x is left", lambda root: touched(root / ".trash/x")),
    "half written": ("I9: .tmp-counter is left", lambda root: touched(root / ".tmp-counter")),
    "nobody's": ("I9: .* is nobody's", lambda root: (root / "generations/00000009-0123456789ab").mkdir()),
}


def touched(path: Path) -> Path:
    path.touch()
    return path


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def other_grant(path: Path) -> None:
    rewrite(path, json.dumps({**json.loads(path.read_bytes()), "content_id": "00" * 32}).encode())


def without_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))


def turned_round(path: Path) -> None:
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))


def test_a_sound_cache_has_no_fault(root: Path) -> None:
    assert companion_faults(root, acknowledged=current(root).name, at_rest=True) == []


@pytest.mark.parametrize("name", BREAKS)
def test_each_break_of_a_cache_is_named(root: Path, name: str) -> None:
    words, work = BREAKS[name]
    work(root)
    faults = companion_faults(root, at_rest=True)
    with pytest.raises(AssertionError, match=words):
        assert faults == [], "; ".join(faults)


def test_what_was_acknowledged_and_is_not_there_is_named(root: Path) -> None:
    assert (
        "I3: 00000009-0123456789ab was acknowledged" in companion_faults(root, acknowledged="00000009-0123456789ab")[0]
    )
    without_line(root / "audit.ndjson", 2)
    assert "I3: the audit does not name" in companion_faults(root, acknowledged=current(root).name)[0]
    (root / "counter").unlink()
    assert companion_faults(root) == []


GOOD: dict[str, Any] = {
    "outcome": "success", "exit_code": 0, "companions": [{"outcome": "success", "cache": {"content_id": "c0"}}],
}  # fmt: skip
FAILED: dict[str, Any] = {"outcome": "failure", "exit_code": 21, "companions": []}


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    run = tmp_path / "staging" / "runs" / "20260101T000000Z-000000"
    run.mkdir(parents=True)
    run.chmod(0o700)
    (run / "journal.ndjson").touch()
    return tmp_path / "staging"


def test_what_a_run_leaves_is_held_against_its_word(staging: Path) -> None:
    assert run_faults(staging, 0, GOOD, "") == []
    assert run_faults(staging, 21, FAILED, "") == []
    assert run_faults(staging, -9, None, "") == []
    for status, report in (
        (0, FAILED),
        (21, GOOD),
        (33, FAILED),
        (0, {**GOOD, "companions": [{**FAILED, "cache": {}}]}),
    ):
        assert run_faults(staging, status, report, "")[0].startswith("I4: ")
    assert run_faults(staging, 21, None, "") == ["I10: exit status 21 and no report"]
    assert run_faults(staging, 21, FAILED, "Traceback (most recent call last):")[0].startswith("I11: ")
    run = next((staging / "runs").iterdir())
    with (run / "tiles").open("wb") as stream:
        stream.truncate(2 << 30)
    run.chmod(0o755)
    touched(run / ".tmp-x")
    assert [fault[:3] for fault in run_faults(staging, 0, GOOD, "")] == ["I7:", "I12", "I9:"]


def test_a_store_that_names_bytes_which_are_not_there_is_named(tmp_path: Path) -> None:
    with TileStore(tmp_path) as store:
        source = store.source_number("key", attribution="")
        assert source is not None
        with store.writer(source) as writer:
            for x in range(4):
                body = bytes([x]) * 100
                writer.add([TileRecord(Tile.of(5, x, 5), TileState.PRESENT, body, hashlib.sha256(body).digest())])
    assert store_faults(tmp_path) == []
    (pack,) = (tmp_path / "packs").iterdir()
    pack.write_bytes(pack.read_bytes()[:-1])
    assert [fault[:12] for fault in store_faults(tmp_path)] == ["I5: body 4 i"]
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as index, index:
        index.execute("DELETE FROM blob WHERE id = 4")
    assert store_faults(tmp_path) == ["I5: tile 5/3/5 is said to be there and has no body"]
