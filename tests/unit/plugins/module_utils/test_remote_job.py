# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real shells, real jobs, on this machine; the link is cut by the transport."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _job_folder, _job_processes
from ansible_collections.gps_denied.preflight.plugins.module_utils._build_stream import BuildStream
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    BuildCancelledError,
    BuildReportParseError,
    CompanionUnreachableError,
    RemoteBuildError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._job_bundle import job_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._line_stream import stream_lines
from ansible_collections.gps_denied.preflight.plugins.module_utils._redact import Redactor
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job import (
    CommandResult,
    ConnectionLost,
    JobEnd,
    JobLimits,
    JobSpec,
    RemoteJob,
    follow_job,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job_verdict import (
    TALLY_PROGRAM,
    build_verdict,
    check_artifacts,
)

ROOT = Path(__file__).parents[4]
EVIL = ROOT / "tests" / "evil_builders" / "evil.py"
# Processes are found by their run's id, on the whole machine: two suites at a time must not end each other's.
RUN = "20261122T120000Z-" + secrets.token_hex(3)
NONCE = "5eed" * 8
QUICK = JobLimits(link_loss_s=5.0, stall_s=20.0, poll_wait_s=1.0, gather_s=0.02, follow_s=1.0, retry_s=0.01)


class Link:
    """Runs commands in a shell of their own; `before`, `after` and, for each line, `during` may raise."""

    def __init__(self) -> None:
        self.commands = self.told = 0
        self.before = lambda count: None
        self.during = lambda count: None
        self.after = lambda count: None

    def lines(self, command: str):
        self.commands += 1
        self.before(self.commands)
        for_lines = stream_lines(["/bin/sh", "-c", command], silence_s=20.0)
        try:
            while True:
                try:
                    line = next(for_lines)
                except StopIteration as end:
                    self.after(self.commands)
                    return end.value
                self.told += 1
                self.during(self.told)
                yield line
        finally:
            for_lines.close()

    def __call__(self, command: str, data: bytes | None) -> CommandResult:
        self.commands += 1
        self.before(self.commands)
        done = subprocess.run(["/bin/sh", "-c", command], input=data or b"", capture_output=True, check=False)
        self.after(self.commands)
        return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())


def lose(message="cut"):
    raise ConnectionLost(message)


