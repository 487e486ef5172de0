# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base of the actions that talk to a companion: every link failure becomes a typed error."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from typing import Any, ClassVar, Dict, Generator, Iterator, List, Optional

from ansible import constants
from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display
from ansible.utils.path import unfrackpath

from ..module_utils._bounded_command import run_bounded
from ..module_utils._errors import (
    CacheBuildError,
    CompanionNotReadyError,
    CompanionUnreachableError,
    FailurePhase,
    error_types,
)
from ..module_utils._line_stream import stream_lines
from ..module_utils._link_error import link_error
from ..module_utils._remote_job import CommandResult, ConnectionLost
from ..module_utils._run import Run
from ._phase_action import PhaseAction

__all__ = ["CompanionAction"]

BOOT_RETRY_S = 2.0
JOB_SILENCE_S = 30.0
"""A job program that lives says a word every few seconds."""
FIRST_WORD_S = 60.0
FIRST_WORD_BYTES = 64 * 1024
FIRST_WORD = "gps-denied-ready"


@contextlib.contextmanager
def _unshown() -> Iterator[None]:
    """Keep Ansible from showing an answer at -vvv, in its log or in its debug output: no redactor has seen it yet."""
    display = Display()
    before = display.verbosity, display.log_verbosity, constants.DEFAULT_DEBUG
    display.verbosity, display.log_verbosity, constants.DEFAULT_DEBUG = 0, 0, False
    try:
        yield
    finally:
        display.verbosity, display.log_verbosity, constants.DEFAULT_DEBUG = before


