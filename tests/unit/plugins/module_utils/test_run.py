# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._config import load_config
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError
from ansible_collections.gps_denied.preflight.plugins.module_utils._run import Run, begin_run, store_report


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = {"cache_staging_root": str(tmp_path / "staging"), "report": "/proc/none/report.json"}
    return begin_run(load_config(settings, environ={}, config_file="/dev/null"))


def test_a_report_that_cannot_be_written_in_its_place_lies_in_the_run_s_folder(run: Run) -> None:
    with pytest.raises(
        SettingsError, match=r"cannot write the report to /proc/none/report.json: .*; it is in "
    ) as caught:
        store_report(run, {"a": 1})
    assert json.loads(Path(run.path("report.json")).read_bytes()) == {"a": 1}
    assert f"operator-tool report {run.run_id}" in caught.value.remediation


def test_a_report_that_can_be_written_nowhere_is_one_sentence(run: Run) -> None:
    Path(run.path("report.json")).mkdir()
    with pytest.raises(SettingsError, match=r"; nor to .*/runs/.*: Is a directory"):
        store_report(run, {"a": 1})