class Site:
    """A companion's folders, and one job on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "jobs" / RUN / "job"
        self.request = root / "jobs" / RUN / "request.json"
        self.request.parent.mkdir(parents=True)
        self.link = Link()
        self.out, self.err, self.records = bytearray(), bytearray(), []
        self.stream = self.fresh_stream()

    def fresh_stream(self, redact=None) -> BuildStream:
        return BuildStream(run_id=RUN, nonce=NONCE, on_record=self.records.append, redact=redact)

    def job(self, mode: str, *, request: dict | None = None, **spec) -> RemoteJob:
        content = {"run_id": RUN, "nonce": NONCE, "flight_id": "f1", "work_dir": str(self.root), **(request or {})}
        self.request.write_text(json.dumps(content))
        values = {
            "run_id": RUN,
            "folder": str(self.folder),
            "command": (sys.executable, "-I", "-S", str(EVIL), mode),
            "request_path": str(self.request),
            "timeout_s": 60.0,
            "grace_s": 0.2,
            **spec,
        }
        return RemoteJob(self.link, JobSpec(**values), python=sys.executable, lines=self.link.lines)

    def follow(self, job: RemoteJob, **more) -> JobEnd:
        def on_out(data: bytes) -> None:
            self.out.extend(data)
            self.stream.feed(data)

        def on_err(data: bytes) -> None:
            self.err.extend(data)
            self.stream.feed_people(data)

        end = follow_job(job, **{"on_out": on_out, "on_err": on_err, "limits": QUICK, **more})
        self.stream.close()
        return end

    def verdict(self, job: RemoteJob, **more) -> dict:
        return build_verdict(self.follow(job, **more), self.stream, flight_id="f1")

    def started_pids(self) -> list[int]:
        path = Path(str(self.request) + ".started")
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def await_supervisor_end(self) -> None:
        with (self.folder / "alive").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)

    def left(self) -> list[int]:
        return _job_processes.marked(RUN)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    if (made.folder / "alive").exists() and _job_folder.read_text(str(made.folder / "result.json")):
        made.await_supervisor_end()
    left = made.left()
    _job_processes.signal_all(left, signal.SIGKILL)
    assert not left, "the test left processes behind"


def text_of(site: Site) -> str:
    return json.dumps(site.records) + " ".join(site.stream.tail)


def test_a_good_build_gives_its_report_and_leaves_no_process(site):
    job = site.job("good")
    report = site.verdict(job)
    assert report["outcome"] == "success"
    assert report["content_id"] == "c0" * 32
    assert [record["t"] for record in site.records] == ["hello"] + ["progress"] * 5
    assert (site.folder / "out.log").read_bytes() == bytes(site.out)
    job.clean()
    assert not site.folder.exists()


@pytest.mark.parametrize("side", ["before", "during", "after"])
def test_a_link_that_breaks_all_the_time_loses_and_doubles_nothing(site, side):
    setattr(site.link, side, lambda count: count % 3 and lose())
    changes = []
    end = site.follow(site.job("slow", request={"steps": 15}), on_link=changes.append)
    assert (site.folder / "out.log").read_bytes() == bytes(site.out)
    assert site.stream.last_word(end.exit_code)["outcome"] == "success"
    assert changes[:2] == [False, True]
    assert len(site.started_pids()) == 1


def test_without_a_stream_each_answer_is_a_command(site):
    job = site.job("slow", request={"steps": 5})
    job._lines = None
    assert site.verdict(job)["outcome"] == "success"
    assert (site.folder / "out.log").read_bytes() == bytes(site.out)
    assert site.link.told == 0


def test_one_command_follows_a_talking_builder(site):
    job = site.job("slow", request={"steps": 15})
    limits = dataclasses.replace(QUICK, follow_s=60.0)
    assert site.verdict(job, limits=limits)["outcome"] == "success"
    assert site.link.commands == 2
    assert site.link.told >= 5


def test_the_following_ends_with_who_reads_it(site):
    job = site.job("hang")
    job.start()
    answers = job.follow(out=0, err=0, limits=dataclasses.replace(QUICK, poll_wait_s=0.1, follow_s=60.0))
    assert next(answers)["state"] == "running"
    assert len(followers(site)) == 1
    handles = [os.pidfd_open(pid) for pid in followers(site)]
    answers.close()
    assert select.select(handles, [], [], 10.0)[0] == handles
    for handle in handles:
        os.close(handle)
    job.cancel()


def followers(site: Site) -> list[int]:
    found = []
    for pid in _job_processes.parents():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found += [pid] if b"follow" in words and str(site.folder).encode() in words else []
    return found


def test_an_answer_cut_short_is_a_broken_link(site):
    job = site.job("slow", request={"steps": 5})
    job._lines = None
    whole = site.link

    def cut(command, data):
        result = whole(command, data)
        return CommandResult(0, result.stdout[: len(result.stdout) // 2], "") if whole.commands % 2 else result

    job._run = cut
    assert site.verdict(job)["outcome"] == "success"
    assert (site.folder / "out.log").read_bytes() == bytes(site.out)


def test_the_words_of_a_login_shell_before_the_answer_do_no_harm(site):
    job = site.job("good")
    words, plain = "echo Welcome; echo '{\"v\":9}'; ", site.link
    job._run = lambda command, data: plain(words + command, data)
    job._lines = lambda command: plain.lines(words + command)
    assert site.verdict(job)["outcome"] == "success"


FOLLOWER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job import *
import subprocess
def run(command, data):
    done = subprocess.run(["/bin/sh", "-c", command], input=data or b"", capture_output=True)
    return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())
spec = json.loads(sys.argv[2])
spec["command"] = tuple(spec["command"])
job = RemoteJob(run, JobSpec(**spec), python=sys.executable)
follow_job(job, on_out=lambda data: (sys.stdout.buffer.write(data), sys.stdout.flush()), on_err=lambda data: None)
"""


