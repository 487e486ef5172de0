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
import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import Iterator, List, Optional, Set

from ._activation_lock import check_token, exclusive
from ._activation_state import CacheRoot, GenerationName, sync_filesystem
from ._atomic_file import fsync_folder, write_atomically
from ._audit import append_audit
from ._errors import CacheVerifyError
from ._generation import open_folder, read_manifest, verify_files, write_in
from ._generation_faults import Reason, refuse, refuse_activation
from ._grant import Grant, check_grant, format_time
from ._manifest import EVIDENCE_FILES, MANIFEST_NAME
from ._ssh_signature import verify_signature

__all__ = ["Activation", "activate", "collect_garbage", "copy_generation"]

LEASE_SUFFIX = ".lease"


@dataclass(frozen=True)
class Activation:
    """What was acknowledged. `changed` is False where this generation was current already."""

    generation: str
    content_id: str
    counter: int
    previous: Optional[str]
    signer: Optional[str]
    changed: bool


@contextlib.contextmanager
def _storage_errors(what: str) -> Iterator[None]:
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
        sealed_path: the sealed folder, on the file system of the root; it is moved away.
        token: the companion lock's token.
        grant_text: the exact bytes that were signed.
        vehicle_id: this companion's name where its trust folder names none.
        now_epoch_s: the time to judge by; this machine's clock by default.

    Raises:
        CacheVerifyError: the folder or its grant is refused.
        CacheActivateError: the storage failed, the run was superseded, or the cache is in use.
        BuildLockHeldError: another process is changing the cache.
    """
    now = time.time() if now_epoch_s is None else now_epoch_s
    grant = Grant.parse(grant_text)
    name = GenerationName(grant.counter, grant.content_id[:12])
    with _storage_errors(f"activating {name} under {root.path}"):
        root.ensure()
        with exclusive(root):
            check_token(root, run_id, token)
            _remove_leftovers(root)
            signer = _check_trust(root, grant_text, signature, now)
            known_vehicle = trusted_vehicle_id(root) or vehicle_id
            check_grant(grant, content_id=grant.content_id, vehicle_id=known_vehicle, flight_id=None, now_epoch_s=now)
            current = root.link_target("current")
            floor = root.counter_floor()
            if current == name:
                _check_same(root, name, grant)
            elif grant.counter <= floor:
                raise refuse(
                    Reason.GRANT_REPLAYED, f"the grant's counter {grant.counter} was used: this vehicle is at {floor}", floor=floor
                )
            else:
                _place(root, sealed_path, name, grant, grant_text, signature)
                _refuse_if_in_use(root, current)
                _switch(root, current, name)
            _settle(root, grant, name, signer, run_id, now)
            with contextlib.suppress(OSError):
                collect_garbage(root)
    left = root.link_target("previous")
    return Activation(str(name), grant.content_id, grant.counter, str(left) if left else None, signer, current != name)


def trusted_vehicle_id(root: CacheRoot) -> Optional[str]:
    """The name that enrolment gave this vehicle, None before.

    Raises:
        CacheVerifyError: `trust-missing` where the vehicle is enrolled and nameless.
    """
    try:
        with open(os.path.join(root.trust_dir, "vehicle_id"), encoding="utf-8", errors="replace") as stream:
            found = stream.read(256).strip()
    except OSError:
        found = ""
    if not found and root.enrolled():
        raise refuse(Reason.TRUST_MISSING, f"this companion is enrolled, and {root.trust_dir}/vehicle_id is missing")
    return found or None


def _check_trust(root: CacheRoot, grant_text: bytes, signature: Optional[bytes], now: float) -> Optional[str]:
    if not root.enrolled():
        return None
    return verify_signature(grant_text, signature, trust_dir=root.trust_dir, now_epoch_s=now)


def _check_same(root: CacheRoot, name: GenerationName, grant: Grant) -> None:
    with open_folder(os.path.join(root.generations, str(name))) as folder_fd:
        manifest = read_manifest(folder_fd)
        check_grant(grant, content_id=manifest.content_id, vehicle_id=None, flight_id=None, now_epoch_s=None)
        verify_files(folder_fd, manifest)


def _place(
    root: CacheRoot, sealed_path: str, name: GenerationName, grant: Grant, grant_text: bytes, signature: Optional[bytes]
) -> None:
    """Bring the verified folder under its final name, durably; an earlier run may have done it already."""
    final = os.path.join(root.generations, str(name))
    placed = os.path.isdir(final)
    with open_folder(final if placed else sealed_path) as folder_fd:
        for evidence in EVIDENCE_FILES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f".tmp-{evidence}", dir_fd=folder_fd)
        manifest = read_manifest(folder_fd)
        check_grant(grant, content_id=manifest.content_id, vehicle_id=None, flight_id=None, now_epoch_s=None)
        verify_files(folder_fd, manifest)
        write_in(folder_fd, "grant.json", grant_text)
        if signature:
            write_in(folder_fd, "grant.json.sig", signature)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink("grant.json.sig", dir_fd=folder_fd)
        sync_filesystem(folder_fd)
        if not placed:
            os.rename(sealed_path, final)
        fsync_folder(root.generations)
        if not placed:
            with contextlib.suppress(FileNotFoundError):
                fsync_folder(os.path.dirname(os.path.abspath(sealed_path)))


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
    fsync_folder(root.path)


def _settle(
    root: CacheRoot, grant: Grant, name: GenerationName, signer: Optional[str], run_id: str, now: float
) -> None:
    """Counter, then audit; each only where it is not yet said, so that a repeated activation adds nothing."""
    record = root.read_record("counter")
    fsync_folder(root.path)
    if record.get("floor") != grant.counter or bool(record.get("enrolled")) != root.enrolled():
        content = json.dumps({"floor": grant.counter, "enrolled": root.enrolled()}, sort_keys=True)
        write_atomically(root.join("counter"), content.encode())
    if root.read_record("activated.json").get("generation") != str(name):
        entry = {
            "at": format_time(now),
            "event": "activated",
            "generation": str(name),
            "content_id": grant.content_id,
            "flight_id": grant.flight_id,
            "vehicle_id": grant.vehicle_id,
            "run_id": run_id,
            "signer": signer,
        }
        append_audit(root.join("audit.ndjson"), entry)
        write_atomically(root.join("activated.json"), json.dumps({"generation": str(name)}).encode())


def _leased(root: CacheRoot, name: GenerationName) -> bool:
    """Whether a process (a flight) holds a shared flock on `generations/<name>.lease`."""
    try:
        descriptor = os.open(os.path.join(root.generations, f"{name}{LEASE_SUFFIX}"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _refuse_if_in_use(root: CacheRoot, current: Optional[GenerationName]) -> None:
    if current is not None and _leased(root, current):
        raise refuse_activation(Reason.CACHE_IN_USE, f"the current cache {current} is in use by a flight: land first")


def _remove_leftovers(root: CacheRoot) -> None:
    for link in ("current", "previous"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(root.join(f".tmp-{link}"))
    for name in os.listdir(root.trash):
        _remove_tree(os.path.join(root.trash, name))


def _remove_tree(path: str) -> None:
    """Remove a folder without following links; a file goes as it is."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def collect_garbage(root: CacheRoot) -> List[str]:
    """Remove the generations that are neither current, previous nor leased; call it under `exclusive`.

    Raises:
        CacheVerifyError: `current` or `previous` is not what it should be; then nothing is removed.
    """
    keep: Set[Optional[GenerationName]] = {root.link_target("current"), root.link_target("previous")}
    removed = []
    if root.link_target("current") is None:
        return []
    for name in root.generation_names():
        if name in keep or _leased(root, name):
            continue
        bin_path = os.path.join(root.trash, str(name))
        os.rename(os.path.join(root.generations, str(name)), bin_path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(root.generations, f"{name}{LEASE_SUFFIX}"))
        _remove_tree(bin_path)
        removed.append(str(name))
    return removed


