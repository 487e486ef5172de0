# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A long job on the companion, seen from the workstation: start or re-attach, follow, cancel.

The transport is a callable that runs one shell command on the companion. When the link breaks it raises
`ConnectionLost`; the job goes on over there, and following goes on at the same byte once the link is back. Where there
is also a `LineStream`, one command follows the job for as long as `JobLimits.follow_s`, instead of one for each answer.
"""

from __future__ import annotations

import binascii
import json
import posixpath
import re
import shlex
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Generator, Mapping, Optional, Tuple

from ._errors import CacheBuildError, CompanionUnreachableError, RemoteBuildError
from ._job_bundle import job_source
from ._job_poll import VERSION
from ._job_program import ANSWER_MARK

__all__ = [
    "CommandResult",
    "ConnectionLost",
    "JobEnd",
    "JobLimits",
    "JobSpec",
    "LineStream",
    "RemoteJob",
    "follow_job",
]

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_BOOTSTRAP = (
    'import sys;d=sys.stdin.buffer.read();g={"__name__":"job"};exec(d.partition(b"\\n")[2],g);g["main_sent"](d)'
)


class ConnectionLost(Exception):  # noqa: N818 - an event that is waited out, not yet an error
    """The transport lost the companion; what the command did there is not known."""


@dataclass(frozen=True)
class CommandResult:
    """What a shell command on the companion answered."""

    rc: int
    stdout: str
    stderr: str


Transport = Callable[[str, Optional[bytes]], CommandResult]
LineStream = Callable[[str], Generator[str, None, CommandResult]]
"""Runs one shell command and gives each whole line that it prints as soon as it is there."""


@dataclass(frozen=True)
class JobSpec:
    """One job; `folder` is an absolute path on the companion, `request_path` the argument of `--request`.

    `lease_s` 0 lets the job go on though nobody follows it; `grace_s` lies between SIGTERM and SIGKILL.
    `memory_max_bytes` (0: none) limits the job in a unit, and each of its processes in a session; `network` is closed
    only in a unit of the system. `mode` is `auto`, or one of `system` (a unit of the machine's systemd), `user` (a unit
    of the user's), `session` (a process session; where there is no systemd).
    """

    run_id: str
    folder: str
    command: Tuple[str, ...]
    request_path: str
    timeout_s: float = 6 * 3600.0
    lease_s: float = 0.0
    grace_s: float = 3.0
    out_cap_bytes: int = 512 * 1024 * 1024
    err_cap_bytes: int = 64 * 1024 * 1024
    memory_max_bytes: int = 0
    tasks_max: int = 512
    network: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    mode: str = "auto"

    def __post_init__(self) -> None:
        if not _RUN_ID.match(self.run_id):
            raise ValueError("run_id %r is not made of letters, digits, dot, dash and underscore" % self.run_id)
        if not self.command or not all(self.command):
            raise ValueError("the builder's command is empty")
        for name, path in (("folder", self.folder), ("request_path", self.request_path)):
            if not posixpath.isabs(path):
                raise ValueError("%s %r is not an absolute path" % (name, path))
        if self.timeout_s <= 0 or self.lease_s < 0:
            raise ValueError("timeout_s must be positive and lease_s not negative")

    def to_dict(self) -> Dict[str, Any]:
        """What the program on the companion is told."""
        return {
            "run_id": self.run_id,
            "folder": self.folder,
            "unit": "gps-denied-job-" + self.run_id,
            "command": list(self.command),
            "request_path": self.request_path,
            "timeout_s": self.timeout_s,
            "lease_s": self.lease_s,
            "grace_s": self.grace_s,
            "log_cap_bytes": self.out_cap_bytes,
            "err_cap_bytes": self.err_cap_bytes,
            "memory_max_bytes": self.memory_max_bytes,
            "tasks_max": self.tasks_max,
            "network": self.network,
            "environment": dict(self.environment),
            "mode": self.mode,
        }


@dataclass(frozen=True)
class JobLimits:
    """How long to be patient, all in seconds.

    `link_loss_s`: the link may be gone this long; `stall_s`: the job may be silent this long; `poll_wait_s`: an
    answer comes after this long at the latest; `gather_s`: it waits this long for more, once there is something;
    `follow_s`: one command goes on answering for this long, where the transport streams.
    """

    link_loss_s: float = 600.0
    stall_s: float = 90.0
    poll_wait_s: float = 5.0
    gather_s: float = 0.1
    follow_s: float = 60.0
    retry_s: float = 1.0
    start_grace_s: float = 60.0
    cancel_s: float = 10.0


@dataclass(frozen=True)
class JobEnd:
    """How the job ended, in the words of its supervisor.

    `reason`: exited, cancelled, stopped (by the companion: it was shut down, or somebody stopped the unit), timeout,
    lease_expired, output_limit, spawn_failed, or lost (the supervisor was killed, or the power failed). `empty` says
    that no process of it was left.
    """

    reason: str
    exit_code: Optional[int]
    signal: Optional[int]
    message: str
    empty: bool
    leftover_processes: int
    oom_kills: int
    duration_s: float
    attached: bool
    mode: str


class RemoteJob:
    """The verbs of one job, each one shell command over the transport."""

    def __init__(
        self, run: Transport, spec: JobSpec, *, python: str = "python3", lines: Optional[LineStream] = None
    ) -> None:
        self._run = run
        self._lines = lines
        self._python = shlex.quote(python)
        self._program = ""
        self.spec = spec
        self.attached = False
        self.mode = ""

    def start(self) -> Dict[str, Any]:
        """Start the job, or find it where an earlier run started it."""
        answer = self._send(dict(self.spec.to_dict(), verb="start"))
        self._program = str(answer["program"])
        # A start whose answer the link swallowed was this run's own.
        self.attached = bool(answer["attached"])
        self.mode = str(answer.get("mode") or "")
        return answer

    def follow(self, *, out: int, err: int, limits: JobLimits) -> Generator[Dict[str, Any], None, None]:
        """Answers with output from the offsets on and the state, at least one, for a while; closing it ends it there.

        Raises:
            ConnectionLost: the link broke; nothing is known beyond the last answer.
            RemoteBuildError: what answered is not the job program.
        """
        for_s = limits.follow_s if self._lines else 0.0
        if self.spec.lease_s:
            for_s = min(for_s, self.spec.lease_s / 3)  # Each beginning renews the lease.
        numbers = (out, err, limits.poll_wait_s, limits.gather_s, for_s)
        words = (self._program, "follow", self.spec.folder, *(str(number) for number in numbers))
        command = "exec %s -I -S %s" % (self._python, " ".join(shlex.quote(word) for word in words))
        if self._lines is None:
            yield self._ask(command, None)
            return
        heard = ""
        lines = self._lines(command)
        try:
            while True:
                line = next(lines)
                if line.startswith(ANSWER_MARK):
                    heard = line
                    yield _answer(line[len(ANSWER_MARK) :])
        except StopIteration as end:
            result: CommandResult = end.value
            _check_link(result)
            if not heard:
                raise _no_answer(result) from None
        finally:
            lines.close()

    def cancel(self) -> Dict[str, Any]:
        """End the job with everything it started; needs no answer of `start`, which a signal may have cut short."""
        return self._send({"verb": "cancel", "folder": self.spec.folder})

    def clean(self) -> None:
        """Remove the job's folder."""
        self._send({"verb": "clean", "folder": self.spec.folder})

    def _send(self, request: Mapping[str, Any]) -> Dict[str, Any]:
        command = "umask 022; %s -I -S -c %s" % (self._python, shlex.quote(_BOOTSTRAP))
        return self._ask(command, json.dumps(dict(request)).encode() + b"\n" + job_source())

    def _ask(self, command: str, data: Optional[bytes]) -> Dict[str, Any]:
        result = self._run(command, data)
        _check_link(result)
        for line in reversed(result.stdout.splitlines()):
            if line.startswith(ANSWER_MARK):
                return _answer(line[len(ANSWER_MARK) :])
        raise _no_answer(result)


def _check_link(result: CommandResult) -> None:
    if result.rc == 255 or result.rc < 0:  # ssh says that the link is gone, or was killed itself
        raise ConnectionLost(result.stderr.strip()[-500:] or "ssh was ended by signal %d" % -result.rc)


def _no_answer(result: CommandResult) -> RemoteBuildError:
    return RemoteBuildError(
        "the companion did not answer as the job program does (exit status %d): %s"
        % (result.rc, (result.stderr or result.stdout).strip()[-500:]),
        details={"rc": result.rc},
    )


def _answer(text: str) -> Dict[str, Any]:
    if not text.rstrip().endswith("}"):
        # A line cut short is a broken link, not a broken companion.
        raise ConnectionLost("the companion's answer was cut short")
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or value.get("v") != VERSION:
        raise RemoteBuildError("the companion's answer is not of this job program's version")
    if "error" in value:
        raise RemoteBuildError("the companion refused: %s" % value["error"])
    return value


class _Follower:
    def __init__(
        self,
        job: RemoteJob,
        limits: JobLimits,
        *,
        sinks: Mapping[str, Callable[[bytes], None]],
        on_link: Callable[[bool], None],
        check: Callable[[], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._job = job
        self._limits = limits
        self._sinks = sinks
        self._on_link = on_link
        self._check = check
        self._clock = clock
        self._sleep = sleep
        self._offsets = {"out": 0, "err": 0}
        self._heard_at = clock()
        self._answers: Optional[Generator[Dict[str, Any], None, None]] = None
        self._deadline = clock() + job.spec.timeout_s + limits.start_grace_s + limits.link_loss_s

    def over_the_link(self, act: Callable[[], Dict[str, Any]], what: str) -> Dict[str, Any]:
        """`act`, again and again while the link is down, for `link_loss_s` at most."""
        lost_at: Optional[float] = None
        while True:
            self._check()
            try:
                answer = act()
            except ConnectionLost as exc:
                now = self._clock()
                if lost_at is None:
                    lost_at = now
                    self._on_link(False)
                if now - lost_at > self._limits.link_loss_s:
                    raise CompanionUnreachableError(
                        "lost the companion while waiting to %s run %s, %.0f s long: %s"
                        % (what, self._job.spec.run_id, now - lost_at, exc),
                        remediation="The build goes on. Mend the link, then: operator-tool build-cache --attach %s"
                        % self._job.spec.run_id,
                        details={"run_id": self._job.spec.run_id, "folder": self._job.spec.folder},
                    ) from None
                self._sleep(self._limits.retry_s)
                continue
            if lost_at is not None:
                self._on_link(True)
            return answer

    def follow(self) -> JobEnd:
        limits = self._limits
        while True:
            answer = self.over_the_link(self._next_answer, "follow")
            more = [self._take(name, answer[name]) for name in ("out", "err")]
            state = answer["state"]
            if any(more):
                continue
            if state == "ended":
                return self._end(answer["result"])
            if state != "running":
                return self._end({"reason": "lost", "message": "the job's supervisor is gone without a result"})
            now = self._clock()
            if now - self._heard_at > limits.stall_s:
                raise RemoteBuildError(
                    "the builder was silent for %.0f s and was stopped" % (now - self._heard_at),
                    remediation="Look at the companion's load and temperature, or raise the stall timeout.",
                    details={"stalled_s": round(now - self._heard_at, 1)},
                )
            if now > self._deadline:
                raise RemoteBuildError("the job did not end within its time and was stopped")

    def _next_answer(self) -> Dict[str, Any]:
        while True:
            if self._answers is None:
                self._answers = self._job.follow(limits=self._limits, **self._offsets)
            try:
                return next(self._answers)
            except StopIteration:
                self._answers = None
            except BaseException:
                self._answers = None
                raise

    def close(self) -> None:
        """End the command that follows the job."""
        answers, self._answers = self._answers, None
        if answers is not None:
            answers.close()

    def _take(self, name: str, chunk: Mapping[str, Any]) -> bool:
        """Hand on new bytes; whether more are waiting."""
        if chunk["offset"] != self._offsets[name]:
            raise RemoteBuildError("the companion answered for another place of the output")
        data = binascii.a2b_base64(chunk["data"])
        if data:
            self._heard_at = self._clock()
            self._offsets[name] += len(data)
            self._sinks[name](data)
        return bool(data) and int(chunk["size"]) > self._offsets[name]

    def _end(self, result: Mapping[str, Any]) -> JobEnd:
        empty = bool(result.get("empty"))
        if not empty:
            empty = bool(self.over_the_link(self._job.cancel, "stop")["empty"])
        return JobEnd(
            reason=str(result["reason"]),
            exit_code=result.get("exit_code"),
            signal=result.get("signal"),
            message=str(result.get("message", "")),
            empty=empty,
            leftover_processes=int(result.get("leftover_processes") or 0),
            oom_kills=int(result.get("oom_kills") or 0),
            duration_s=float(result.get("duration_s") or 0.0),
            attached=self._job.attached,
            mode=self._job.mode,
        )


def follow_job(
    job: RemoteJob,
    *,
    on_out: Callable[[bytes], None],
    on_err: Callable[[bytes], None],
    limits: Optional[JobLimits] = None,
    on_link: Callable[[bool], None] = lambda _up: None,
    check: Callable[[], None] = lambda: None,
    shield: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> JobEnd:
    """Start the job or re-attach to it, follow it to its end, and give its output from the first byte on.

    Args:
        job: The job.
        on_out: Takes the command's standard output; every byte once, in order.
        on_err: Takes its standard error likewise.
        limits: How long to be patient.
        on_link: Told False when the link breaks and True when it is back.
        check: Called before every command over the link; what it raises cancels the job.
        shield: Called before a cancellation, so that no second signal disturbs it.
        clock: Monotonic seconds.
        sleep: Waits between attempts while the link is down.

    Raises:
        CompanionUnreachableError: The link was down for longer than the limit; the job is left as it is.
        RemoteBuildError: The job could not be started, fell silent, or took too long. It has been cancelled.
        BaseException: What a callback or a signal handler raised, after the job has been cancelled.
    """
    patience = limits or JobLimits()
    follower = _Follower(
        job, patience, sinks={"out": on_out, "err": on_err}, on_link=on_link, check=check, clock=clock, sleep=sleep
    )
    try:
        follower.over_the_link(job.start, "start")
        return follower.follow()
    except CompanionUnreachableError:
        raise
    except BaseException:
        shield()
        follower.close()
        _cancel_within(job, patience, clock, sleep)
        raise
    finally:
        follower.close()


def _cancel_within(
    job: RemoteJob, limits: JobLimits, clock: Callable[[], float], sleep: Callable[[float], None]
) -> bool:
    """Cancel, also over a link that comes and goes, for `cancel_s` at most; whether nothing is left."""
    deadline = clock() + limits.cancel_s
    while True:
        try:
            return bool(job.cancel()["empty"])
        except (ConnectionLost, CacheBuildError):
            if clock() > deadline:
                return False
            sleep(min(0.5, limits.retry_s))
