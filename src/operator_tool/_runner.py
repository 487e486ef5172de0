# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""All contact with ansible-runner: run one playbook of the collection, with its traps closed.

Closed here: the folder of `ansible-playbook` on PATH, host key checking, the collections path, a private folder for
each run, no secret in variables or environment, cancellation by SIGTERM before SIGKILL, death with the driver, and
`playbook_on_stats` as the only proof that a playbook came to its end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError

from . import _die_with_parent
from ._inventory import Inventory
from ._worker_watch import WorkerWatch

COLLECTION = "gps_denied.preflight"
GRACE_S = 8.0
NO_HOSTS = "--limit leaves us with no hosts to target"
"""Ansible's word, where a pattern matches nothing: it then begins no play."""
TIDY_S = 60
"""How long what follows a killed driver may take, where the companions do not answer."""
PASSED_ON: tuple[str, ...] = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "PATH",
    "SSH_AUTH_SOCK",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
    "XDG_RUNTIME_DIR",
    "GPS_DENIED_CONFIG",
)


@dataclass
class PlaybookResult:
    """What is known when a playbook has ended; `broken` says why it was ended without anybody's wish."""

    finished: bool = False
    cancelled: bool = False
    broken: str = ""
    rc: int | None = None
    failures: list[str] = field(default_factory=list)
    last_results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed_hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=40))

    @property
    def killed(self) -> bool:
        """Whether a signal ended ansible-playbook, so that there is no exit status."""
        return self.rc is None


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user may enter, in memory where there is one, removed on every way out."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    usable = base if base and os.access(base, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="gps-denied-", dir=usable))
    # Whoever is killed with -9 cannot tidy up: the kernel closes its end of the pipe, and this shell does.
    tidy = f'read -r line || {{ cd /; timeout -k 5 {TIDY_S} "$2" -m operator_tool._after_kill "$1"; rm -rf -- "$1"; }}'
    with subprocess.Popen(
        ["/bin/sh", "-c", tidy, "sh", str(path), sys.executable],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=passed_on("PYTHONPATH"),  # the caller's may hold secrets
        start_new_session=True,
    ) as tidier:
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                # A word, because the pipe has no end as long as a child of the caller holds it.
                tidier.communicate(b"\n")


def collections_path() -> str:
    """The folder that holds this release's `ansible_collections`."""
    spec = importlib.util.find_spec(f"ansible_collections.{COLLECTION}")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"the collection {COLLECTION} is not installed beside operator_tool")
    return str(Path(next(iter(spec.submodule_search_locations))).parents[2])


@contextlib.contextmanager
def _signals(cancel: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM cancel while this lasts; the caller's own handlers come back afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, lambda *_: cancel())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Ending:
    """Brings a playbook to its end before its time: SIGTERM first, SIGKILL by ansible-runner `GRACE_S` later."""

    def __init__(self, result: PlaybookResult, on_cancel: Callable[[], None] | None) -> None:
        self._result = result
        self._on_cancel = on_cancel
        self._asked_at: float | None = None
        self.controller_pid = 0
        self.workers = WorkerWatch()

    def cancel(self) -> None:
        if not self._result.cancelled:
            self._result.cancelled = True
            if self._on_cancel:
                self._on_cancel()
            self._ask()

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        if self.controller_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.controller_pid, signal.SIGTERM)

    def is_overdue(self) -> bool:
        """Whether it must be killed now; ansible-runner asks about once a second."""
        if self._asked_at is None and self.controller_pid and self.workers.one_is_lost(self.controller_pid):
            self._result.broken = "a worker process of ansible-playbook was killed"
            self._ask()
        return self._asked_at is not None and time.monotonic() - self._asked_at > GRACE_S


