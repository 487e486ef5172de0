# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import operator_tool
from operator_tool import _cli

ROOT = Path(__file__).parents[3]
SURVEY = ROOT / "examples" / "flights" / "bali-survey.plan"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the embedded default's settings."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "operator-tool.toml").read_text().replace('"examples/', f'"{ROOT}/examples/')
    (tmp_path / "operator-tool.toml").write_text(text.replace('"inventory/', f'"{ROOT}/inventory/'))
    shutil.copyfile(SURVEY, tmp_path / "survey.plan")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(_cli.cli, arguments)


def test_each_public_name_is_there() -> None:
    for name in operator_tool.__all__:
        assert getattr(operator_tool, name) is not None


def test_flight_show_tells_what_is_used_and_what_is_not(place: Path) -> None:
    shown = run("flight", "show", "survey.plan", "--format", "json")
    assert shown.exit_code == 0, shown.output
    flight = json.loads(shown.output)
    assert flight["takeoff_origin"]["rule"] == "planned_home"
    assert flight["tiles"]["total"] == sum(flight["tiles"]["by_zoom"].values()) > 10
    assert all(item["reason"] for item in flight["ignored"])
    people = run("flight", "show", "survey.plan")
    assert "take-off" in people.output
    assert len([line for line in people.output.splitlines() if line.startswith("  waypoint")]) == len(
        flight["waypoints"]
    )


def test_a_plan_costs_a_sample_and_is_refused_once_its_flight_has_changed(place: Path) -> None:
    planned = run("plan", "--flight-file", "survey.plan", "--out", "plan.json")
    assert planned.exit_code == 0, planned.output
    assert "zoom 19" in planned.output
    plan = json.loads((place / "plan.json").read_text())
    assert plan["estimate"]["tiles"] > 10
    assert plan["disk"]["companion_bytes"] > plan["estimate"]["size_bytes"]

    mission = json.loads((place / "survey.plan").read_text())
    mission["mission"]["plannedHomePosition"][0] += 0.0001
    (place / "survey.plan").write_text(json.dumps(mission))
    refused = run("build-cache", "--plan", "plan.json", "--format", "json")
    assert refused.exit_code == 2, refused.output
    assert "its route has changed" in refused.output
    assert not (place / "var" / "companion").exists()


