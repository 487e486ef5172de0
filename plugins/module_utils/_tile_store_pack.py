# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packs: append-only files that hold the bodies of the tile store, one writer each, under a kernel lock."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from ._atomic_file import fsync_folder
from ._errors import DownloadError

__all__ = ["PACK_BYTES", "PackReader", "PackWriter"]

PACK_BYTES = 1 << 30
"""A pack that has reached this size is not appended to any more."""
OPEN_PACKS = 64
WRITE_PARTS = 512


def _path(folder: Path, number: int) -> str:
    return str(folder / f"{number:06d}.pack")


def _failed(folder: Path, exc: OSError) -> DownloadError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            f"the disk of the tile store {folder.parent} is full",
            remediation="Free disk space and run again: what was downloaded is kept.",
        )
    return DownloadError(f"cannot write the tile store {folder.parent}: {exc.strerror}")


class PackWriter:
    """The one writer of a pack; `end` is where its named bytes end."""

    def __init__(self, folder: Path, number: int, descriptor: int) -> None:
        self._folder = folder
        self._descriptor = descriptor
        self.number = number
        self.end = 0

    @classmethod
    def create(cls, folder: Path, number: int) -> "PackWriter":
        """A new pack, locked."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            pack = cls(folder, number, os.open(_path(folder, number), flags, 0o600))
            fcntl.flock(pack._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fsync_folder(str(folder))
        except OSError as exc:
            raise _failed(folder, exc) from None
        return pack

    @classmethod
    def try_open(cls, folder: Path, number: int) -> "Optional[PackWriter]":
        """The pack, locked, or None where another process has it or it is gone."""
        try:
            descriptor = os.open(_path(folder, number), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return cls(folder, number, descriptor)

    def take_over(self, end: int) -> bool:
        """Continue after `end`: cut what a killed writer left behind it. False where the pack is full or too short."""
        if end >= PACK_BYTES or os.fstat(self._descriptor).st_size < end:
            return False
        os.ftruncate(self._descriptor, end)
        self.end = end
        return True

    @property
    def full(self) -> bool:
        return self.end >= PACK_BYTES

    def append(self, bodies: Sequence[bytes]) -> List[int]:
        """Write bodies at the end, durable on return; their offsets.

        Raises:
            DownloadError: disk full, write or sync failed. The writer is of no use afterwards.
        """
        offsets: List[int] = []
        position = self.end
        try:
            for start in range(0, len(bodies), WRITE_PARTS):
                part = bodies[start : start + WRITE_PARTS]
                first = position
                for body in part:
                    offsets.append(position)
                    position += len(body)
                content = b"".join(part)
                written = 0
                while written < len(content):
                    written += os.pwrite(self._descriptor, memoryview(content)[written:], first + written)
            os.fdatasync(self._descriptor)
        except OSError as exc:
            raise _failed(self._folder, exc) from None
        self.end = position
        return offsets

    def empty(self) -> None:
        """Free the pack's space; only after the index says, durably, that nothing lies in it."""
        os.ftruncate(self._descriptor, 0)
        self.end = 0

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


class PackReader:
    """Reads bodies out of packs; keeps the last packs open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptors: Dict[int, int] = {}

    def read(self, number: int, offset: int, length: int) -> bytes:
        """The bytes at a place.

        Raises:
            DownloadError: the pack is gone or unreadable.
        """
        space = bytearray(length)
        return bytes(space[: self.read_into(number, offset, memoryview(space))])

    def read_into(self, number: int, offset: int, space: memoryview) -> int:
        """Fill a space with the bytes from a place on; how many there were, fewer only at the pack's end.

        Raises:
            DownloadError: the pack is gone or unreadable.
        """
        filled = 0
        try:
            descriptor = self._descriptor(number)
            while filled < len(space):
                count = os.preadv(descriptor, [space[filled:]], offset + filled)
                if count == 0:
                    break
                filled += count
        except OSError as exc:
            store = self._folder.parent
            raise DownloadError(f"cannot read pack {number} of the tile store {store}: {exc.strerror}") from None
        return filled

    def _descriptor(self, number: int) -> int:
        descriptor = self._descriptors.get(number)
        if descriptor is None:
            if len(self._descriptors) >= OPEN_PACKS:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            descriptor = os.open(_path(self._folder, number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._descriptors[number] = descriptor
        return descriptor

    def close(self) -> None:
        """Close the packs."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
