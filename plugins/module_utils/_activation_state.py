# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where things lie under the cache root on the companion, and the small durable records there.

Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional

from ._generation_faults import Reason, refuse

__all__ = ["DEFAULT_ROOT", "CacheRoot", "GenerationName", "sync_filesystem"]

_NAME = re.compile(r"([0-9]{8})-([0-9a-f]{12})", re.ASCII)
DEFAULT_ROOT = "/var/lib/gps-denied"
MAX_COUNTER = 99999999
MAX_RECORD_BYTES = 16 * 1024


class GenerationName(NamedTuple):
    """`<counter>-<first 12 hex digits of the content id>`, the counter in eight digits so that names sort by it."""

    counter: int
    content_id12: str

    def __str__(self) -> str:
        return f"{self.counter:08d}-{self.content_id12}"

    @classmethod
    def parse(cls, name: str) -> Optional["GenerationName"]:
        """None where it is not the name of a generation."""
        match = _NAME.fullmatch(name)
        return cls(int(match.group(1)), match.group(2)) if match else None


@dataclass(frozen=True)
class CacheRoot:
    """The layout; `trust_dir` holds `vehicle_id`, `allowed_signers` and `revoked_keys`, and may lie elsewhere."""

    path: str
    trust_path: Optional[str] = None

    @property
    def generations(self) -> str:
        return os.path.join(self.path, "generations")

    @property
    def trust_dir(self) -> str:
        return self.trust_path or os.path.join(self.path, "trust")

    @property
    def trash(self) -> str:
        return os.path.join(self.path, ".trash")

    def join(self, *names: str) -> str:
        return os.path.join(self.path, *names)

    def ensure(self) -> None:
        """Create the folders that are missing."""
        for name in ("", "generations", "incoming", "work", "jobs", "descriptors", ".trash"):
            os.makedirs(self.join(name), mode=0o755, exist_ok=True)

    def link_target(self, link: str) -> Optional[GenerationName]:
        """What `current` or `previous` names, None where the link is not there.

        Raises:
            CacheVerifyError: `current-invalid`: not a link, or one to anything but a generation.
        """
        try:
            target = os.readlink(self.join(link))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise refuse(Reason.CURRENT_INVALID, f"{self.join(link)} is not a symbolic link ({exc.strerror})") from None
        folder, _slash, name = target.rpartition("/")
        parsed = GenerationName.parse(name)
        if folder != "generations" or parsed is None:
            raise refuse(
                Reason.CURRENT_INVALID, f"{self.join(link)} points to {target[:200]!a}, which is no generation"
            )
        return parsed

    def generation_names(self) -> List[GenerationName]:
        """The generations on disk, lowest counter first."""
        try:
            names = os.listdir(self.generations)
        except FileNotFoundError:
            return []
        return sorted(parsed for parsed in map(GenerationName.parse, names) if parsed)

    def read_record(self, name: str) -> Dict[str, Any]:
        """A small JSON record under the root; empty where missing or damaged."""
        try:
            descriptor = os.open(self.join(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return {}
        try:
            found = json.loads(os.read(descriptor, MAX_RECORD_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        finally:
            os.close(descriptor)
        return found if isinstance(found, dict) else {}

    def counter_floor(self) -> int:
        """The highest counter ever activated here: the record, or that of `current` where it is higher."""
        recorded = self.read_record("counter").get("floor", 0)
        floor = recorded if isinstance(recorded, int) and 0 <= recorded <= MAX_COUNTER else 0
        current = self.link_target("current")
        return max(floor, current.counter if current else 0)

    def enrolled(self) -> bool:
        """Whether only signed grants count: signers are listed, or a signed grant was ever activated."""
        return os.path.lexists(os.path.join(self.trust_dir, "allowed_signers")) or bool(
            self.read_record("counter").get("enrolled")
        )

    def vehicle_id(self) -> Optional[str]:
        """The name that enrolment gave this vehicle, None before.

        Raises:
            CacheVerifyError: `trust-missing` where the vehicle is enrolled and nameless.
        """
        try:
            with open(os.path.join(self.trust_dir, "vehicle_id"), encoding="utf-8", errors="replace") as stream:
                found = stream.read(256).strip()
        except OSError:
            found = ""
        if not found and self.enrolled():
            raise refuse(
                Reason.TRUST_MISSING, f"this companion is enrolled, and {self.trust_dir}/vehicle_id is missing"
            )
        return found or None

    def next_counter(self) -> int:
        """The counter that a new grant needs."""
        return max([self.counter_floor()] + [name.counter for name in self.generation_names()]) + 1


def sync_filesystem(folder_fd: int) -> None:
    """Make everything written to the file system of `folder_fd` durable, with one call where the system has it.

    Raises:
        OSError: the device failed to take what was written.
    """
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError):
        os.sync()
        return
    while syncfs(folder_fd) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