def copy_generation(root: CacheRoot, generation: str, *, target_path: str) -> str:
    """A sealed copy of an old generation, for a rollback under a newly signed grant; the content id is returned.

    Raises:
        CacheVerifyError: the old generation is not whole.
        CacheActivateError: the disk is full or fails.
    """
    source = os.path.join(root.generations, generation)
    if GenerationName.parse(generation) is None:
        raise refuse(Reason.NO_CACHE, f"{generation[:60]!a} is not the name of a generation")
    with _storage_errors(f"copying {generation}"), open_folder(source) as folder_fd:
        manifest = read_manifest(folder_fd)
        verify_files(folder_fd, manifest)
        if os.path.lexists(target_path):
            shutil.rmtree(target_path)
        os.makedirs(target_path)
        for path in [MANIFEST_NAME] + [entry.path for entry in manifest.entries]:
            os.makedirs(os.path.dirname(os.path.join(target_path, path)), exist_ok=True)
            shutil.copyfile(os.path.join(source, path), os.path.join(target_path, path), follow_symlinks=False)
            os.chmod(os.path.join(target_path, path), 0o444)
        try:
            with open_folder(target_path) as copy_fd:
                verify_files(copy_fd, read_manifest(copy_fd))
        except CacheVerifyError:
            shutil.rmtree(target_path)
            raise
    return manifest.content_id
