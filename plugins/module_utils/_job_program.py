# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the companion: Python 3.8, standard library only, no import of its neighbours.

One long job that outlives the link. `_remote_job` sends this file's text and calls it through a shell command:

    start      make the job's folder, keep this program in it, and launch `supervise` in a unit or session of its own
    supervise  run the command, copy its output to size-capped logs, enforce the limits, leave no process behind
    poll       wait for output from a byte offset on, and answer with one line
    cancel     end the job with everything it started, and say whether it is gone
    clean      remove the folder of a job that has ended

The folder (0700): `spec.json`, `out.log` and `err.log` (the command's stdout and stderr), `alive` (locked by
the supervisor as long as it lives; holds its pid), `lease` (touched by every poll), `result.json` (written
once, at the end). A job without result whose `alive` is not locked was lost: killed, or the machine restarted.
Answers are one line, `ANSWER_MARK` and JSON, so that banners of the shell before it do no harm.
"""

from __future__ import annotations

import os
import sys
import time

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

# A poll is worth a few milliseconds of the companion: json and typing take longer to import than it takes to run,
# and are left to the verbs that are asked for once.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

ANSWER_MARK = "GPS-DENIED-JOB "
VERSION = 1
CHUNK_BYTES = 65536
MAX_CHUNK_BYTES = 2 * 1024 * 1024
LOOK_EVERY_S = 0.05
READ_AT_ONCE_BYTES = 1 << 20
KILL_GRACE_S = 3.0
DRAIN_S = 1.0
START_WAIT_S = 8.0
TRUNK = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RUN_MARK = "GPS_DENIED_JOB"


class JobError(Exception):
    """What the caller did wrong, or what the companion refused; its text is the answer's `error`."""


# --- files ----------------------------------------------------------------------------------------------------------


