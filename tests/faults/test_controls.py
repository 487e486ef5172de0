# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Defects planted in a copy of the product are convicted by the tests that exist for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from controls import ROOT, UTILS, judge_all
from seeded_defects import DEFECTS, Defect


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_the_place_of_a_defect_stands_once(defect: Defect) -> None:
    text = (ROOT / UTILS / defect.file).read_text(encoding="utf-8")
    assert text.count(defect.sound) == 1
    assert (ROOT / defect.test.partition("::")[0]).is_file()
    compile(text.replace(defect.sound, defect.broken), defect.file, "exec")


def convict(defects: Sequence[Defect]) -> None:
    missed = [f"{verdict.defect.name}: {verdict.words}" for verdict in judge_all(defects) if not verdict.convicted]
    assert missed == []


@pytest.mark.timeout(300)
def test_the_quick_defects_are_convicted() -> None:
    convict([defect for defect in DEFECTS if defect.quick])


@pytest.mark.soak
def test_every_defect_is_convicted(record_property: Callable[[str, object], None]) -> None:
    convict(DEFECTS)
    record_property("seeded defects convicted", len(DEFECTS))


@pytest.mark.soak
def test_a_change_that_breaks_nothing_is_not_convicted() -> None:
    harmless = Defect(
        "nothing", "I1", "_audit.py", "MAX_LINE_BYTES = 16 * 1024", "MAX_LINE_BYTES = 16 * 1025",
        "tests/unit/plugins/module_utils/test_audit.py",
    )  # fmt: skip
    broken = Defect(
        "does not load", "I1", "_audit.py", "MAX_LINE_BYTES = 16 * 1024", "MAX_LINE_BYTES = nobody",
        "tests/unit/plugins/module_utils/test_audit.py",
    )  # fmt: skip
    assert [verdict.convicted for verdict in judge_all([harmless, broken])] == [False, False]
