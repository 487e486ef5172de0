# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The made part of the reference is what the code says now, and real reports fit the schemas."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig, load_config
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import ExitCode, FlightNotFoundError
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import CacheBuildReport
from ansible_collections.gps_denied.preflight.plugins.module_utils._run import begin_run, write_report
from pydantic import TypeAdapter

from tools import reference

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "docs" / "schemas" / "CacheBuildReport.schema.json").read_text("utf-8"))


@pytest.mark.parametrize("path", reference.documents(), ids=lambda path: path.name)
def test_made_file_is_up_to_date(path: Path):
    assert path.read_text("utf-8") == reference.documents()[path], "run `make docs`"


def test_check_names_what_is_out_of_date_and_leaves_it_alone(tmp_path):
    docs = tmp_path / "docs"
    assert reference.main(["--docs", str(docs)], say=lambda _line: None) == 0
    assert reference.main(["--check", "--docs", str(docs)]) == 0
    page = docs / "reference" / "settings.md"
    page.write_text("older\n")
    shutil.rmtree(docs / "schemas")
    said: list[str] = []
    assert reference.main(["--check", "--docs", str(docs)], say=said.append) == 1
    assert len(said) == 1 + len(reference.SCHEMAS)
    assert said[0] == f"{page} is out of date: run `make docs`"
    assert page.read_text() == "older\n"


def test_every_setting_has_a_row():
    page = reference.settings_page()
    for name in PreflightConfig().to_dict():
        assert f"\n| `{name}` |" in page


def test_troubleshooting_has_a_section_for_every_exit_code():
    headings = [
        line
        for line in (ROOT / "docs" / "troubleshooting.md").read_text("utf-8").splitlines()
        if line.startswith("## ")
    ]
    codes = [int(heading.split()[1].rstrip(":")) for heading in headings if heading.split()[1].rstrip(":").isdigit()]
    assert codes == [int(code) for code in ExitCode if code is not ExitCode.SUCCESS]


def test_report_of_a_real_run_fits_the_schema(tmp_path):
    run = begin_run(load_config({"cache_staging_root": str(tmp_path)}, environ={}, config_file="/dev/null"))
    with pytest.raises(FlightNotFoundError), run.journal.phase(FlightNotFoundError.phase):
        raise FlightNotFoundError("there is no flight nowhere")
    report = write_report(run)
    written = json.loads(Path(run.report_path).read_bytes())
    assert TypeAdapter(CacheBuildReport).validate_python(written) == report
    assert _keys_not_in_schema(written, SCHEMA) == []
    assert sorted(written) == sorted(SCHEMA["required"])


def _keys_not_in_schema(value: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    return [key for key in value if key not in schema["properties"]]
