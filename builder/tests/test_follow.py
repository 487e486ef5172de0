# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Following a build from elsewhere, ending it, and looking at the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import request

COMMAND = [sys.executable, "-m", "c10_builder"]


def start(folder: Path, the_map: Any) -> "subprocess.Popen[bytes]":
    _image, archive, sha256 = the_map
    (folder / "request.json").write_text(json.dumps(request(folder, archive, sha256)))
    return subprocess.Popen(
        [*COMMAND, "build", "--request", str(folder / "request.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def until(build: "subprocess.Popen[bytes]", word: bytes) -> None:
    assert build.stdout is not None
    for line in build.stdout:
        if word in line:
            return
    raise AssertionError("the build never said %r" % word)


def run(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False)


def test_attach_hands_on_every_line(the_map: Any, tmp_path: Path) -> None:
    build = start(tmp_path, the_map)
    until(build, b'"phase":"scan"')
    followed = run("attach", str(tmp_path / "work"))
    rest, _ = build.communicate(timeout=60)
    assert followed.returncode == build.returncode == 0
    lines = followed.stdout.splitlines()
    assert json.loads(lines[0])["t"] == "hello"
    assert rest.splitlines()[-1] == lines[-1]
    assert [json.loads(line)["phase"] for line in lines if b'"t":"phase"' in line][-1] == "publish"
    # a build that has ended is told again from its first line to its last
    assert run("attach", str(tmp_path / "work")).stdout == followed.stdout


def test_cancel_ends_it_with_a_report(the_map: Any, tmp_path: Path) -> None:
    build = start(tmp_path, the_map)
    until(build, b'"phase":"scan"')
    busy = run("build", "--request", str(tmp_path / "request.json"))
    assert busy.returncode == 4
    assert json.loads(busy.stdout.splitlines()[-1])["failure"]["code"] == "busy"
    assert json.loads(run("cancel", str(tmp_path / "work")).stdout) == {"cancelled": True}
    assert build.stdout is not None
    with build.stdout as stdout:
        assert json.loads(stdout.read().splitlines()[-1])["failure"]["code"] == "cancelled"
    assert build.wait(timeout=10) == 5
    assert run("attach", str(tmp_path / "work")).returncode == 5
    assert json.loads(run("cancel", str(tmp_path / "work")).stdout) == {"cancelled": False}


def test_a_killed_build_is_no_finished_one(the_map: Any, tmp_path: Path) -> None:
    build = start(tmp_path, the_map)
    until(build, b'"phase":"scan"')
    os.kill(build.pid, signal.SIGKILL)
    build.wait(timeout=10)
    assert build.stdout is not None
    build.stdout.close()
    followed = run("attach", str(tmp_path / "work"))
    assert followed.returncode == 1
    assert b"without a report" in followed.stderr


@pytest.mark.parametrize("verb", ["attach", "cancel"])
def test_where_no_build_ever_was(verb: str, tmp_path: Path) -> None:
    done = run(verb, str(tmp_path))
    assert done.returncode == 2
    assert b"there is no build in" in done.stderr


def test_doctor_tries_the_models(tmp_path: Path) -> None:
    done = run("doctor", "--provider", "tensorrt", "--model", str(tmp_path / "absent.json"))
    findings = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0
    assert "windows/s" in findings["model lite0-vlad"]["text"]
    assert findings["model lite0-vlad"]["level"] == "warn"
    assert "cannot be read" in findings["model absent.json"]["text"]
