# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the companion, as a part of `_job_program`: launching the supervisor, in a unit or session of its own.

Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import sys
import time

from ._job_folder import JobError, lock_file, read_json, size_of, state_of, write_once
from ._job_processes import TRUNK, clean_environment

# run_command belongs to modules; the domain knows none.
# pylint: disable=ansible-bad-function

__all__ = ["install_and_start", "stop_unit"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

START_WAIT_S = 8.0


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
