# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program's own parts; what it does as a whole is tested through `test_remote_job.py`."""

from __future__ import annotations

import ast
import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._job_bundle import job_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._job_folder import (
    lock_file,
    state_of,
    supervisor_pid,
    write_once,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._job_poll import CHUNK_BYTES, follow
from ansible_collections.gps_denied.preflight.plugins.module_utils._job_processes import descendants, signal_all
from ansible_collections.gps_denied.preflight.plugins.module_utils._job_program import ANSWER_MARK
from ansible_collections.gps_denied.preflight.plugins.module_utils._job_supervisor import CappedLog


@pytest.fixture
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one text that is sent to the companion."""
    path = tmp_path_factory.mktemp("program") / "job.py"
    path.write_bytes(job_source())
    return path


def answer_of(program: Path, *words: str) -> dict[str, object]:
    command = [sys.executable, "-I", "-S", str(program), *words]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert text.startswith(ANSWER_MARK)
    return dict(json.loads(text[len(ANSWER_MARK) :]))


def test_the_program_is_one_text_in_which_no_name_stands_twice() -> None:
    tree = ast.parse(job_source())
    names = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert {"main", "main_sent", "follow", "Supervisor"} <= set(names)
    assert len(names) == len(set(names))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


def test_following_imports_nothing_that_is_slow_to_import(program: Path) -> None:
    slow = ["json", "typing", "re", "subprocess", "shutil", "ctypes", "select", "hashlib"]
    code = (
        "import sys\n"
        "job = {'__name__': 'job'}\n"
        f"exec(compile(open({str(program)!r}).read(), 'job', 'exec'), job)\n"
        "job['main'](['follow', '/nowhere', '0', '0', '0', '0', '0'])\n"
        f"print([name for name in {slow!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_job_that_was_never_started_is_absent(program: Path) -> None:
    answer = answer_of(program, "follow", "/nowhere/at/all", "0", "0", "0", "0", "0")
    assert answer["state"] == "absent"
    assert answer["result"] is None
    assert answer["out"] == {"size": 0, "offset": 0, "data": ""}


def test_a_folder_that_may_not_be_written_is_said_in_the_answer(program: Path, tmp_path: Path) -> None:
    (tmp_path / "lease").symlink_to("/dev/null")
    assert "OSError" in str(answer_of(program, "follow", str(tmp_path), "0", "0", "0", "0", "0")["error"])


def test_chunks_are_whole_between_the_limits(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "spec.json").write_text("{}")
    (tmp_path / "out.log").write_bytes(data)
    for for_s, chunks in ((0.0, [CHUNK_BYTES]), (30.0, [CHUNK_BYTES] * 3 + [len(data) - 7 - 3 * CHUNK_BYTES])):
        said: list[str] = []
        follow(str(tmp_path), out=7, err=0, wait_s=0, gather_s=0, for_s=for_s, say=said.append)
        answers = [json.loads(text) for text in said]
        told = [base64.b64decode(answer["out"]["data"]) for answer in answers]
        assert [len(chunk) for chunk in told] == chunks
        assert b"".join(told) == data[7 : 7 + sum(chunks)]
        assert [answer["out"]["offset"] for answer in answers] == [7 + n * CHUNK_BYTES for n in range(len(chunks))]
        assert {(answer["out"]["size"], answer["state"]) for answer in answers} == {(len(data), "lost")}


def test_a_result_decides_over_a_supervisor_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{}")
    (tmp_path / "result.json").write_text('{"reason":\n "exited"}')
    assert state_of(str(tmp_path)) == ("ended", '{"reason":  "exited"}')


def test_files_are_written_once_and_through_no_link(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_once(str(target), b"one")
    write_once(str(target), b"two")
    assert target.read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / f"link.tmp.{os.getpid()}").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        write_once(str(tmp_path / "link"), b"three")
    assert target.read_bytes() == b"two"


def test_only_one_holds_a_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "alive")
    assert supervisor_pid(str(tmp_path)) is None
    handle = lock_file(path, wait=False)
    assert handle is not None
    assert lock_file(path, wait=False) is None
    assert supervisor_pid(str(tmp_path)) == 0
    os.write(handle, b"123\n")
    assert supervisor_pid(str(tmp_path)) == 123
    os.close(handle)
    assert supervisor_pid(str(tmp_path)) is None


def test_a_log_takes_up_to_its_cap_and_says_what_is_wrong(tmp_path: Path) -> None:
    log = CappedLog(str(tmp_path / "log"), 10)
    assert log.add(b"12345678")
    assert not log.add(b"abcd")
    assert (tmp_path / "log").read_bytes() == b"12345678ab"
    assert log.size_bytes == 10
    assert "more than its log may hold" in log.problem
    full = CappedLog("/dev/full", 10)
    assert not full.add(b"x")
    assert "cannot be kept: No space left on device" in full.problem


def test_descendants_are_found_however_deep() -> None:
    script = "sleep 60 & sh -c 'sleep 60 & echo; wait' & wait"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = descendants(process.pid)
        assert len(found) == 3
        signal_all([*found, process.pid, 2**22 + 1], 9)
