# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Activation: a sealed folder becomes the current cache, by one rename, or nothing happens.

Runs on the companion: standard library only, Python 3.8. The order is what survives a power cut at any point:
verify, grant, sync the file system, rename into generations/, `previous`, `current`, counter, audit, acknowledge.
Each step is repeated harmlessly by the next run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from dataclasses import dataclass
from typing import Dict, Iterator, Optional

from ._activation_garbage import collect_garbage, in_use, remove_leftovers
from ._activation_lock import check_token, exclusive
from ._activation_state import CacheRoot, GenerationName, sync_filesystem
from ._atomic_file import fsync_folder, write_atomically
from ._audit import append_audit, last_audit
from ._generation import open_folder, open_generation, read_manifest, remove_temporaries, verify_files, write_in
from ._generation_faults import Reason, refuse, refuse_activation
from ._grant import Grant, check_grant, format_time
from ._ssh_signature import verify_signature

__all__ = ["Activation", "activate", "storage_errors"]


@dataclass(frozen=True)
class Activation:
    """What was acknowledged. `changed` is False where this generation was current already."""

    generation: str
    content_id: str
    counter: int
    previous: Optional[str]
    signer: Optional[str]
    changed: bool


@dataclass(frozen=True)
class _Signed:
    """A grant as it came: its parsed form, the exact text that was signed, and the signature over it."""

    grant: Grant
    text: bytes
    signature: Optional[bytes]

    @property
    def generation(self) -> GenerationName:
        return GenerationName(self.grant.counter, self.grant.content_id[:12])


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Name the work during which the storage failed."""
    try:
        yield
    except OSError as exc:
        name = errno.errorcode.get(exc.errno or 0, "error")
        raise refuse_activation(Reason.STORAGE, f"{what} failed: {exc.strerror or exc}", errno=name) from None


def activate(
    root: CacheRoot,
    *,
    sealed_path: str,
    run_id: str,
    token: Optional[int],
    grant_text: bytes,
    signature: Optional[bytes] = None,
    vehicle_id: Optional[str] = None,
    now_epoch_s: Optional[float] = None,
) -> Activation:
    """Verify a sealed folder and its grant independently, and make it the current cache.

    Args:
        root: where.
        sealed_path: the sealed folder, on the file system of the root; it is moved away.
        run_id: the run that activates.
        token: the companion lock's token.
        grant_text: the exact bytes that were signed.
        signature: the armoured signature over them; needed once the companion is enrolled.
        vehicle_id: this companion's name where its trust folder names none.
        now_epoch_s: the time to judge by; this machine's clock by default.

    Raises:
        CacheVerifyError: the folder or its grant is refused.
        CacheActivateError: the storage failed, the run was superseded, or the cache is in use.
        BuildLockHeldError: another process is changing the cache.
    """
    now = time.time() if now_epoch_s is None else now_epoch_s
    signed = _Signed(Grant.parse(grant_text), grant_text, signature)
    grant, name = signed.grant, signed.generation
    with storage_errors(f"activating {name} under {root.path}"):
        root.ensure()
        with exclusive(root):
            check_token(root, run_id, token)
            remove_leftovers(root)
            # Before, so that runs that fail half-way never pile up; and after, for what has just become garbage.
            with contextlib.suppress(OSError):
                collect_garbage(root, spare=name)
            signer = None
            if root.enrolled():
                signer = verify_signature(grant_text, signature, trust_dir=root.trust_dir, now_epoch_s=now)
            vehicle = root.vehicle_id() or vehicle_id
            check_grant(grant, content_id=grant.content_id, vehicle_id=vehicle, flight_id=None, now_epoch_s=now)
            current = root.link_target("current")
            floor = root.counter_floor()
            if current == name:
                if os.path.isdir(sealed_path):
                    # Something else than what is current was asked for, under the grant of what is current.
                    with open_folder(sealed_path) as folder_fd:
                        _check_content(folder_fd, grant)
                with open_generation(root.path, str(name)) as folder_fd:
                    _check_content(folder_fd, grant)
            elif grant.counter <= floor:
                raise refuse(
                    Reason.GRANT_REPLAYED,
                    f"the grant's counter {grant.counter} was used: this vehicle is at {floor}",
                    floor=floor,
                )
            else:
                if current is not None and in_use(root, current):
                    raise refuse_activation(Reason.CACHE_IN_USE, f"the current cache {current} is in use by a flight")
                _place(root, sealed_path, signed)
                _switch(root, current, name)
            _settle(root, signed, {"run_id": run_id, "signer": signer, "at": format_time(now)})
            with contextlib.suppress(OSError):
                collect_garbage(root)
            previous = root.link_target("previous")
    shown = str(previous) if previous else None
    return Activation(str(name), grant.content_id, grant.counter, shown, signer, current != name)


def _check_content(folder_fd: int, grant: Grant) -> None:
    manifest = read_manifest(folder_fd)
    check_grant(grant, content_id=manifest.content_id, vehicle_id=None, flight_id=None, now_epoch_s=None)
    verify_files(folder_fd, manifest)


def _place(root: CacheRoot, sealed_path: str, signed: _Signed) -> None:
    """Bring the verified folder under its final name, durably; an earlier run may have done it already."""
    final = os.path.join(root.generations, str(signed.generation))
    placed = os.path.isdir(final)
    with open_folder(final if placed else sealed_path) as folder_fd:
        remove_temporaries(folder_fd)
        _check_content(folder_fd, signed.grant)
        write_in(folder_fd, "grant.json", signed.text)
        if signed.signature:
            write_in(folder_fd, "grant.json.sig", signed.signature)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink("grant.json.sig", dir_fd=folder_fd)
        sync_filesystem(folder_fd)
        if not placed:
            os.rename(sealed_path, final)
        verified, named = os.fstat(folder_fd), os.lstat(final)
        if (verified.st_dev, verified.st_ino) != (named.st_dev, named.st_ino):
            raise refuse(Reason.FILE_CHANGED, f"{sealed_path} was replaced while it was verified", file=sealed_path)
        fsync_folder(root.generations)


def _link(root: CacheRoot, link: str, name: GenerationName) -> None:
    temporary = root.join(f".tmp-{link}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(f"generations/{name}", temporary)
    os.rename(temporary, root.join(link))


def _switch(root: CacheRoot, current: Optional[GenerationName], name: GenerationName) -> None:
    if current is not None:
        _link(root, "previous", current)
        fsync_folder(root.path)
    _link(root, "current", name)


def _settle(root: CacheRoot, signed: _Signed, evidence: Dict[str, Optional[str]]) -> None:
    """Make the switch durable, then counter, then audit; each only where it is not yet said."""
    grant, name = signed.grant, str(signed.generation)
    fsync_folder(root.path)
    wanted = {"floor": grant.counter, "enrolled": root.enrolled()}
    if root.read_record("counter") != wanted:
        write_atomically(root.join("counter"), json.dumps(wanted, sort_keys=True).encode())
    audit = root.join("audit.ndjson")
    if last_audit(audit).get("generation") != name:
        entry = {
            "event": "activated",
            "generation": name,
            "content_id": grant.content_id,
            "flight_id": grant.flight_id,
            "vehicle_id": grant.vehicle_id,
            **evidence,
        }
        append_audit(audit, entry)