def run_playbook(
    name: str,
    *,
    private_dir: Path,
    inventory: Inventory,
    variables: Mapping[str, Any],
    check: bool = False,
    verbosity: int = 0,
    on_text: Callable[[str], None] | None = None,
    on_cancel: Callable[[], None] | None = None,
    become_password_file: Path | None = None,
) -> PlaybookResult:
    """Run `gps_denied.preflight.<name>` to its end, or to its cancellation by SIGINT or SIGTERM.

    Raises:
        SettingsError: the inventory is limited to companions that it does not have.

    Args:
        variables: extra variables; never a secret, since ansible-runner writes them down.
        on_text: called with Ansible's own output, for people who ask for it.
        on_cancel: called once when a signal has asked for the end.
        become_password_file: file, in `private_dir`, with the password that sudo asks for on the companions.
    """
    from ansible_runner import Runner, RunnerConfig

    result = PlaybookResult()
    ending = _Ending(result, on_cancel)

    def handle(event: dict[str, Any]) -> bool:
        ending.workers.take(event)
        data = event.get("event_data", {})
        outcome = data.get("res") or {}
        if event.get("event") == "playbook_on_stats":
            result.finished = True
        elif event.get("event") in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
            result.failures.append(str(outcome.get("msg", ""))[:2000])
            result.failed_hosts[str(data.get("host"))] = outcome
        if event.get("event") in ("runner_on_ok", "runner_on_failed", "runner_on_unreachable"):
            result.last_results[str(data.get("host"))] = outcome
        if isinstance(outcome.get("run"), dict) and outcome["run"].get("controller_pid"):
            ending.controller_pid = int(outcome["run"]["controller_pid"])
        text = event.get("stdout") or ""
        if text:
            result.tail.append(text)
            if on_text:
                on_text(text)
        return False

    words = ["--check"] if check else []
    if become_password_file:
        words += ["--become-password-file", shlex.quote(str(become_password_file))]
    config = RunnerConfig(
        private_data_dir=str(private_dir),
        playbook=f"{COLLECTION}.{name}",
        inventory=inventory.path,
        limit=inventory.limit,
        extravars=dict(variables),
        cmdline=" ".join(words) or None,
        verbosity=verbosity or None,
        quiet=True,
        settings={"pexpect_timeout": 1, "pexpect_use_poll": True, "idle_timeout": 0, "suppress_ansible_output": True},
    )
    config.prepare()
    config.command = [sys.executable, _die_with_parent.__file__, str(os.getpid()), *config.command]
    # A configuration of our own: one that lies in the working folder or at home must not steer the run.
    ansible_cfg = private_dir / "ansible.cfg"
    ansible_cfg.touch()
    own = {"ANSIBLE_CONFIG": str(ansible_cfg), "ANSIBLE_LOCAL_TEMP": str(private_dir / "tmp")}
    config.env = _environment(config.env, own)
    runner = Runner(
        config,
        event_handler=handle,
        cancel_callback=ending.is_overdue,
    )
    with _signals(ending.cancel):
        _status, result.rc = runner.run()
    if inventory.limit and not result.finished and NO_HOSTS in "".join(result.tail):
        raise SettingsError(
            "no companion of the inventory is one that --limit names",
            remediation=f"Look at them with `ansible-inventory -i {shlex.quote(inventory.path)} --graph companions`.",
        )
    return result


def passed_on(*more: str) -> dict[str, str]:
    """What of the caller's environment others may see."""
    return {key: os.environ[key] for key in (*PASSED_ON, *more) if key in os.environ}


def _environment(runner_environment: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Only what is needed: ansible-runner would hand over, and write down, everything."""
    own = passed_on()
    own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", os.defpath)])
    for key, value in runner_environment.items():
        if (
            key.startswith(("ANSIBLE_", "RUNNER_", "AWX_", "PYTHONPATH"))
            and key not in own
            and os.environ.get(key) != value
        ):
            own[key] = value
    own.update(
        ANSIBLE_COLLECTIONS_PATH=collections_path(),
        ANSIBLE_HOST_KEY_CHECKING="True",
        ANSIBLE_PIPELINING="True",
        ANSIBLE_FORKS="32",
        ANSIBLE_RETRY_FILES_ENABLED="False",
        ANSIBLE_NOCOWS="1",
        ANSIBLE_DEPRECATION_WARNINGS="False",
        PYTHONUNBUFFERED="1",
        **extra,
    )
    return own
