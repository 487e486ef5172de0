# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real writer, deliberately broken ones, and the judge that holds both against the invariants."""

from __future__ import annotations

import os
import select
import signal
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils import _activation, _generation
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import (
    CacheRoot,
    GenerationName,
    sync_filesystem,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._takeoff_check import TakeoffQuestion, check_cache
from cache_samples import RUN_ID, grant_for, seal_only
from invariants import companion_faults
from power import shut_down

Breaker = Callable[[], None]


def put(module: Any, **functions: Callable[..., Any]) -> None:
    """Put other functions in the place of a module's own, for the rest of this process."""
    for name, function in functions.items():
        setattr(module, name, function)


def sound() -> None:
    """Nothing is broken."""


def no_file_fsync() -> None:
    """Folders are flushed, the files in them are not."""
    real = os.fsync

    def folders_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            real(descriptor)

    put(os, fsync=folders_only)
    put(_activation, sync_filesystem=lambda _descriptor: None)


def no_folder_fsync() -> None:
    """The files are flushed before the switch; the renames are left to luck."""
    put(os, fsync=lambda _descriptor: None)


def unlink_and_symlink() -> None:
    """`current` is removed and made again instead of renamed over."""

    def link(root: CacheRoot, link: str, name: GenerationName) -> None:
        if os.path.lexists(root.join(link)):
            os.unlink(root.join(link))
        os.symlink(f"generations/{name}", root.join(link))

    _activation._link = link


def acknowledge_early() -> None:
    """The switch is left to a later moment than the acknowledgement."""
    _activation._switch = lambda *_arguments: None
    _activation._settle = lambda *_arguments: None


BROKEN_BY_POWER: dict[str, Breaker] = {
    "no file fsync": no_file_fsync,
    "no folder fsync": no_folder_fsync,
    "acknowledge early": acknowledge_early,
}

BROKEN_BY_KILL: dict[str, Breaker] = {"unlink and symlink": unlink_and_symlink}

STEPS = ("rename", "replace", "symlink", "unlink", "fsync", "write", "fchmod", "rmdir", "mkdir")


def stop_before_step(number: int, stop: Callable[[], None]) -> Callable[[], int]:
    """From now on call `stop` before the given step of this process, and end it; returns a counter of steps."""
    count = 0

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                stop()
                os._exit(3)
            return real(*arguments, **options)

        return step

    for name in STEPS:
        setattr(os, name, wrapped(getattr(os, name)))
    put(_activation, sync_filesystem=wrapped(sync_filesystem))
    return lambda: count


@dataclass(frozen=True)
class Attempt:
    """One activation in a child process. `steps` is None where it did not come to its end."""

    pid: int
    answers: int

    def has_answered(self) -> bool:
        """Whether it has acknowledged, or ended, by now."""
        return bool(select.select([self.answers], [], [], 0)[0])

    def end(self, *, kill: bool = False) -> tuple[bool, int | None]:
        """Reap it; whether it acknowledged, and its number of steps."""
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        with os.fdopen(self.answers, "rb") as stream:
            said = stream.read().decode()
        os.waitpid(self.pid, 0)
        words = said.split()
        return bool(words), int(words[1]) if words else None


def start_activation(
    root: CacheRoot, source: str, *, breaker: Breaker = sound, cut_at: int = 0, kill_at: int = 0
) -> Attempt:
    """Fork a child that seals and activates `source`, and writes `ACK <steps>` once it may."""
    answers, words = os.pipe()
    pid = os.fork()
    if pid:
        os.close(words)
        return Attempt(pid, answers)
    code = 2
    try:
        breaker()
        stop = sound if kill_at else lambda: shut_down(os.path.dirname(root.path))
        steps = stop_before_step(kill_at or cut_at, stop)
        seal_only(root, source)
        text = grant_for(_content_id(source), root.next_counter()).to_text().encode()
        _activation.activate(root, sealed_path=source, run_id=RUN_ID, token=None, grant_text=text)
        os.write(words, f"ACK {steps()}".encode())
        code = 0
    except Exception:  # noqa: BLE001 -- after a cut every call may fail; the judge looks at the disk
        code = 1
    finally:
        os._exit(code)


def _content_id(source: str) -> str:
    with _generation.open_folder(source) as folder_fd:
        return _generation.read_manifest(folder_fd).content_id


def judge(root: CacheRoot, *, old: str | None, acknowledged: bool) -> str | None:
    """Hold what is on the disk against the invariants, and the gate against that; the current generation's name."""
    link = root.link_target("current")
    current = str(link) if link else None
    assert current is not None or old is None, "I2: the current cache is gone"
    assert not acknowledged or current != old, f"I3: the acknowledged activation is lost, {old} is current again"
    faults = companion_faults(Path(root.path), acknowledged=current if acknowledged else None)
    assert faults == [], "; ".join(faults)
    answer = check_cache(root, TakeoffQuestion())
    assert answer.go == (current is not None), f"I1: {current} is whole, and the gate says {answer.message}"
    return current


__all__ = [
    "BROKEN_BY_KILL",
    "BROKEN_BY_POWER",
    "Attempt",
    "Breaker",
    "judge",
    "sound",
    "start_activation",
    "stop_before_step",
]