class CompanionAction(PhaseAction):
    """One step on one companion."""

    on_companion: ClassVar[bool] = True

    def command(self, *words: str, stdin: Optional[bytes] = None) -> CommandResult:
        """Run one command; its words are quoted here."""
        return self.shell(shlex.join(words), stdin=stdin)

    def shell(self, script: str, *, stdin: Optional[bytes] = None) -> CommandResult:
        """Run a line of POSIX shell; a local companion also finds the programs beside this Python."""
        try:
            result = self._low_level_execute_command(self._with_path(script), in_data=stdin, sudoable=False)
        except AnsibleConnectionFailure as exc:
            raise link_error(str(self.host), str(exc), phase=self.phase) from None
        return CommandResult(int(result["rc"]), str(result["stdout"]), str(result["stderr"]))

    def job_transport(self, command: str, data: Optional[bytes]) -> CommandResult:
        """One command of a remote job; a lost link is an event there, not yet an error."""
        try:
            with _unshown():
                done = self.shell(command, stdin=data)
        except CompanionUnreachableError as exc:
            raise ConnectionLost(exc.message) from None
        return CommandResult(done.rc, done.stdout, done.stderr)

    def _with_path(self, script: str) -> str:
        if str(self._connection.transport) != "local":
            return script
        return f'PATH={shlex.quote(os.path.dirname(sys.executable))}:"$PATH"; {script}'

    def job_lines(self, command: str) -> Generator[str, None, CommandResult]:
        """The lines that one command of a remote job prints, as they come; Ansible's own way gives them at its end."""
        words = ["/bin/sh", "-c", self._with_path(command)]
        ssh = self.ssh_client()
        if ssh is not None:
            words = [*ssh, "--", str(self._connection.get_option("host")), shlex.join(words)]
        return stream_lines(words, silence_s=JOB_SILENCE_S)

    @staticmethod
    def companion_python(task_vars: Dict[str, Any]) -> str:
        """The Python that the inventory names, else the one on the PATH."""
        given = str(task_vars.get("ansible_python_interpreter") or "")
        return given if given.startswith("/") else "python3"

    def module(self, name: str, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        """Run one of the collection's modules on the companion; its typed failure is raised again here."""
        try:
            result = self._execute_module(
                module_name=f"gps_denied.preflight.{name}", module_args=arguments, task_vars=task_vars
            )
        except AnsibleConnectionFailure as exc:
            raise link_error(str(self.host), str(exc), phase=self.phase) from None
        if result.get("failed") or result.get("unreachable"):
            raise self._module_error(name, result)
        return dict(result)

    def _module_error(self, name: str, result: Dict[str, Any]) -> CacheBuildError:
        data = result.get("error")
        if isinstance(data, dict) and data.get("type") in error_types():
            error = error_types()[str(data["type"])]
            phase = FailurePhase(data["phase"]) if data.get("phase") else self.phase
            return error(
                str(data.get("message")),
                remediation=str(data.get("remediation")),
                phase=phase,
                details=data.get("details"),
            )
        said = str(result.get("module_stderr") or result.get("module_stdout") or result.get("msg") or "nothing")
        last = said.strip().splitlines()[-1][:300] if said.strip() else "nothing"
        return CompanionNotReadyError(
            f"{self.host} could not run {name}: {last}",
            phase=self.phase,
            remediation="Check that the companion has Python 3.8 or later and free disk space.",
        )

    def wait_until_reachable(self, run: Run) -> None:
        """Wait, up to the boot timeout, for a companion whose SSH server does not answer yet.

        Raises:
            CompanionUnreachableError, CompanionNotTrustedError: nobody, or somebody else, is there.
            CompanionNotReadyError: its shell prints, floods or stops where it should run a command.
        """
        deadline = time.monotonic() + run.config.companion_boot_timeout_s
        while True:
            try:
                self._hear_first_word()
                return
            except CompanionUnreachableError as exc:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise
                self.sink.emit("progress", phase=self.phase, text=f"waiting {left_s:.0f} s more: {exc.message}")
                time.sleep(min(BOOT_RETRY_S, left_s))

    def _hear_first_word(self) -> None:
        """Open the connection with one bounded command: what a shell prints by itself would end up in every answer."""
        ssh = self.ssh_command()
        if ssh is None:
            self.command("true")
            return
        host = str(self._connection.get_option("host"))
        answer = run_bounded(
            [*ssh, "--", host, f"echo {FIRST_WORD}"], deadline_s=FIRST_WORD_S, cap_bytes=FIRST_WORD_BYTES
        )
        if answer.rc == 255 and not answer.stdout:
            raise link_error(str(self.host), answer.stderr.decode("utf-8", "replace"), phase=self.phase)
        before, _mark, after = answer.stdout.partition(FIRST_WORD.encode())
        if answer.flooded:
            what = f"prints more than {FIRST_WORD_BYTES // 1024} KiB by itself"
        elif answer.rc is None:
            what = f"did not come to its first command within {FIRST_WORD_S:.0f} s"
        elif before or after.strip():
            what = f"prints {len(answer.stdout) - len(FIRST_WORD) - 1} bytes by itself"
        elif answer.rc or not _mark:
            what = f"did not run a command: it ended with {answer.rc}"
        else:
            return
        raise CompanionNotReadyError(
            f"the login shell of {self.host} {what}; rsync and every answer would be spoilt",
            phase=self.phase,
            remediation="Let its start-up files (~/.bashrc, /etc/bash.bashrc) be silent and quick where the shell is "
            "not interactive: first line `case $- in *i*) ;; *) return ;; esac`.",
        )

    def ssh_command(self) -> Optional[List[str]]:
        """The ssh command with the connection's own options, or None for a local companion.

        Raises:
            CompanionNotReadyError: the inventory asks for a connection other than ssh or local.
        """
        transport = str(self._connection.transport)
        if transport == "local":
            return None
        if transport != "ssh":
            raise CompanionNotReadyError(
                f"{self.host} is reached by the connection {transport!r}; only ssh and local are supported",
                phase=self.phase,
                remediation="Set ansible_connection to ssh.",
            )
        words = ["ssh"]
        for option in ("ssh_args", "ssh_common_args", "ssh_extra_args"):
            words += shlex.split(str(self._connection.get_option(option) or ""))
        for flag, option in (("-p", "port"), ("-i", "private_key_file"), ("-l", "remote_user")):
            value = self._connection.get_option(option)
            if value:
                words += [flag, str(value)]
        control_path = getattr(self._connection, "control_path", None) or self._connection.get_option("control_path")
        if control_path:
            # The connection that all share, whoever comes first opens it: one more would cost a quarter of a second.
            folder = unfrackpath(str(self._connection.get_option("control_path_dir")))
            os.makedirs(folder, mode=0o700, exist_ok=True)
            words += ["-o", f"ControlPath={str(control_path) % {'directory': folder}}"]
        return words

    def ssh_client(self) -> Optional[List[str]]:
        """`ssh_command` for what this process follows itself: never the master of others, it ends when it is ended."""
        ssh = self.ssh_command()
        return None if ssh is None else [ssh[0], "-o", "ControlMaster=no", *ssh[1:]]

    def facts_of(self, run: Run) -> Dict[str, Any]:
        """What this companion's doors have recorded so far."""
        return run.facts(host=self.host)
