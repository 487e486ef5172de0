# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""The table that a soak run writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.soak_results import BEGIN, END, with_rows

ROOT = Path(__file__).parents[3]
TESTS = """
import pytest
@pytest.mark.soak
def test_so_many_cuts(record_property):
    record_property("cuts", 500)
@pytest.mark.soak
@pytest.mark.parametrize("seed", [7])
def test_a_second(seed):
    assert seed == 8
def test_that_is_no_soak():
    pass
"""


def test_a_run_writes_its_rows_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    old = "| an older one | passed | | 1 | 0123456789 | 2026-01-01 |"
    page.write_text(f"# Page\n\n{with_rows(BEGIN + END, {'an older one': old})}\n\nMore.\n", encoding="utf-8")
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = soak\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "soak", "-p", "tests.soak_results"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--soak-results", str(page)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["# Page", "", BEGIN]
    assert lines[-3:] == [END, "", "More."]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines[5:-3]]
    assert rows == [
        ["a second (7)", "FAILED", ""],
        ["an older one", "passed", ""],
        ["so many cuts", "passed", "500 cuts"],
    ]