def write_once(path: str, data: bytes) -> None:
    """Atomic and durable: temporary name, write, fsync, rename, fsync the folder."""
    temporary = "%s.tmp.%d" % (path, os.getpid())
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    os.rename(temporary, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_text(path: str) -> Optional[str]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(handle, "rb") as file:
        return file.read(1 << 20).decode("utf-8")


def read_json(path: str) -> Optional[Dict[str, Any]]:
    import json

    text = read_text(path)
    if text is None:
        return None
    value = json.loads(text)
    if not isinstance(value, dict):
        raise JobError("%s does not hold an object" % path)
    return value


def size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def lock_file(path: str, *, wait: bool) -> Optional[int]:
    """A descriptor that holds the lock, or None where another process holds it."""
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def supervisor_pid(folder: str) -> Optional[int]:
    """The living supervisor's pid; 0 while it has not written it; None where none lives."""
    path = os.path.join(folder, "alive")
    if not os.path.exists(path):
        return None
    handle = lock_file(path, wait=False)
    if handle is not None:
        os.close(handle)
        return None
    with open(path, "rb") as file:
        text = file.read(32).strip()
    return int(text) if text.isdigit() else 0


# --- processes ------------------------------------------------------------------------------------------------------


def parents() -> Dict[int, int]:
    """Parent of every process of the machine, zombies left out."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                rest = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if rest and rest[0] not in (b"Z", b"X"):
            found[int(name)] = int(rest[1])
    return found


def descendants(root: int) -> List[int]:
    by_parent: Dict[int, List[int]] = {}
    for pid, parent in parents().items():
        by_parent.setdefault(parent, []).append(pid)
    found: List[int] = []
    pending = [root]
    while pending:
        children = by_parent.get(pending.pop(), [])
        found.extend(children)
        pending.extend(children)
    return found


def marked(run_id: str) -> List[int]:
    """Processes that carry the run's mark in the environment they were started with."""
    wanted = ("%s=%s" % (RUN_MARK, run_id)).encode()
    found = []
    for pid in parents():
        if pid == os.getpid():
            continue
        try:
            with open("/proc/%d/environ" % pid, "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(pid)
        except OSError:
            continue
    return found


def signal_all(pids: List[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


# --- start ----------------------------------------------------------------------------------------------------------


def install_and_start(spec: Dict[str, Any], source: bytes) -> Dict[str, Any]:
    """Make the folder, keep the program, launch the job; where the job exists already, only say so."""
    import hashlib
    import py_compile

    folder = spec["folder"]
    os.makedirs(folder, mode=0o700, exist_ok=True)
    found = os.lstat(folder)
    if os.path.islink(folder) or found.st_uid != os.getuid():
        raise JobError("%s is not a folder of this user" % folder)
    os.chmod(folder, 0o700)
    lock = lock_file(os.path.join(folder, "start.lock"), wait=True)
    try:
        program = os.path.join(folder, "job-%s.py" % hashlib.sha256(source).hexdigest()[:12])
        if not os.path.exists(program + "c"):
            write_once(program, source)
            py_compile.compile(program, cfile=program + "c", doraise=True)
        known = read_json(os.path.join(folder, "spec.json"))
        if known is not None:
            if known.get("asked") != spec["command"]:
                raise JobError("run %s is already known with another command" % spec["run_id"])
            return {"attached": True, "state": state_of(folder)[0], "mode": known.get("mode"), "program": program + "c"}
        spec["asked"] = spec["command"]
        spec["command"] = [found_program(spec["command"][0]), *spec["command"][1:]]
        mode = launch(spec, program)
        return {"attached": False, "state": state_of(folder)[0], "mode": mode, "program": program + "c"}
    finally:
        if lock is not None:
            os.close(lock)


def found_program(name: str) -> str:
    """The program's absolute path, looked up on the session's PATH: the job has a plain one."""
    import shutil

    path = shutil.which(name)
    if path is None:
        raise JobError("there is no program %r on the PATH" % name)
    return os.path.abspath(path)


def launch(spec: Dict[str, Any], program: str) -> str:
    """Try the ways to detach from the best to the plainest; the one that came up is the answer."""
    import json

    folder = spec["folder"]
    alive = os.path.join(folder, "alive")
    errors = []
    for mode in launch_modes(spec):
        write_once(os.path.join(folder, "spec.json"), json.dumps(dict(spec, mode=mode)).encode())
        problem = spawn(mode, spec, program)
        deadline = time.monotonic() + START_WAIT_S
        while problem is None and time.monotonic() < deadline:
            if size_of(alive) or os.path.exists(os.path.join(folder, "result.json")):
                return mode
            time.sleep(0.01)
        errors.append("%s: %s" % (mode, problem or "the supervisor did not come up"))
        stop_unit(spec["unit"], mode)
    os.unlink(os.path.join(folder, "spec.json"))
    raise JobError("the job could not be started (%s)" % "; ".join(errors)[:1500])


def launch_modes(spec: Dict[str, Any]) -> List[str]:
    if spec.get("mode") in ("system", "user", "session"):
        return [spec["mode"]]
    modes = []
    if os.path.isdir("/run/systemd/system"):
        if os.getuid() == 0:
            modes.append("system")
        elif os.path.exists("/var/lib/systemd/linger/%s" % user_name()):
            # Without lingering the user's manager ends with the last session, and the job with it.
            modes.append("user")
    return [*modes, "session"]


def user_name() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def clean_environment(spec: Dict[str, Any]) -> Dict[str, str]:
    """Nothing of the session's environment: what the command may see is stated, and nothing else."""
    import pwd

    environment = {
        "PATH": "%s:%s" % (os.path.dirname(spec["command"][0]), TRUNK),
        "HOME": pwd.getpwuid(os.getuid()).pw_dir,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        RUN_MARK: spec["run_id"],
    }
    environment.update({str(key): str(value) for key, value in (spec.get("environment") or {}).items()})
    return environment


def unit_environment(mode: str) -> Dict[str, str]:
    environment = {"PATH": TRUNK}
    if mode == "user":
        environment["XDG_RUNTIME_DIR"] = "/run/user/%d" % os.getuid()
    return environment


def spawn(mode: str, spec: Dict[str, Any], program: str) -> Optional[str]:
    """Launch the supervisor; the reason why it could not be launched, or None."""
    import subprocess

    command = [sys.executable, "-I", "-S", program + "c", "supervise", spec["folder"]]
    if mode == "session":
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=clean_environment(spec),
        )
        return None
    properties = [
        "KillMode=control-group",
        "TimeoutStopSec=5s",
        "RuntimeMaxSec=%d" % (int(spec["timeout_s"]) + 60),
        "TasksMax=%d" % int(spec["tasks_max"]),
        "LimitCORE=0",
        "OOMPolicy=continue",
    ]
    if spec.get("memory_max_bytes"):
        properties.append("MemoryMax=%d" % int(spec["memory_max_bytes"]))
    if mode == "system" and not spec.get("network"):
        properties.append("PrivateNetwork=yes")
    arguments = ["systemd-run"] + (["--user"] if mode == "user" else [])
    arguments += ["--collect", "--quiet", "--no-ask-password", "--unit", spec["unit"]]
    for item in properties:
        arguments += ["-p", item]
    for key, value in sorted(clean_environment(spec).items()):
        arguments += ["--setenv", "%s=%s" % (key, value)]
    try:
        done = subprocess.run(
            [*arguments, "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=unit_environment(mode),
            timeout=START_WAIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    return None if done.returncode == 0 else done.stdout.decode("utf-8", "replace").strip()[:500]


def stop_unit(unit: str, mode: Optional[str]) -> None:
    import subprocess

    if mode not in ("system", "user"):
        return
    base = ["systemctl"] + (["--user"] if mode == "user" else [])
    for arguments in (["kill", "--signal=SIGKILL", unit + ".service"], ["stop", unit + ".service"]):
        try:
            subprocess.run(
                base + arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=unit_environment(mode),
                timeout=5,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue


# --- supervise ------------------------------------------------------------------------------------------------------


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
            "v": VERSION,
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
                self.reason = self.reason or "exited"
                return status
            now = time.monotonic()
            if self._lease() != lease_seen:
                lease_seen, lease_at = self._lease(), now
            if not self.reason:
                if self._terminate:
                    asked = os.path.exists(os.path.join(self.folder, "cancel"))
                    self.reason = "cancelled" if asked else "stopped"
                elif now > deadline:
                    self.reason = "timeout"
                elif not os.path.isdir(self.folder):
                    self.reason = "abandoned"
                elif lease_s and now - lease_at > lease_s:
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


def become_subreaper() -> None:
    """Daemons of the command become children of this process, so that it can find and end them."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def reap(pid: int) -> Tuple[bool, Optional[int]]:
    """Collect every ended child; whether `pid` was among them, and its status."""
    found = False
    result: Optional[int] = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return (True, result) if found else (True, None)
        if ended == 0:
            return found, result
        if ended == pid:
            found, result = True, status


def kill_descendants(grace_s: float, keep: int = 0) -> bool:
    """SIGKILL everything below this process until nothing is left; False where something would not die."""
    deadline = time.monotonic() + grace_s + 5.0
    while time.monotonic() < deadline:
        pids = [pid for pid in descendants(os.getpid()) if pid != keep]
        if not pids:
            return True
        signal_all(pids, 9)
        time.sleep(0.01)
        if not keep:
            reap(-1)
    return False


def oom_kills() -> Optional[int]:
    """Processes of this unit that the kernel killed for memory; None where that is not told."""
    try:
        with open("/proc/self/cgroup", "r") as file:
            path = [line.split(":", 2)[2].strip() for line in file if line.startswith("0::")]
        with open("/sys/fs/cgroup%s/memory.events" % path[0], "r") as file:
            for line in file:
                name, _space, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    except (OSError, IndexError, ValueError):
        return None
    return None


# --- poll, cancel, clean --------------------------------------------------------------------------------------------


def state_of(folder: str) -> Tuple[str, str]:
    """absent, running, ended or lost; and the result of an ended job as JSON, else `null`."""
    if not os.path.exists(os.path.join(folder, "spec.json")):
        return "absent", "null"
    running = supervisor_pid(folder) is not None
    # The result is looked up after the lock: a supervisor that ended in between has left it.
    result = read_text(os.path.join(folder, "result.json"))
    if result is not None:
        return "ended", result.replace("\n", " ")
    return ("running" if running else "lost"), "null"


def next_chunk(path: str, offset: int, limit: int) -> str:
    import binascii

    data = b""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(limit)
    except FileNotFoundError:
        data = b""
    text = binascii.b2a_base64(data, newline=False).decode("ascii")
    return '{"size": %d, "offset": %d, "data": "%s"}' % (size_of(path), offset, text)


def poll(folder: str, *, out: int, err: int, limit: int, wait_s: float, gather_s: float) -> str:
    """Wait until there is output beyond the offsets, the job has ended, or `wait_s` has passed; then tell, in JSON.

    Args:
        folder: The job's folder.
        out: Bytes of standard output that are known already.
        err: Bytes of standard error that are known already.
        limit: Most bytes of each to tell now.
        wait_s: Longest wait.
        gather_s: How long to wait for more, once there is something.
    """
    logs = ((os.path.join(folder, "out.log"), out), (os.path.join(folder, "err.log"), err))
    limit = min(max(limit, CHUNK_BYTES), MAX_CHUNK_BYTES)
    touch_lease(folder)
    deadline = time.monotonic() + wait_s
    result_path = os.path.join(folder, "result.json")
    looks = 0
    while time.monotonic() < deadline:
        waiting = sum(size_of(path) - offset for path, offset in logs)
        if waiting > 0:
            if waiting < CHUNK_BYTES and not os.path.exists(result_path):
                time.sleep(min(gather_s, max(0.0, deadline - time.monotonic())))
            break
        # Whether the supervisor lives costs more to learn than whether there is output.
        if os.path.exists(result_path) or (looks % 20 == 0 and supervisor_pid(folder) is None):
            break
        looks += 1
        time.sleep(LOOK_EVERY_S)
    state, result = state_of(folder)
    out_chunk, err_chunk = (next_chunk(path, offset, limit) for path, offset in logs)
    head = '"v": %d, "state": "%s", "result": %s' % (VERSION, state, result)
    return '{%s, "out": %s, "err": %s}' % (head, out_chunk, err_chunk)


def touch_lease(folder: str) -> None:
    if os.path.isdir(folder):
        touch(os.path.join(folder, "lease"))


def touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    os.utime(path)


def cancel(folder: str) -> Dict[str, Any]:
    """End the job: ask the supervisor, then the unit, then everything that carries the run's mark."""
    spec = read_json(os.path.join(folder, "spec.json"))
    if spec is None:
        return {"state": "absent", "empty": True}
    lock = lock_file(os.path.join(folder, "start.lock"), wait=True)  # A start that is under way comes first.
    if lock is not None:
        os.close(lock)
    deadline = time.monotonic() + KILL_GRACE_S + 2.0
    pid = supervisor_pid(folder)
    if pid:
        touch(os.path.join(folder, "cancel"))
        signal_all([pid], 15)
    while supervisor_pid(folder) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    stop_unit(spec["unit"], spec.get("mode"))
    run_id = spec["run_id"]
    deadline = time.monotonic() + 3.0
    left = marked(run_id)
    while left and time.monotonic() < deadline:
        signal_all(left, 9)
        time.sleep(0.02)
        left = marked(run_id)
    return {"state": state_of(folder)[0], "empty": not left, "left": len(left)}


def clean(folder: str) -> Dict[str, Any]:
    """Remove the folder; a job that runs keeps it."""
    import shutil

    if supervisor_pid(folder) is not None:
        raise JobError("the job still runs")
    if os.path.islink(folder):
        raise JobError("%s is a link" % folder)
    if os.path.isdir(folder):
        shutil.rmtree(folder)
    return {"state": "absent"}


def answer(text: str) -> None:
    sys.stdout.write(ANSWER_MARK + text + "\n")
    sys.stdout.flush()


def answer_with(act: Any) -> int:
    """Answer with what `act` returns, or with the reason why it could not."""
    import json

    try:
        value = act()
    except JobError as exc:
        value = {"error": str(exc)}
    except (OSError, ValueError, KeyError) as exc:
        value = {"error": "%s: %s" % (type(exc).__name__, exc)}
    answer(json.dumps(dict(value, v=VERSION)))
    return 0


def main(arguments: List[str]) -> int:
    """`supervise FOLDER`, or `poll FOLDER OUT ERR LIMIT WAIT_S GATHER_S`."""
    verb, folder = arguments[:2]
    if verb == "supervise":
        Supervisor(folder).run()
        return 0
    out, err, limit = (int(word) for word in arguments[2:5])
    wait_s, gather_s = (float(word) for word in arguments[5:7])
    try:
        answer(poll(folder, out=out, err=err, limit=limit, wait_s=wait_s, gather_s=gather_s))
    except OSError as exc:
        problem = exc
        return answer_with(lambda: {"error": "%s: %s" % (type(problem).__name__, problem)})
    return 0


def main_sent(data: bytes) -> int:
    """Called with what came on standard input: one line of JSON with the verb, then this program's text."""
    import json

    head, _newline, source = data.partition(b"\n")
    request = json.loads(head.decode("utf-8"))
    verb, folder = request.pop("verb"), request["folder"]
    if verb == "start":
        return answer_with(lambda: install_and_start(request, source))
    return answer_with(lambda: cancel(folder) if verb == "cancel" else clean(folder))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