def test_download_alone_and_then_only_what_failed(place: Path) -> None:
    first = run("download", "--flight-file", "survey.plan", "--format", "json")
    assert first.exit_code == 0, first.output
    holes = run("download", "--flight-file", "survey.plan", "--buffer-m", "120")
    assert holes.exit_code == 22
    refreshed = run("download", "--flight-file", "survey.plan", "--format", "json", "--refresh-after", "0")
    assert refreshed.exit_code == 0, refreshed.output
    shown = run("store", "--format", "json")
    assert json.loads(shown.output)["size"]["tiles"] > 10
    assert "0.0 MB given back; 0 tiles forgotten" in run("store", "--compact").output
    emptied = run("store", "--limit-gb", "0")
    assert emptied.output.splitlines()[1].startswith("0 tiles in "), emptied.output
    report = place / "report.json"
    report.write_text(
        json.dumps({"download": {"failed_tiles": [{"z": 19, "x": 429859, "y": 274665, "reason": "failed"}]}})
    )
    again = run("download", "--retry-failed", str(report))
    assert again.exit_code in (0, 22)
    assert "of 1 tiles" in again.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("build-cache",), 2, "give one of"),
        (("build-cache", "--flight-id", "a", "--flight-file", "b"), 2, "give one of"),
        (("build-cache", "--plan", "none.json"), 2, "is no plan"),
        (("plan",), 2, "give either"),
        (("download",), 2, "give one of"),
        (("download", "--retry-failed", "survey.plan"), 2, "is no report with failed tiles"),
        (("flight", "show", "none.plan"), 94, "none.plan"),
        (("flight", "show", "survey.plan", "--set", "nonsense"), 2, "NAME=VALUE"),
        (("flight", "show", "survey.plan", "--set", "a=b"), 2, "no setting 'a'"),
        (("plan", "--flight-file", "survey.plan", "--staging-root", "/dev/null/x"), 2, "used: Not a directory"),
        (("plan", "--flight-file", "survey.plan", "--staging-root", "/proc/x"), 2, "the staging root /proc/x cannot"),
        (("download", "--flight-file", "survey.plan", "--staging-root", "/dev/null/x"), 2, "--staging-root"),
        (("build-cache", "--flight-file", "survey.plan", "--staging-root", "/dev/null/x"), 2, "cannot be used"),
        (("build-cache", "--flight-file", "survey.plan", "--report", "/proc/x/a"), 2, "nothing was done yet"),
        (("upload-landing", "--report", "."), 2, "Is a directory"),
        (("plan", "--flight-file", "survey.plan", "--out", "/proc/x"), 2, "cannot write the plan"),
        (("build-cache", "--companion-host", "a", "--companion-port", "0"), 2, "--companion-port"),
        (("build-cache", "--flight-id", "a", "--companion-port", "2222"), 2, "goes with --companion-host"),
        (("verify", "--flight-id", "a", "--companion-user", "pilot"), 2, "--companion-user goes with"),
        (("build-cache", "--flight-id", "a", "--vehicle-id", "v"), 2, "--vehicle-id goes with"),
        (("upload-landing", "--vehicle-id", "v"), 2, "--vehicle-id goes with"),
        (("verify", "--companion-host", "a", "--inventory", "b"), 2, "--companion-host or --inventory, not both"),
        (("verify", "--companion-host", "a", "--limit", "b"), 2, "--companion-host or --limit, not both"),
        (("doctor", "--workstation", "--limit", "b"), 2, "--workstation or --limit, not both"),
        (("download", "--flight-id", "a", "--tile-source", "a", "--satellite-provider-url", "b"), 2, "not both"),
        (("plan", "--flight-id", "a", "--flights-dir", "a", "--flights-api-base-url", "b"), 2, "not both"),
        (("build-cache", "--flight-id", "a", "--api-key", "k", "--api-key-file", "f"), 2, "not both"),
        (("plan", "--flight-file", "survey.plan", "--api-key", "k", "--api-key-file", "f"), 2, "not both"),
        (("serve-flights", "none"), 2, "no folder of flights"),
        (("plan", "--flight-id", "nowhere"), 90, "no flight nowhere"),
        (
            ("plan", "--flight-id", "bali-survey", "--tile-source", "https://tile.openstreetmap.org/{z}/{x}/{y}.png"),
            24,
            "tile",
        ),
        (("flight", "show", "survey.plan", "--set", "max_leg_m=10"), 23, "leg"),
        (("flight", "show", "survey.plan", "--set", "max_download_bytes=1000"), 23, "lies farthest out"),
        (("flight", "show", "survey.plan", "--set", "max_tiles=3"), 23, "tiles"),
    ],
)
def test_bad_use_is_one_sentence_and_the_right_code(
    place: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert words in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [(), *((name,) for name in sorted(_cli.cli.commands)), ("flight", "show")])
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize("name", sorted(set(_cli.cli.commands) - {"completion", "flight", "serve-flights"}))
def test_every_command_with_a_result_gives_it_as_json(name: str) -> None:
    assert "--format [human|json]" in run(name, "--help").output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_each_shell_asks_the_tool(shell: str) -> None:
    printed = run("completion", shell)
    assert (printed.exit_code, f"_OPERATOR_TOOL_COMPLETE={shell}_complete" in printed.output) == (0, True)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("operator-tool ver", "verify"),
        ("operator-tool build-cache --att", "--attach"),
        ("operator-tool plan --format js", "json"),
    ],
)
def test_bash_completes(words: str, completed: str) -> None:
    tool = Path(sys.executable).with_name("operator-tool")
    script = (
        f'eval "$({tool} completion bash)"; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); '
        f'_operator_tool_completion {tool}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert completed in done.stdout.split(), done.stderr
