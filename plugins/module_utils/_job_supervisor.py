# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the companion, as a part of `_job_program`: runs the command to its end, and leaves no process behind.

Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import time

from ._job_folder import lock_file, read_json, write_once
from ._job_processes import (
    become_subreaper,
    clean_environment,
    descendants,
    kill_descendants,
    oom_kills,
    reap,
    signal_all,
)

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["CappedLog", "Supervisor"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Tuple

RESULT_VERSION = 1
READ_AT_ONCE_BYTES = 1 << 20
KILL_GRACE_S = 3.0
DRAIN_S = 1.0
SAME_STOP_S = 0.2
"""A shutdown sends its signal to the command and to this process at once; either may be reached first."""


class CappedLog:
    """A log that takes bytes up to its cap, and says when that is reached."""

    def __init__(self, path: str, cap_bytes: int) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._room_bytes = cap_bytes
        self.size_bytes = 0
        self.problem = ""

    def add(self, data: bytes) -> bool:
        """Write what fits; False, with the reason in `problem`, when not everything did."""
        view = memoryview(data)[: self._room_bytes]
        if len(view) < len(data):
            self.problem = "the command wrote more than its log may hold"
        try:
            while view:
                done = os.write(self._handle, view)
                view = view[done:]
                self._room_bytes -= done
                self.size_bytes += done
        except OSError as exc:
            self.problem = "the command's output cannot be kept: %s" % exc.strerror
        return not self.problem


class Supervisor:
    """Runs the command of one job to its end, whatever that end is; a job whose folder was removed ends too."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.spec = read_json(os.path.join(folder, "spec.json")) or {}
        self.reason = ""
        self.message = ""
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._terminate = False

    def run(self) -> None:
        import json
        import signal

        lock = lock_file(os.path.join(self.folder, "alive"), wait=False)
        if lock is None:
            return
        become_subreaper()
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_terminate)
        signal.signal(signal.SIGCHLD, self._on_child)
        out = CappedLog(os.path.join(self.folder, "out.log"), int(self.spec["log_cap_bytes"]))
        err = CappedLog(os.path.join(self.folder, "err.log"), int(self.spec["err_cap_bytes"]))
        started_at, began = time.time(), time.monotonic()
        os.write(lock, b"%d\n" % os.getpid())
        status, leftover, empty = self._work(out, err)
        result = {
            "v": RESULT_VERSION,
            "reason": self.reason,
            "message": self.message,
            "exit_code": os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None,
            "out_bytes": out.size_bytes,
            "err_bytes": err.size_bytes,
            "leftover_processes": leftover,
            "empty": empty,
            "started_at": started_at,
            "duration_s": round(time.monotonic() - began, 3),
            "oom_kills": oom_kills(),
        }
        if self.reason != "abandoned":
            write_once(os.path.join(self.folder, "result.json"), json.dumps(result).encode())

    def _on_terminate(self, _number: int, _frame: Any) -> None:
        self._terminate = True

    def _on_child(self, _number: int, _frame: Any) -> None:
        """Only there so that the wake-up descriptor is written."""

    def _work(self, out: CappedLog, err: CappedLog) -> Tuple[Optional[int], int, bool]:
        import subprocess

        try:
            process = subprocess.Popen(
                [*self.spec["command"], "--request", self.spec["request_path"]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.folder,
                env=clean_environment(self.spec),
                start_new_session=True,
                preexec_fn=self._prepare_child,  # noqa: PLW1509 - this process has one thread
            )
        except (OSError, subprocess.SubprocessError) as exc:
            self.reason, self.message = "spawn_failed", "%s: %s" % (self.spec["command"][0], exc)
            return None, 0, True
        streams = {process.stdout.fileno(): out, process.stderr.fileno(): err}  # type: ignore[union-attr]
        try:
            status = self._follow(process.pid, streams)
            # The command itself has ended; what it left behind must not outlive it.
            left = [pid for pid in descendants(os.getpid()) if pid != process.pid]
            empty = kill_descendants(0.0)
            self._copy_until(streams, time.monotonic() + DRAIN_S)
        finally:
            kill_descendants(0.0)
            process.returncode = 0  # Reaped above: the destructor has nothing to wait for.
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        return status, len(left), empty

    def _prepare_child(self) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        memory_bytes = int(self.spec.get("memory_max_bytes") or 0)
        if memory_bytes and self.spec.get("mode") == "session":
            # No control group to limit the whole job: at least no process of it takes all of the memory.
            resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
        try:
            with open("/proc/self/oom_score_adj", "wb") as file:
                # Where memory runs out, the build goes before anything that flies the vehicle.
                file.write(b"500")
        except OSError:
            return

    def _follow(self, pid: int, streams: Dict[int, CappedLog]) -> Optional[int]:
        """Copy output and watch the limits until the command has ended; its wait status."""
        deadline = time.monotonic() + float(self.spec["timeout_s"])
        lease_s = float(self.spec.get("lease_s") or 0)
        lease_seen, lease_at = self._lease(), time.monotonic()
        kill_at: Optional[float] = None
        while True:
            done, status = reap(pid)
            if done:
                if not self.reason and status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == 15:
                    time.sleep(SAME_STOP_S)
                    self.reason = self._asked_to_stop()
                self.reason = self.reason or "exited"
                return status
            now = time.monotonic()
            if self._lease() != lease_seen:
                lease_seen, lease_at = self._lease(), now
            if not self.reason:
                self.reason = self._asked_to_stop()
                if not self.reason and now > deadline:
                    self.reason = "timeout"
                elif not self.reason and not os.path.isdir(self.folder):
                    self.reason = "abandoned"
                elif not self.reason and lease_s and now - lease_at > lease_s:
                    self.reason = "lease_expired"
                if self.reason:
                    signal_all(descendants(os.getpid()), 15)
                    kill_at = now + float(self.spec.get("grace_s", KILL_GRACE_S))
            elif kill_at is not None and now > kill_at:
                kill_descendants(0.0, keep=pid)
                signal_all([pid], 9)
            problem = self._copy(streams, 0.25)
            if problem and not self.reason:
                self.reason, self.message = "output_limit", problem
                signal_all(descendants(os.getpid()), 9)
                kill_at = now

    def _asked_to_stop(self) -> str:
        """Why this process was sent a signal, or nothing."""
        if not self._terminate:
            return ""
        return "cancelled" if os.path.exists(os.path.join(self.folder, "cancel")) else "stopped"

    def _lease(self) -> int:
        try:
            return os.stat(os.path.join(self.folder, "lease")).st_mtime_ns
        except OSError:
            return 0

    def _copy(self, streams: Dict[int, CappedLog], wait_s: float) -> str:
        """Wait for output, a signal or `wait_s`; what keeps a log from taking more, or nothing."""
        import select

        ready, _none, _none_too = select.select([*streams, self._wake_read], [], [], wait_s)
        problem = ""
        for handle in ready:
            data = os.read(handle, READ_AT_ONCE_BYTES)
            if handle == self._wake_read:
                continue
            if not data:
                del streams[handle]
            elif not streams[handle].add(data):
                problem = streams[handle].problem
        return problem

    def _copy_until(self, streams: Dict[int, CappedLog], deadline: float) -> None:
        while streams and time.monotonic() < deadline:
            self._copy(streams, 0.05)
