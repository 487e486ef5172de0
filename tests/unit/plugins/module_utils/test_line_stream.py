# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real commands: their lines while they run, their end, and theirs with the reader's."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._line_stream import MAX_LINE_BYTES, stream_lines
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job import CommandResult, ConnectionLost

DEV = Path(__file__).parents[4] / "dev"


def shell(script: str, *, silence_s: float = 20.0):
    return stream_lines(["/bin/sh", "-c", script], silence_s=silence_s)


def drained(lines) -> tuple[list[str], CommandResult]:
    found = []
    while True:
        try:
            found.append(next(lines))
        except StopIteration as end:
            return found, end.value


def test_lines_come_whole_and_then_the_exit_status_and_the_errors():
    script = "printf 'one\\ntw'; printf 'o\\n\\nthree\\n'; printf '\\377\\n'; echo no >&2; exit 3"
    assert drained(shell(script)) == (["one", "two", "", "three", "�"], CommandResult(3, "", "no\n"))


def test_a_line_comes_while_the_command_runs(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    lines = shell(f"echo first; read -r word < {gate}; echo $word")
    assert next(lines) == "first"
    gate.write_text("second\n")
    assert drained(lines) == (["second"], CommandResult(0, "", ""))


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo whole; printf half", "cut short"),
        ("echo word; exec sleep 600", "nothing was heard"),
        (f"head -c {MAX_LINE_BYTES + 1} /dev/zero; exec sleep 600", "no end"),
    ],
)
def test_what_is_no_line_is_a_lost_link(script, says):
    with pytest.raises(ConnectionLost, match=says):
        drained(shell(script, silence_s=0.5))


def test_the_command_ends_where_the_reader_leaves():
    lines = shell("echo $$; exec sleep 600")
    handle = os.pidfd_open(int(next(lines)))
    lines.close()
    assert select.select([handle], [], [], 10.0)[0]
    os.close(handle)


def test_the_command_ends_with_a_reader_that_is_killed():
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(DEV)!r})\n"
        "from ansible_collections.gps_denied.preflight.plugins.module_utils._line_stream import stream_lines\n"
        "lines = stream_lines(['/bin/sh', '-c', 'echo $$; exec sleep 600'], silence_s=600)\n"
        "print(next(lines), flush=True)\n"
        "next(lines)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as reader:
        handle = os.pidfd_open(int(reader.stdout.readline()))
        reader.send_signal(signal.SIGKILL)
        assert select.select([handle], [], [], 10.0)[0]
        os.close(handle)
