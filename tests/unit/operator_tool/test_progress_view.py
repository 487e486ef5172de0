# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""Progress on a terminal and without one, in a real process."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

RECORDS = [
    {"t": "phase", "phase": "download", "text": "begins"},
    {"t": "progress", "phase": "download", "done": 100, "total": 400, "unit": "tiles"},
    {"t": "progress", "phase": "download", "done": 200, "total": 400, "unit": "tiles"},
    {"t": "warning", "phase": "download", "text": "the provider asks us to wait"},
    {"t": "progress", "phase": "download", "done": 300, "total": 400, "unit": "tiles"},
    {"t": "progress", "phase": "sync", "host": "v1", "done": 1e6, "total": 4e6, "unit": "bytes", "text": "5.0MB/s"},
    {"t": "progress", "phase": "sync", "host": "v2", "done": 2e6, "total": 4e6, "unit": "bytes"},
    {"t": "line", "phase": "build", "host": "[red]v3", "text": "[bold]not markup"},
    {"t": "report", "phase": None},
]
PROGRAM = (
    "import json, sys, time; from operator_tool._progress_view import progress_view\n"
    "with progress_view(as_json=sys.argv[1] == 'json') as show:\n"
    "    for record in json.loads(sys.stdin.readline()): show(record)\n"
)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(form: str, stream: int) -> str:
    line = json.dumps(RECORDS).encode()
    environment = {"TERM": "xterm", "COLUMNS": "160", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, form],
        input=line,
        stdout=subprocess.DEVNULL,
        stderr=stream,
        env=environment,
        check=True,
        timeout=60,
    )
    return (done.stderr or b"").decode()


def test_bars_on_a_terminal_one_for_each_phase_of_each_companion() -> None:
    master, slave = pty.openpty()
    shown("human", slave)
    os.close(slave)
    said = bytearray()
    while True:
        try:
            said += os.read(master, 65536)
        except OSError:
            break
    os.close(master)
    text = ESCAPES.sub("", said.decode())
    assert "download: begins" in text
    assert "download: the provider asks us to wait" in text
    last = text.splitlines()[-12:]
    bars = "\n".join(last)
    for words in ("300/400 tiles", "tiles/s", "[v1] sync", "1.0/4.0 MB 5.0MB/s", "[v2] sync", "2.0/4.0 MB"):
        assert words in bars, bars
    assert "[[red]v3] build" in bars
    assert "[bold]not markup" in bars


def test_plain_lines_without_a_terminal() -> None:
    lines = shown("human", subprocess.PIPE).splitlines()
    assert lines[0] == "download: begins"
    assert "download: the provider asks us to wait" in lines
    assert "[v1] sync: 1.0/4.0 MB 5.0MB/s" in lines
    assert "[v2] sync: 2.0/4.0 MB" in lines
    assert not any("\x1b" in line or "200/400" in line for line in lines), "the rate is limited"


def test_json_lines_are_all_of_the_records() -> None:
    assert [json.loads(line) for line in shown("json", subprocess.PIPE).splitlines()] == RECORDS