def test_the_same_run_attaches_again_after_the_workstation_was_killed(site):
    job = site.job("slow", request={"steps": 25})
    spec = job.spec
    keys = ("run_id", "folder", "command", "request_path", "timeout_s")
    given = json.dumps({key: getattr(spec, key) for key in keys})
    with subprocess.Popen(
        [sys.executable, "-c", FOLLOWER, str(ROOT / "dev"), given], stdout=subprocess.PIPE
    ) as follower:
        assert b"progress" in follower.stdout.readline()
        follower.kill()
    end = site.follow(job)
    assert end.attached
    assert site.stream.last_word(end.exit_code)["outcome"] == "success"
    assert (site.folder / "out.log").read_bytes() == bytes(site.out)
    assert len(site.started_pids()) == 1


def test_two_that_start_the_same_run_at_once_start_it_once(site):
    jobs = [site.job("slow", request={"steps": 5}) for _unused in range(4)]
    starts = []
    for job in jobs:
        job._run = lambda text, data: starts.append((text, data)) or lose()
        with pytest.raises(ConnectionLost):
            job.start()
    running = [
        subprocess.Popen(["/bin/sh", "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for text, _d in starts
    ]
    answers = [process.communicate(data)[0] for process, (_text, data) in zip(running, starts, strict=True)]
    assert sorted(json.loads(answer.split(b" ", 1)[1])["attached"] for answer in answers) == [False, True, True, True]
    site.follow(site.job("slow", request={"steps": 5}))
    assert len(site.started_pids()) == 1


def test_a_run_id_stands_for_one_command(site):
    site.follow(site.job("good"))
    with pytest.raises(RemoteBuildError, match="already known with another command"):
        site.follow(site.job("failed"))


class Stop(Exception):
    pass


@pytest.mark.parametrize("mode", ["hang", "stubborn"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, BuildCancelledError, Stop])
def test_whatever_ends_the_following_ends_the_job(site, mode, error):
    shielded = []

    def on_out(data: bytes) -> None:
        raise error("enough")

    began = time.monotonic()
    with pytest.raises(error):
        site.follow(site.job(mode), on_out=on_out, shield=lambda: shielded.append(len(site.left())))
    assert site.left() == []
    assert shielded[0] >= 2
    assert json.loads((site.folder / "result.json").read_bytes())["reason"] == "cancelled"
    assert time.monotonic() - began < 10


def test_a_cancellation_during_the_start_leaves_nothing(site):
    def interrupt(count):
        if count == 1:
            raise KeyboardInterrupt

    site.link.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        site.follow(site.job("hang"))
    assert site.left() == []


def test_a_cancellation_goes_through_a_link_that_comes_and_goes(site):
    site.link.before = lambda count: 2 < count < 6 and lose()

    def check():
        if site.link.commands >= 2:
            raise BuildCancelledError("enough")

    with pytest.raises(BuildCancelledError):
        site.follow(site.job("hang"), check=check)
    assert site.link.commands == 6
    assert site.left() == []


def test_a_cancellation_without_a_link_gives_up_in_time(site):
    job = site.job("hang")
    site.link.before = lambda count: count > 1 and lose()
    now = [0.0]

    def check():
        if site.link.commands:
            raise BuildCancelledError("enough")

    with pytest.raises(BuildCancelledError):
        site.follow(job, check=check, clock=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    assert QUICK.cancel_s <= now[0] < QUICK.cancel_s + 2
    site.link.before = lambda count: None
    assert job.cancel()["empty"]


def test_a_link_gone_for_too_long_leaves_the_job_alone(site):
    job = site.job("hang")
    site.link.before = lambda count: count > 2 and lose("no route to host")
    now = [0.0]
    with pytest.raises(CompanionUnreachableError, match=r"lost the companion.*no route to host") as caught:
        site.follow(job, clock=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    assert caught.value.details["run_id"] == RUN
    assert (
        f"The build goes on. Mend the link, then: operator-tool build-cache --attach {RUN}" in caught.value.remediation
    )
    assert len(site.left()) == 2
    site.link.before = lambda count: None
    answer = job.cancel()
    assert answer["empty"]
    assert answer["state"] == "ended"


@pytest.mark.parametrize(("status", "said"), [(255, "ssh: connect timed out"), (-9, "")])
def test_ssh_that_says_so_or_was_killed_itself_has_lost_the_link(site, status, said):
    job = site.job("good")
    job._run = lambda command, data: CommandResult(status, "", said)
    with pytest.raises(ConnectionLost, match=said or "ssh was ended by signal 9"):
        job.start()


def test_silence_beyond_the_limit_is_a_stall_and_ends_the_job(site):
    limits = JobLimits(stall_s=0.3, poll_wait_s=0.2, gather_s=0.0)
    with pytest.raises(RemoteBuildError, match=r"silent for \d+ s and was stopped") as caught:
        site.follow(site.job("hang"), limits=limits)
    assert caught.value.details["stalled_s"] >= 0.3
    assert site.left() == []


def test_the_companion_ends_a_job_at_its_time_limit(site):
    with pytest.raises(RemoteBuildError, match="did not end within its time"):
        site.verdict(site.job("hang", timeout_s=0.5))


def test_a_job_that_nobody_follows_ends_with_its_lease(site):
    job = site.job("hang", lease_s=0.4)
    job.start()
    site.await_supervisor_end()
    assert site.left() == []
    with pytest.raises(RemoteBuildError, match="nobody followed the build"):
        site.verdict(job)


def test_a_followed_job_keeps_its_lease(site):
    limits = JobLimits(poll_wait_s=0.2, gather_s=0.0)
    report = site.verdict(site.job("slow", request={"steps": 50}, lease_s=1.5), limits=limits)
    assert report["outcome"] == "success"


def test_a_job_whose_folder_was_removed_ends(site):
    job = site.job("hang")
    job.start()
    with (site.folder / "alive").open("rb") as file:
        subprocess.run(["rm", "-rf", str(site.folder)], check=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    assert site.left() == []
    assert not site.folder.exists()


def test_daemons_of_the_builder_are_ended_before_its_word_is_taken(site):
    end = site.follow(site.job("daemons"))
    assert end.leftover_processes == 3
    assert end.empty
    holders = [pid for pid in _job_processes.parents() if has_open(pid, str(site.root / "held-open"))]
    assert holders == []


def has_open(pid: int, path: str) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{name}") == path for name in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def test_a_killed_supervisor_is_a_lost_job_and_its_builder_is_ended(site):
    job = site.job("stubborn")
    job.start()
    supervisor = _job_folder.supervisor_pid(str(site.folder))

    def on_out(data: bytes) -> None:
        os.kill(supervisor, signal.SIGKILL)

    end = site.follow(job, on_out=on_out)
    assert end.reason == "lost"
    assert end.empty
    with pytest.raises(RemoteBuildError, match="the build was lost"):
        build_verdict(end, site.stream)


def test_a_builder_that_writes_too_much_is_ended(site):
    with pytest.raises(RemoteBuildError, match="wrote more than its log may hold"):
        site.verdict(site.job("long_line", request={"size": 64}, out_cap_bytes=3_000_000))
    assert (site.folder / "out.log").stat().st_size == 3_000_000


def test_one_line_of_many_megabytes_is_cut_and_what_follows_is_read(site):
    report = site.verdict(site.job("long_line", request={"size": 8}))
    assert report["outcome"] == "success"
    (line,) = site.records
    assert line["cut"]
    assert len(line["text"]) == 65536


def test_memory_has_a_limit_in_a_session_too(site):
    with pytest.raises(BuildReportParseError, match="without a report of this run; exit status 1"):
        site.verdict(site.job("memory", memory_max_bytes=200 << 20))
    assert "MemoryError" in site.stream.tail[-1]


def test_a_supervisor_that_is_told_to_stop_says_so(site):
    job = site.job("hang")
    job.start()
    os.kill(_job_folder.supervisor_pid(str(site.folder)), signal.SIGTERM)
    with pytest.raises(RemoteBuildError, match="the companion stopped the build"):
        site.verdict(job)


def test_a_missing_builder_is_said_plainly(site):
    with pytest.raises(RemoteBuildError, match="no program 'no-such-builder' on the PATH"):
        site.follow(site.job("good", command=("no-such-builder", "build")))


def test_a_builder_that_cannot_be_executed_is_said_plainly(site):
    broken = site.root / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(RemoteBuildError, match=r"could not be started: .*broken"):
        site.verdict(site.job("good", command=(str(broken),)))


PARSE, FAILED = BuildReportParseError, RemoteBuildError


@pytest.mark.parametrize(
    ("mode", "error", "says"),
    [
        ("no_report", PARSE, "without a report of this run; exit status 0"),
        ("success_with_exit_1", PARSE, "the report says success; exit status 1"),
        ("failure_with_exit_0", PARSE, "the report says failure; exit status 0"),
        ("two_reports", PARSE, "reported more than once"),
        ("words_after", PARSE, "not its last line"),
        ("forged_in_text", PARSE, "without a report of this run"),
        ("forged_nonce", PARSE, r"one of another run was refused"),
        ("other_flight", PARSE, "about another flight"),
        ("failed", FAILED, r"the builder failed \(decode\): too many bad tiles"),
        ("segfault", FAILED, "killed by SIGSEGV"),
        ("killed", FAILED, "killed by SIGKILL, probably because memory ran out"),
    ],
)
def test_evil_builders_end_in_the_typed_failure(site, mode, error, says):
    with pytest.raises(error, match=says) as caught:
        site.verdict(site.job(mode))
    assert type(caught.value) is error
    assert isinstance(caught.value.details["tail"], list)


def test_a_report_of_another_run_before_the_right_one_is_flagged_and_does_not_count(site):
    assert site.verdict(site.job("forged_then_good"))["outcome"] == "success"
    assert site.stream.foreign_reports == 1


def test_no_escape_reaches_anyone(site):
    assert site.verdict(site.job("escapes"))["outcome"] == "success"
    text = "".join(str(value) for record in site.records for value in record.values()) + "".join(site.stream.tail)
    assert all(letter.isprintable() or letter in "\t\u202e" for letter in text)
    assert any(record.get("text") == "red\ufffd31m" for record in site.records)


def test_no_secret_of_a_talking_builder_gets_through_in_any_encoding(site):
    secrets = ast.literal_eval(EVIL.read_text().split("CANARIES = ")[1].split("\n")[0])
    redactor = Redactor(secrets)
    site.stream = site.fresh_stream(redactor.redact)
    out, err = redactor.stream(), redactor.stream()
    log = bytearray()

    def on_out(data: bytes) -> None:
        for at in range(0, len(data), 7):
            clean = out.feed(data[at : at + 7])
            log.extend(clean)
            site.stream.feed(clean)

    end = site.follow(site.job("secrets"), on_out=on_out, on_err=lambda d: site.stream.feed_people(err.feed(d)))
    rest = out.close()
    site.stream.feed(rest)
    site.stream.feed_people(err.close())
    with pytest.raises(RemoteBuildError) as caught:
        build_verdict(end, site.stream)
    seen = text_of(site) + json.dumps(caught.value.to_dict())
    for shown in (seen.replace("\\\\", "\\").lower(), (log + rest).decode("latin-1").lower()):
        assert "canary" not in shown
        assert b"canary".hex() not in shown
    assert "<redacted>" in caught.value.message
    assert caught.value.remediation == "<redacted>"


def test_the_builder_sees_nothing_of_the_sessions_environment(site, monkeypatch):
    monkeypatch.setenv("FLIGHTS_API_AUTH_TOKEN", "canary")
    monkeypatch.setenv("LD_PRELOAD", "")
    site.verdict(site.job("environment", environment={"CUDA_VISIBLE_DEVICES": "0"}))
    seen = json.loads(site.records[0]["text"])
    assert set(seen) - {"LC_CTYPE", "PWD", "SHLVL", "_"} == {
        "PATH", "HOME", "LANG", "PYTHONUNBUFFERED", "GPS_DENIED_JOB", "CUDA_VISIBLE_DEVICES"
    }  # fmt: skip
    assert seen["PATH"].startswith(os.path.dirname(sys.executable) + ":/usr")


def test_the_folder_is_for_its_owner_only_and_no_link_is_followed(site):
    site.follow(site.job("good"))
    assert site.folder.stat().st_mode & 0o777 == 0o700
    other = Site(site.root / "other")
    target = site.root / "target"
    target.mkdir(mode=0o755)
    other.folder.symlink_to(target)
    with pytest.raises(RemoteBuildError, match="is not a folder of this user"):
        other.follow(other.job("good"))
    assert list(target.iterdir()) == []


def test_a_running_job_is_not_cleaned_away(site):
    job = site.job("hang")
    job.start()
    with pytest.raises(RemoteBuildError, match="still runs"):
        job.clean()
    assert job.cancel()["empty"]
    assert job.cancel()["empty"]
    job.clean()
    assert job.cancel() == {"state": "absent", "empty": True, "v": 1}


def test_a_companion_without_python_is_said_plainly(site):
    job = RemoteJob(site.link, site.job("good").spec, python="/no/such/python3")
    with pytest.raises(RemoteBuildError, match=r"did not answer as the job program does \(exit status 127\)"):
        job.start()


@pytest.mark.parametrize("text", ["{}", "[1}", '{"v": 2}'])
def test_an_answer_of_another_version_is_refused(site, text):
    job = site.job("good")
    job._run = lambda command, data: CommandResult(0, "GPS-DENIED-JOB " + text + "\n", "")
    with pytest.raises(RemoteBuildError, match="not of this job program's version"):
        job.start()


def tally(folder: Path) -> str:
    words = [sys.executable, "-I", "-S", "-c", TALLY_PROGRAM, str(folder)]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def test_the_report_is_held_against_the_disk(tmp_path):
    report = {"outcome": "success", "artifacts": {"files": 2, "bytes": 8, "manifest_sha256": None}}
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(BuildReportParseError, match="reports success, and has left no file"):
            check_artifacts(report, tally(missing))
    (tmp_path / "deeper").mkdir()
    (tmp_path / "index.json").write_text("12345")
    with pytest.raises(BuildReportParseError, match="reports 2 files, and 1 are on the disk"):
        check_artifacts(report, tally(tmp_path))
    (tmp_path / "deeper" / "rows").write_text("123")
    check_artifacts(report, tally(tmp_path))
    check_artifacts({"outcome": "success", "artifacts": None}, tally(tmp_path))
    with pytest.raises(BuildReportParseError, match="reports 9 bytes, and 8 are on the disk"):
        check_artifacts({**report, "artifacts": {"bytes": 9}}, tally(tmp_path))
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(BuildReportParseError, match="that is not a file"):
        check_artifacts(report, tally(tmp_path))


@pytest.mark.parametrize("text", ["", "1", "a b", "Welcome to this companion"])
def test_a_folder_that_cannot_be_looked_at_is_no_success(text):
    with pytest.raises(BuildReportParseError, match="could not be looked at"):
        check_artifacts({"outcome": "success", "artifacts": None}, text)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"run_id": "../x"}, "run_id"),
        ({"run_id": "a\n"}, "run_id"),
        ({"command": ()}, "command is empty"),
        ({"folder": "jobs"}, "not an absolute path"),
        ({"request_path": "r.json"}, "not an absolute path"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"lease_s": -1}, "lease_s"),
    ],
)
def test_a_senseless_job_is_refused(site, change, says):
    with pytest.raises(ValueError, match=says):
        site.job("good", **change)


def test_the_program_is_python_3_8():
    ast.parse(job_source(), feature_version=(3, 8))
