# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""Streams that go away under a command, in real processes: its own exit code stays, and nobody sees a traceback."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SURVEY = str(ROOT / "examples" / "flights" / "bali-survey.plan")
TOOL = [str(Path(sys.executable).with_name("operator-tool"))]
UNFORGIVING = [sys.executable, "-c", "from operator_tool._cli import cli; cli.main(standalone_mode=False)"]
SHOW = ["flight", "show", SURVEY, "--format", "json"]
NOWHERE = ["flight", "show", "/nowhere.plan"]
COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7]|4[0-8])")


def run(arguments: list[str], *, tool: list[str] = TOOL, **options: Any) -> subprocess.CompletedProcess[bytes]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([*tool, *arguments], check=False, timeout=60, **options)


@pytest.fixture
def unread_pipe() -> Any:
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.fixture
def dead_terminal() -> Any:
    master, slave = pty.openpty()
    os.close(master)
    yield slave
    os.close(slave)


@pytest.mark.parametrize("arguments", [["--help"], SHOW])
def test_a_full_disk_is_one_sentence_and_no_success(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = run(arguments, stdout=full)
        assert done.returncode == 2
        assert b"the output cannot be written: No space left on device" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        # the control: without these streams the same disk ends in a traceback
        assert b"Traceback" in run(arguments, stdout=full, tool=UNFORGIVING).stderr


def test_a_failure_keeps_its_code_on_a_full_disk() -> None:
    with open("/dev/full", "wb") as full:
        assert run(NOWHERE, stdout=full, stderr=full).returncode == 94


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (SHOW, 0), (NOWHERE, 94)])
@pytest.mark.parametrize("gone", ["unread_pipe", "dead_terminal"])
def test_readers_that_went_away_change_nothing(
    arguments: list[str], code: int, gone: str, request: pytest.FixtureRequest
) -> None:
    stream = request.getfixturevalue(gone)
    assert run(arguments, stdout=stream, stderr=stream).returncode == code
    quiet = run(arguments, stdout=stream)
    assert (quiet.returncode, b"operator-tool: the output" in quiet.stderr) == (code, False)


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (SHOW, 0), (NOWHERE, 94)])
def test_closed_descriptors_change_nothing(arguments: list[str], code: int) -> None:
    line = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *TOOL]
    assert run(arguments, tool=line).returncode == code


def test_a_build_whose_reader_went_away_keeps_its_code(unread_pipe: int, tmp_path: Path) -> None:
    (tmp_path / "flights").mkdir()
    wanted = ["--flight-id", "nowhere", "--flights-dir", str(tmp_path / "flights"), "--companion-host", "localhost"]
    places = ["--staging-root", str(tmp_path / "staging"), "--companion-cache-root", str(tmp_path / "companion")]
    source = ["--tile-source", str(ROOT / "examples" / "imagery" / "bali.pmtiles")]
    done = run(["build-cache", *wanted, *places, *source], stdout=unread_pipe, stderr=unread_pipe, cwd=tmp_path)
    assert done.returncode == 90


def on_terminal(arguments: list[str], environment: dict[str, str]) -> bytes:
    """What a terminal gets, both streams together."""
    master, slave = pty.openpty()
    with subprocess.Popen([*TOOL, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        said = bytearray()
        while True:
            try:
                said += os.read(master, 65536)
            except OSError:  # the last process on it has ended
                break
        os.close(master)
    assert process.returncode == 0, said
    return bytes(said)


@pytest.fixture
def download(tmp_path: Path) -> Callable[[str], list[str]]:
    imagery = ["--tile-source", str(ROOT / "examples" / "imagery" / "bali.pmtiles"), "--buffer-m", "20"]
    camera = ["--zoom", "18", "--set", "takeoff_radius_m=20"]
    return lambda name: ["download", "--flight-file", SURVEY, "--staging-root", str(tmp_path / name), *imagery, *camera]


def test_colours_are_for_terminals_that_want_them(download: Callable[[str], list[str]]) -> None:
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    terminal = {**plain, "TERM": "xterm-256color"}
    assert COLOUR.search(on_terminal(download("colour"), terminal))
    assert not COLOUR.search(on_terminal(download("none"), {**terminal, "NO_COLOR": "1"}))
    piped = run(download("pipe"), env=terminal)
    assert piped.returncode == 0
    assert b"\x1b" not in piped.stdout + piped.stderr
