# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A companion that dies and boots again: its cache lies on a disk of its own, whose power can be cut.

The container's cache root is a folder of an ext4 on a loop device, so the checker of the invariants reads it from here,
whether the companion runs or not. It keeps its address over a boot, as one on a cable does.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from cache_samples import activate_build
from companions import (
    CACHE_ROOT,
    CACHE_USER,
    Companion,
    CompanionContainerError,
    network,
    podman,
    start_companion,
)
from power import LoopDisk, shut_down

DISK_BYTES = 512 * 1024 * 1024
FAILURES = ("container", "reboot", "power")
"""`container`: every process is killed at once; `reboot`: an orderly end; `power`: killed, and the disk forgets what
was not flushed."""
ADDRESSES_TRIED = 20


@dataclass
class CompanionOnDisk(Companion):
    """A companion whose cache root is on `disk`, with an older cache current, made from `template` at each reset."""

    disk: LoopDisk | None = None
    template: Path | None = None

    @property
    def cache(self) -> Path:
        """The cache root, seen from this machine."""
        return Path(self._disk().root)

    def _disk(self) -> LoopDisk:
        if self.disk is None:
            raise CompanionContainerError(f"{self.name} has no disk of its own")
        return self.disk

    def reset_cache(self) -> None:
        """As a companion is after its flight before: an older cache is current, and nothing else is there."""
        for path in self.cache.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        subprocess.run(["cp", "-a", f"{self.template}/.", str(self.cache)], check=True)
        os.sync()  # Not the fault to be injected: what was there before lies on the disk.

    @property
    def current(self) -> str | None:
        """The name of the current generation."""
        link = self.cache / "current"
        return os.path.basename(os.readlink(link)) if link.is_symlink() else None

    def fail(self, how: str) -> list[int]:
        """Go down now, in one of the `FAILURES`; the pid of what was init, on this machine."""
        init = int(podman("inspect", "--format", "{{.State.Pid}}", self.container).stdout)
        if how == "reboot":
            podman("stop", "--time", "10", self.container)
            return [init]
        if how == "power":
            shut_down(str(self._disk().mountpoint))
        os.kill(init, signal.SIGKILL)
        podman("wait", self.container)
        if how == "power":
            self._disk().restart()
        return [init]


def start_on_disk(name: str, *, container: str, image: str, folder: Path, disk: LoopDisk) -> CompanionOnDisk:
    """Start a provisioned companion on `disk`; its address is chosen here, so that a boot does not change it."""
    (disk.mountpoint / "cache").mkdir()
    os.sync()
    subnet = ipaddress.ip_network(json.loads(podman("network", "inspect", network()).stdout)[0]["subnets"][0]["subnet"])
    upper = list(subnet.hosts())[subnet.num_addresses // 2 :]
    for address in random.SystemRandom().sample(upper, ADDRESSES_TRIED):
        # With another hardware address at each boot, this machine would look for it at the old one for a minute.
        mac = "02:" + random.SystemRandom().randbytes(5).hex(":")
        arguments = ("--ip", str(address), "--mac-address", mac, "--volume", f"{disk.root}:{CACHE_ROOT}")
        try:
            plain = start_companion(name, container=container, image=image, folder=folder, extra_arguments=arguments)
        except CompanionContainerError as exc:
            podman("rm", "--force", "--ignore", "--time", "0", container)
            if "in use" not in str(exc) and "already allocated" not in str(exc):
                raise
        else:
            break
    else:
        raise CompanionContainerError(f"no free address among {ADDRESSES_TRIED}")
    found = CompanionOnDisk(**vars(plain), disk=disk, template=folder / "template")
    make_template(found)
    found.reset_cache()
    return found


def make_template(companion: CompanionOnDisk) -> None:
    """The older cache: a whole generation with grant and audit, in the hands of the companion's user."""
    account = [int(companion.exec_root(f"id -{word} {CACHE_USER}").stdout) for word in "ug"]
    os.chown(companion.cache, *account)
    folder = Path(str(companion.template))
    folder.mkdir()
    activate_build(CacheRoot(str(folder)), seed=1)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, *account, follow_symlinks=False)
