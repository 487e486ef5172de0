# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""What `build-cache --attach` takes from an earlier run, and what it says where there is nothing to take."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig, load_config
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import FailurePhase, SettingsError
from ansible_collections.gps_denied.preflight.plugins.module_utils._run import begin_run, new_run_id
from ansible_collections.gps_denied.preflight.plugins.plugin_utils._job_spec import job_spec
from click.testing import CliRunner

from operator_tool import FlightById, FlightFromFile, _cli
from operator_tool._attach import earlier_run


@pytest.fixture
def config(tmp_path: Path) -> PreflightConfig:
    return load_config(
        {"cache_staging_root": str(tmp_path), "zooms": "17", "report": "r.json", "progress_socket": "/gone"}, environ={}
    )


@pytest.mark.parametrize(
    ("given", "flight"),
    [
        ({"flight_id": "one", "flight_file": None}, FlightById("one")),
        ({"flight_id": None, "flight_file": "/f.plan"}, FlightFromFile("/f.plan")),
    ],
    ids=["id", "file"],
)
def test_flight_and_settings_are_those_of_the_run(
    config: PreflightConfig, given: dict[str, str], flight: object
) -> None:
    run = begin_run(config)
    run.journal.record("fact", phase=FailurePhase.FLIGHT_RESOLVE, given=given)
    found, settings = earlier_run(config, run.run_id)
    assert found == flight
    assert (settings["zooms"], settings["attach_run"]) == ([17], run.run_id)
    assert not {"report", "progress_socket", "inventory", "satellite_provider_api_key_file"} & set(settings)
    assert load_config(settings, environ={}).attach_run == run.run_id


def test_an_unknown_run_is_refused_with_the_newest_ones(config: PreflightConfig) -> None:
    unknown = new_run_id()
    with pytest.raises(SettingsError, match=f"there is no run '{unknown}'") as caught:
        earlier_run(config, unknown)
    assert "the newest are: none" in caught.value.remediation
    run = begin_run(config)
    with pytest.raises(SettingsError) as caught:
        earlier_run(config, "../" + run.run_id)
    assert run.run_id in caught.value.remediation


def test_a_run_without_a_flight_has_nothing_to_attach_to(config: PreflightConfig) -> None:
    run = begin_run(config)
    with pytest.raises(SettingsError, match="ended before its flight was resolved"):
        earlier_run(config, run.run_id)


def test_the_command_line_takes_one_of_flight_and_run(tmp_path: Path) -> None:
    both = CliRunner().invoke(_cli.cli, ["build-cache", "--flight-id", "one", "--attach", new_run_id()])
    assert both.exit_code == 2
    assert "give one of --flight-id, --flight-file, --plan and --attach" in both.output
    alone = CliRunner().invoke(
        _cli.cli, ["build-cache", "--attach", new_run_id(), "--set", f"cache_staging_root={tmp_path}"]
    )
    assert alone.exit_code == 2
    assert "there is no run" in alone.output
    assert "Traceback" not in alone.output


def test_the_lease_is_off_unless_it_is_set_and_never_so_short_that_a_followed_build_ends() -> None:
    assert job_spec(PreflightConfig(), "run-1").lease_s == 0
    assert job_spec(load_config({"build_lease_s": "600"}, environ={}), "run-1").lease_s == 600
    for senseless in ("-1", "29", "nan", "inf"):
        with pytest.raises(SettingsError, match="build_lease_s is .*: give 30 or more, or 0 for no end"):
            load_config({"build_lease_s": senseless}, environ={})
