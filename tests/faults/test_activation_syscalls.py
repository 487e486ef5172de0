# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`gps-denied-cache activate`, killed or failed at every system call that changes something, one call at a time."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation import activate
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from cache_samples import RUN_ID, activate_build, grant_for, make_build, seal_only
from writers import judge

KINDS = (
    "chmod,fchmod,fchmodat,fdatasync,fsync,ftruncate,link,linkat,mkdir,mkdirat,pwrite64,rename,renameat,renameat2,"
    "rmdir,symlink,symlinkat,syncfs,truncate,unlink,unlinkat,write,writev"
)
"""Everything by which an activation changes the disk; `openat` that creates is left out: what follows it is here."""
FLUSHES = {"fsync", "syncfs"}
"""A kill before one of these finds the disk as a kill before the call that follows; power cuts tell them apart."""
CALL = re.compile(r"^(?:\[pid +\d+\] )?(?:\d+ +)?([a-z0-9]+)\(", re.MULTILINE)


class Scene:
    """A cache with a current and a previous generation, and a sealed build with its grant beside it."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.program = programs / "gps-denied-cache"
        self.root = CacheRoot(str(folder / "cache"))
        activate_build(self.root, seed=1)
        self.old = activate_build(self.root, seed=2).generation
        self.source = make_build(self.root, seed=3)
        content_id, counter = seal_only(self.root, self.source)
        self.new = f"{counter:08d}-{content_id[:12]}"
        (folder / "grant").write_text(grant_for(content_id, counter).to_text(), encoding="utf-8")
        shutil.copytree(folder / "cache", folder / "template", symlinks=True)

    def reset(self) -> None:
        shutil.rmtree(self.folder / "cache")
        shutil.copytree(self.folder / "template", self.folder / "cache", symlinks=True)

    def activate(self, *tracer: str) -> subprocess.CompletedProcess[str]:
        command = [*tracer, sys.executable, "-I", "-S", "-B", str(self.program), "--root", self.root.path, "activate"]
        words = [self.source, "--grant", str(self.folder / "grant")]
        return subprocess.run([*command, *words], capture_output=True, text=True, check=False, timeout=60, cwd="/")

    def calls(self) -> Counter[str]:
        """How often an undisturbed activation makes each call."""
        log = self.folder / "strace.log"
        done = self.activate("strace", "-f", "-qq", "-e", f"trace={KINDS}", "-e", "signal=none", "-o", str(log))
        assert done.stdout == f"ACK {self.new}\n", done.stderr
        assert judge(self.root, old=self.old, acknowledged=True) == self.new
        return Counter(CALL.findall(log.read_text(encoding="ascii", errors="replace")))

    def disturbed(self, call: str, number: int, how: str) -> tuple[bool, str]:
        """Activate with one call disturbed, judge, and repeat undisturbed; the disturbed one's word and complaint.

        The program is a thin door, so the repetition does without starting it once more.
        """
        self.reset()
        inject = f"inject={call}:{how}:when={number}"
        done = self.activate("strace", "-f", "-qq", "-e", f"trace={call}", "-e", inject, "-o", "/dev/null")
        where = f"{call} number {number} with {how}: {done.stdout} {done.stderr}"
        acknowledged = done.stdout.startswith("ACK ")
        assert "Traceback" not in done.stderr, where
        now = judge(self.root, old=self.old, acknowledged=acknowledged)
        assert now in (self.old, self.new), where
        assert (done.returncode == 0) == acknowledged or call == "write", where
        grant_text = (self.folder / "grant").read_bytes()
        again = activate(self.root, sealed_path=self.source, run_id=RUN_ID, token=None, grant_text=grant_text)
        assert again.generation == self.new, where
        assert judge(self.root, old=self.old, acknowledged=True) == self.new
        assert not any(Path(self.root.trash).iterdir()), where
        return acknowledged, done.stderr


@pytest.fixture
def scene(tmp_path: Path, programs: Path) -> Scene:
    if shutil.which("strace") is None:
        raise RuntimeError("strace is missing: apt-get install strace")
    return Scene(tmp_path, programs)


def sweep(scene: Scene, how: str) -> int:
    calls = scene.calls()
    assert {"fsync", "syncfs", "rename", "write"} <= {name.replace("renameat", "rename") for name in calls}
    stopped = 0
    is_kill = how.startswith("signal")
    for call, count in sorted(calls.items()):
        if is_kill and call in FLUSHES:
            continue
        for number in range(1, count + 1):
            acknowledged, said = scene.disturbed(call, number, how)
            stopped += not acknowledged
            assert is_kill or said == "" or said.startswith("REFUSED "), said
    return stopped


@pytest.mark.timeout(300)
def test_a_kill_at_every_call_leaves_the_old_or_the_new_cache_and_the_next_run_ends_the_work(scene: Scene) -> None:
    assert sweep(scene, "signal=SIGKILL") >= 22


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "error", ["ENOSPC", pytest.param("EIO", marks=pytest.mark.soak), pytest.param("EROFS", marks=pytest.mark.soak)]
)
def test_an_error_of_every_call_is_told_in_a_sentence_and_leaves_the_old_or_the_new_cache(
    scene: Scene, error: str, record_property: Callable[[str, object], None]
) -> None:
    stopped = sweep(scene, f"error={error}")
    record_property("calls that ended the activation", stopped)
    assert stopped >= 20


@pytest.mark.parametrize("error", ["EIO", "EROFS", "EDQUOT"])
def test_a_failing_disk_is_told_by_its_own_name(scene: Scene, error: str) -> None:
    _acknowledged, said = scene.disturbed("syncfs", 1, f"error={error}")
    assert said.startswith(f"REFUSED storage-failed: activating {scene.new} under {scene.root.path} failed: ")
