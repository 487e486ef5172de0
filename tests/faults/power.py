# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Power cuts: an ext4 on a loop device, shut down without flushing its journal, as xfstests' `godown` does.

What was not flushed is lost, as on an honest disk; the next mount replays the journal.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
MS_RDONLY = 1
LIBC = ctypes.CDLL(None, use_errno=True)
IMAGE_BYTES = 48 * 1024 * 1024
RELEASE_TIMEOUT_S = 30.0


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def shut_down(path: str) -> None:
    """Cut the power of the file system that holds `path`, now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


@dataclass
class LoopDisk:
    """A mounted image; `options` are the mount options of the next mount."""

    device: str
    mountpoint: Path
    options: str = "defaults"

    @classmethod
    def create(cls, folder: Path, *, size_bytes: int = IMAGE_BYTES) -> LoopDisk:
        """Make the image, attach it and mount it.

        Raises:
            RuntimeError: what this machine lacks.
        """
        where = "/usr/sbin:/sbin:/usr/bin:/bin"
        programs = ("mkfs.ext4", "losetup", "umount")
        missing = [name for name in programs if shutil.which(name, path=where) is None]
        if missing or os.geteuid() != 0:
            reason = f"{', '.join(missing)} missing" if missing else "not root"
            raise RuntimeError(f"power cuts need root, a loop device, e2fsprogs and util-linux: {reason}")
        image = folder / "disk.img"
        with image.open("wb") as stream:
            stream.truncate(size_bytes)
        eager = "lazy_itable_init=0,lazy_journal_init=0"
        _run("/usr/sbin/mkfs.ext4", "-q", "-F", "-m", "0", "-E", eager, str(image))
        found = cls(_run("/usr/sbin/losetup", "--find", "--show", str(image)).strip(), folder / "mnt")
        found.mountpoint.mkdir()
        found.mount()
        return found

    @property
    def root(self) -> str:
        """The cache root on the disk."""
        return str(self.mountpoint / "cache")

    def mount(self) -> None:
        """Make the system call directly: a cut takes 10 ms, and a program to mount would double it."""
        words = [word for word in self.options.split(",") if word not in ("ro", "defaults")]
        flags = MS_RDONLY if "ro" in self.options.split(",") else 0
        names = (self.device, str(self.mountpoint), "ext4")
        source, target, kind = (name.encode() for name in names)
        if LIBC.mount(source, target, kind, flags, ",".join(words).encode()) != 0:
            raise RuntimeError(f"mount {self.device} {self.options}: {os.strerror(ctypes.get_errno())}")

    def cut(self) -> None:
        shut_down(str(self.mountpoint))

    def restart(self) -> None:
        """Unmount what is left and mount again."""
        deadline = time.monotonic() + RELEASE_TIMEOUT_S
        while LIBC.umount2(str(self.mountpoint).encode(), 0) != 0:
            # Whoever lists all mounts, such as a starting container, is inside for a moment.
            if ctypes.get_errno() != errno.EBUSY or time.monotonic() > deadline:
                raise RuntimeError(f"umount {self.mountpoint}: {os.strerror(ctypes.get_errno())}")
            time.sleep(0.005)
        self._await_release()
        self.mount()

    def _await_release(self) -> None:
        """Wait out containers that start just now: each holds a copy of every mount, the dead one too."""
        deadline = time.monotonic() + RELEASE_TIMEOUT_S
        while True:
            try:
                os.close(os.open(self.device, os.O_RDONLY | os.O_EXCL))
                return
            except OSError as exc:
                if exc.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.005)

    def remove(self) -> None:
        """Unmount and detach, whatever state it is in."""
        for command in (("umount", str(self.mountpoint)), ("/usr/sbin/losetup", "--detach", self.device)):
            with contextlib.suppress(RuntimeError):
                _run(*command)
