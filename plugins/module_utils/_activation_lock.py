# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The companion's lock: a lease with a fencing token, so that a paused old run cannot act after a newer one.

Runs on the companion: standard library only, Python 3.8. No process lives across the tasks of a play, so the lock is a
record, changed under flock. Its lease counts the boot clock, which no clock setting moves; a reboot ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterator, Optional

from ._activation_state import CacheRoot
from ._atomic_file import write_atomically
from ._errors import BuildLockHeldError, CacheActivateError
from ._generation_faults import Reason, refuse_activation

__all__ = [
    "CompanionLock",
    "acquire_companion_lock",
    "boot_id",
    "check_token",
    "exclusive",
    "read_companion_lock",
    "release_companion_lock",
    "renew_companion_lock",
]

LOCK_FILE, RECORD_FILE = "lock", "lock.json"
DEFAULT_LEASE_S = 6 * 3600.0
EXCLUSIVE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class CompanionLock:
    """The record. `token` rises by one with every holder and never falls; `lease_end_s` is on the boot clock."""

    token: int
    run_id: str
    owner: str
    holder: str
    held: bool
    boot_id: str
    lease_end_s: float
    acquired_at: float

    def is_live(self) -> bool:
        """Whether its holder may still act alone."""
        return self.held and self.boot_id == boot_id() and _boot_clock_s() < self.lease_end_s


def boot_id() -> str:
    """Names this boot of the machine; `unknown` where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read(64).strip()
    except OSError:
        return "unknown"


def _boot_clock_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextlib.contextmanager
def exclusive(root: CacheRoot, *, timeout_s: float = EXCLUSIVE_TIMEOUT_S) -> Iterator[None]:
    """Be alone in changing the cache root; the kernel frees it whatever happens to this process.

    Raises:
        BuildLockHeldError: another process changes it for longer than `timeout_s`.
    """
    descriptor = os.open(root.join(LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BuildLockHeldError(
                        f"another process changes {root.path} and did not finish within {timeout_s:.0f} s"
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def read_companion_lock(root: CacheRoot) -> Optional[CompanionLock]:
    """The last lock record, None where there is none or it is damaged."""
    record = root.read_record(RECORD_FILE)
    try:
        return CompanionLock(
            token=int(record["token"]),
            run_id=str(record["run_id"]),
            owner=str(record["owner"]),
            holder=str(record["holder"]),
            held=bool(record["held"]),
            boot_id=str(record["boot_id"]),
            lease_end_s=float(record["lease_end_s"]),
            acquired_at=float(record["acquired_at"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _write(root: CacheRoot, lock: CompanionLock) -> None:
    record: Dict[str, Any] = asdict(lock)
    write_atomically(root.join(RECORD_FILE), json.dumps(record, sort_keys=True).encode())


def acquire_companion_lock(
    root: str, run_id: str, holder_text: str, *, owner: Optional[str] = None, lease_s: float = DEFAULT_LEASE_S
) -> int:
    """Take the lock and get its token.

    Args:
        root: the cache root; its folders are created where missing.
        run_id: the run that asks.
        holder_text: who holds it, for people.
        owner: what may take the lock over from itself at once, such as a workstation whose own lock already keeps
            its runs apart; by default `holder_text` without the run's id.
        lease_s: for how long the lock outlives a silent holder.

    Raises:
        BuildLockHeldError: another owner holds it and its lease has not ended.
        OSError: the root is missing, full or read-only.
    """
    place = CacheRoot(root)
    place.ensure()
    owner = owner if owner is not None else " ".join(holder_text.replace(run_id, "").split())
    with exclusive(place):
        last = read_companion_lock(place)
        if last and last.is_live() and last.run_id == run_id:
            token = last.token
        elif last and last.is_live() and last.owner != owner:
            left_s = last.lease_end_s - _boot_clock_s()
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last.acquired_at))
            raise BuildLockHeldError(
                f"{root} is held by {last.holder} since {since} (companion's clock), for {left_s:.0f} s more at most",
                details={"holder": last.holder, "run_id": last.run_id, "reason": Reason.LOCK_HELD.value},
            )
        else:
            token = (last.token if last else 0) + 1
        _write(
            place,
            CompanionLock(
                token=token,
                run_id=run_id,
                owner=owner,
                holder=holder_text,
                held=True,
                boot_id=boot_id(),
                lease_end_s=_boot_clock_s() + lease_s,
                acquired_at=time.time(),
            ),
        )
    return token


def renew_companion_lock(root: str, run_id: str, token: int, *, lease_s: float = DEFAULT_LEASE_S) -> None:
    """Begin the lease anew.

    Raises:
        CacheActivateError: `lock-superseded`.
    """
    place = CacheRoot(root)
    with exclusive(place):
        check_token(place, run_id, token)
        last = read_companion_lock(place)
        if last:
            values = {**asdict(last), "held": True, "boot_id": boot_id(), "lease_end_s": _boot_clock_s() + lease_s}
            _write(place, CompanionLock(**values))


def release_companion_lock(root: str, run_id: str, token: int) -> bool:
    """Give the lock back; False where a newer holder has it, or nobody."""
    place = CacheRoot(root)
    if not os.path.isdir(root):
        return False
    with exclusive(place):
        last = read_companion_lock(place)
        if not (last and last.held and last.run_id == run_id and last.token == token):
            return False
        _write(place, CompanionLock(**{**asdict(last), "held": False}))
    return True


def check_token(root: CacheRoot, run_id: str, token: Optional[int]) -> None:
    """Let pass the newest holder while it holds the lock, or anyone without a token while nobody does.

    To be called under `exclusive`.

    Raises:
        CacheActivateError: `lock-superseded`, or `lock-held` without a token.
    """
    error: Optional[CacheActivateError] = None
    last = read_companion_lock(root)
    if token is None:
        if last and last.is_live() and last.run_id != run_id:
            error = refuse_activation(Reason.LOCK_HELD, f"{root.path} is held by {last.holder}")
    elif last is None or not last.held or last.token != token or last.run_id != run_id:
        # One that gave it back, or for which somebody did after it was killed, is not woken up to act either.
        who = f": {last.holder} came after it" if last and last.run_id != run_id else ""
        error = refuse_activation(Reason.LOCK_SUPERSEDED, f"run {run_id} no longer holds the lock of {root.path}{who}")
    if error:
        raise error
