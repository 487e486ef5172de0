# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.gps_denied.preflight.plugins.module_utils._audit import append_audit, check_audit, last_audit


def test_each_entry_carries_the_hash_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "audit.ndjson"
    for number in range(5):
        append_audit(str(path), {"event": "activated", "number": number})
    assert check_audit(str(path)) == (5, None)
    assert last_audit(str(path))["number"] == 4
    assert json.loads(path.read_bytes().splitlines()[0])["previous_sha256"] == "0" * 64


def test_a_changed_a_removed_and_a_swapped_line_break_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.ndjson"
    for number in range(5):
        append_audit(str(path), {"number": number})
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in (
        [lines[0].replace(b":0", b":7", 1), *lines[1:]],
        [*lines[:2], *lines[3:]],
        [lines[0], lines[2], lines[1], *lines[3:]],
        lines[1:],
    ):
        path.write_bytes(b"".join(changed))
        assert check_audit(str(path))[1] is not None


def test_a_torn_last_line_stays_visible_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.ndjson"
    append_audit(str(path), {"number": 1})
    whole = path.read_bytes()
    append_audit(str(path), {"number": 2})
    for cut in range(len(whole) + 1, len(path.read_bytes()), 17):
        torn = tmp_path / "torn.ndjson"
        torn.write_bytes(path.read_bytes()[:cut])
        assert last_audit(str(torn)) == {}
        append_audit(str(torn), {"number": 3})
        assert check_audit(str(torn)) == (2, None)
        assert last_audit(str(torn))["number"] == 3


def test_no_trail_is_an_empty_trail(tmp_path: Path) -> None:
    assert check_audit(str(tmp_path / "none")) == (0, None)
    assert last_audit(str(tmp_path / "none")) == {}
