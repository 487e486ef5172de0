# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the builder on the companion and follow it. Documentation: the module file of the same name."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import time
from typing import Any, Callable, ClassVar, Dict, Iterator

from ..module_utils._build_stream import BuildStream
from ..module_utils._errors import BuildCancelledError, FailurePhase, RemoteBuildError
from ..module_utils._redact import Redactor
from ..module_utils._remote_job import JobLimits, RemoteJob, follow_job
from ..module_utils._remote_job_verdict import TALLY_PROGRAM, build_verdict, check_artifacts
from ..module_utils._run import Run
from ..plugin_utils._companion_action import CompanionAction
from ..plugin_utils._companion_cleanup import clean_up_companion
from ..plugin_utils._job_spec import job_spec

CANCELLING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
SHOW_EVERY_S = 0.1
MAX_LOG_BYTES = 512 * 1024 * 1024


class ActionModule(CompanionAction):
    phase = FailurePhase.BUILD
    argument_spec: ClassVar[Dict[str, Any]] = {
        "link_loss_s": {"type": "float", "default": 600.0},
        "poll_wait_s": {"type": "float", "default": 5.0},
        "memory_max_bytes": {"type": "int", "default": 0},
        "network": {"type": "bool", "default": False},
    }

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        if self._task.check_mode:
            return {"changed": True}
        config, facts = run.config, self.facts_of(run)
        job_run_id = str(facts.get("job_run_id") or run.run_id)
        spec = job_spec(
            config,
            job_run_id,
            memory_max_bytes=arguments["memory_max_bytes"],
            network=arguments["network"],
        )
        limits = JobLimits(
            link_loss_s=arguments["link_loss_s"],
            stall_s=config.stall_timeout_s,
            poll_wait_s=arguments["poll_wait_s"],
        )
        redactor = Redactor(run.secrets())
        job = RemoteJob(self.job_transport, spec, python=self.companion_python(task_vars), lines=self.job_lines)
        out, err = redactor.stream(), redactor.stream()
        with _log_file(run.path(f"builder-{self.host}.ndjson")) as log, _cancelled_by_signals() as guard:
            stream = BuildStream(
                run_id=job_run_id,
                nonce=facts["nonce"],
                on_record=_Reporter(self.sink.emit, log),
                redact=redactor.redact,
            )
            try:
                end = follow_job(
                    job,
                    on_out=lambda data: stream.feed(out.feed(data)),
                    on_err=lambda data: stream.feed_people(err.feed(data)),
                    limits=limits,
                    on_link=self._on_link,
                    check=guard.check,
                    shield=guard.shield,
                )
            except BuildCancelledError:
                # Whoever cancelled may be dead already, and the playbook's own clean-up with it.
                clean_up_companion(self, run, task_vars, still_at_work=True)
                raise
            stream.feed(out.close())
            stream.feed_people(err.close())
            stream.close()
        try:
            report = build_verdict(end, stream, flight_id=facts["request"].get("flight_id"))
            folder = f"{config.companion_cache_root}/work/{job_run_id}/index"
            python = self.companion_python(task_vars)
            check_artifacts(report, self.command(python, "-I", "-S", "-c", TALLY_PROGRAM, folder).stdout)
        except RemoteBuildError as exc:
            if "build" in exc.details:
                run.journal.record("fact", phase=self.phase, host=self.host, build=exc.details["build"])
            raise
        run.journal.record("fact", phase=self.phase, host=self.host, build=report)
        self.sink.emit("phase", phase=self.phase, text=f"{report['outcome']} in {end.duration_s:.1f} s")
        return {"changed": report["outcome"] == "success", "build": report, "reattached": end.attached}

    def _on_link(self, up: bool) -> None:  # noqa: FBT001 - the callback's one fact
        text = "the link is back" if up else "the link is down; the build goes on, waiting for the link"
        self.sink.emit("warning", phase=self.phase, text=text)


class _Reporter:
    """Logs all of the builder's records, and shows them; of a fast series, one every `SHOW_EVERY_S`."""

    def __init__(self, emit: Callable[..., None], log: Callable[[Dict[str, Any]], None]) -> None:
        self._emit = emit
        self._log = log
        self._shown_at = 0.0

    def __call__(self, record: Dict[str, Any]) -> None:
        self._log(record)
        kind, text = str(record["t"]), record.get("text")
        done, total = record.get("done"), record.get("total")
        now = time.monotonic()
        if kind in ("progress", "heartbeat", "line"):
            if now - self._shown_at < SHOW_EVERY_S and done != total:
                return
            self._shown_at = now
        self._emit(
            {"hello": "phase", "heartbeat": "progress"}.get(kind, kind),
            phase=FailurePhase.BUILD,
            text=text if isinstance(text, str) else None,
            done=done if isinstance(done, (int, float)) else None,
            total=total if isinstance(total, (int, float)) else None,
            unit=record.get("unit") if isinstance(record.get("unit"), str) else None,
            step=record.get("phase") if isinstance(record.get("phase"), str) else None,
        )


@contextlib.contextmanager
def _log_file(path: str) -> Iterator[Callable[[Dict[str, Any]], None]]:
    """Every record of the builder, redacted, beside the run's journal; written from the start on a re-attach too."""
    room = MAX_LOG_BYTES
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:

        def write(record: Dict[str, Any]) -> None:
            nonlocal room
            line = json.dumps({"kind": "c10.remote.progress", **record}).encode() + b"\n"
            if len(line) > room:
                return
            with contextlib.suppress(OSError):  # The log is not worth a failed build.
                room -= file.write(line)

        yield write


class _Guard:
    """Tells the loop that the build is no longer wanted."""

    def __init__(self) -> None:
        self._parent_pid = os.getppid()

    def check(self) -> None:
        if os.getppid() != self._parent_pid:
            raise BuildCancelledError("ansible-playbook is gone, and the build was cancelled", phase=FailurePhase.BUILD)

    @staticmethod
    def shield() -> None:
        for number in CANCELLING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _cancelled_by_signals() -> Iterator[_Guard]:
    """Signals, and the death of ansible-playbook, raise; Ansible's own handlers would end the worker on the spot."""

    def on_signal(number: int, _frame: Any) -> None:
        raise BuildCancelledError(f"the build was cancelled by {signal.Signals(number).name}", phase=FailurePhase.BUILD)

    prctl = ctypes.CDLL(None).prctl
    before = {number: signal.signal(number, on_signal) for number in CANCELLING_SIGNALS}
    prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    try:
        yield _Guard()
    finally:
        prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
