# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""What a shell is offered as values: runs, flights, sources, files; and nothing, silently, where that is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from operator_tool._cli import cli

OLDER, NEWER = "20260101T000000Z-aaaaaa", "20260102T000000Z-bbbbbb"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (OLDER, NEWER, "no-run"):
        (tmp_path / "staging" / "runs" / name).mkdir(parents=True)
    (tmp_path / "flights").mkdir()
    for name in ("survey.plan", "inspection.waypoints", ".hidden"):
        (tmp_path / "flights" / name).touch()
    (tmp_path / "operator-tool.toml").write_text('cache_staging_root = "staging"\nflights_dir = "flights"\n')
    return tmp_path


def offered(line: str) -> list[tuple[str, str]]:
    *words, incomplete = line.split(" ")
    found = BashComplete(cli, {}, "operator-tool", "_OPERATOR_TOOL_COMPLETE").get_completions(words, incomplete)
    return [(item.type, item.value) for item in found]


def plain(line: str) -> list[str]:
    return [value for kind, value in offered(line) if kind == "plain"]


def test_runs_the_newest_first() -> None:
    assert plain("report ") == ["last", NEWER, OLDER]
    assert plain("build-cache --attach ") == [NEWER, OLDER]
    assert plain("build-cache --attach 20260101") == [OLDER]
    assert plain("build-cache --staging-root elsewhere --attach ") == []


def test_flights_of_the_folder_and_of_no_api() -> None:
    assert plain("plan --flight-id ") == ["inspection", "survey"]
    assert plain("verify --flight-id su") == ["survey"]
    assert plain("plan --flights-api-base-url http://localhost --flight-id ") == []


def test_sources_that_may_be_used_offline() -> None:
    found = plain("download --tile-source ")
    assert "linz-aerial" in found
    assert "google-satellite" not in found


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("plan --flight-file mi", "file"),
        ("flight show ", "file"),
        ("plan --staging-root ", "dir"),
        ("report x", "file"),
    ],
)
def test_files_and_folders_are_the_shell_s(line: str, kind: str) -> None:
    assert (kind, line.rsplit(" ", maxsplit=1)[-1]) in offered(line)


@pytest.mark.parametrize("line", ["report --config none.toml ", "report --set x ", "report --set zooms=x "])
def test_settings_that_are_wrong_offer_no_runs_and_say_nothing(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert plain(line) == ["last"]
    assert capfd.readouterr() == ("", "")
