# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that writes what a soak run found into a page: `-p tests.soak_results --soak-results FILE`.

Its table stands between two marks. A run of a part of the tests brings its own rows up to date and leaves the others.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

BEGIN = "<!-- written by `make soak`: begin -->"
END = "<!-- written by `make soak`: end -->"
HEAD = ("| Test | Result | Counts | Seconds | Commit | Day |", "|---|---|---|---|---|---|")
RESULTS = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-results", metavar="FILE", help="the page whose table gets the results")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = {}
    # Of several processes only the one that hears of every test writes.
    if config.getoption("--soak-results") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(config.stash[RESULTS], commit()), "soak-recorder")


class _Recorder:
    def __init__(self, rows: dict[str, str], commit_name: str) -> None:
        self._rows = rows
        self._commit = commit_name

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and not report.failed:
            return
        name = report.nodeid.rpartition("::")[2].removeprefix("test_")
        words, bracket, case = name.partition("[")
        name = words.replace("_", " ") + (f" ({case[:-1]})" if bracket else "")
        counts = ", ".join(f"{value} {key}" for key, value in report.user_properties)
        result = "passed" if report.passed else "FAILED"
        day = time.strftime("%Y-%m-%d", time.gmtime())
        self._rows[name] = f"| {name} | {result} | {counts} | {report.duration:.0f} | {self._commit} | {day} |"


def commit() -> str:
    """The commit that is tested; `+` where the checkout differs from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("SOAK_COMMIT", "unknown")
    return done.stdout.strip()


def pytest_sessionfinish(session: pytest.Session) -> None:
    page = session.config.getoption("--soak-results")
    if page and session.config.stash[RESULTS]:
        path = Path(str(page))
        path.write_text(with_rows(path.read_text(encoding="utf-8"), session.config.stash[RESULTS]), encoding="utf-8")


def with_rows(text: str, rows: dict[str, str]) -> str:
    """The page with these rows, by the names of the tests, put into its table; the order is that of the names."""
    before, begin, rest = text.partition(BEGIN)
    table, end, after = rest.partition(END)
    if not begin or not end:
        raise pytest.UsageError(f"the page has no table between {BEGIN} and {END}")
    known = {line.split("|")[1].strip(): line for line in table.strip().splitlines()[len(HEAD) :]}
    lines = (line for _name, line in sorted({**known, **rows}.items()))
    return "\n".join([before + BEGIN, *HEAD, *lines, END + after])
