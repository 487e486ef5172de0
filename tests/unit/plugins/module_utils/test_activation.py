# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _activation
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation import Activation, activate
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_garbage import collect_garbage
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_lock import (
    acquire_companion_lock,
    exclusive,
    release_companion_lock,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_rollback import copy_generation
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_seal import seal_build
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from ansible_collections.gps_denied.preflight.plugins.module_utils._audit import check_audit, last_audit
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheActivateError, CacheBuildError
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation import (
    open_folder,
    read_manifest,
    verify_files,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_faults import Reason, reason_of
from ansible_collections.gps_denied.preflight.plugins.module_utils._takeoff_check import TakeoffQuestion, check_cache
from cache_samples import RUN_ID, Signer, activate_build, grant_for, make_build, seal_only


@pytest.fixture
def root(tmp_path: Path) -> CacheRoot:
    return CacheRoot(str(tmp_path / "cache"))


def do(root: CacheRoot, source: str, text: str | bytes, **options: Any) -> Activation:
    content = text.encode() if isinstance(text, str) else text
    values: dict[str, Any] = {"run_id": RUN_ID, "token": None, **options}
    return activate(root, sealed_path=source, grant_text=content, **values)


def refused(root: CacheRoot, source: str, text: str | bytes, **options: Any) -> Reason:
    before = snapshot(root)
    with pytest.raises(CacheBuildError) as caught:
        do(root, source, text, **options)
    assert snapshot(root) == before, "a refused activation changed the cache"
    return reason_of(caught.value)


def snapshot(root: CacheRoot) -> dict[str, Any]:
    links = {name: os.readlink(root.join(name)) for name in ("current", "previous") if os.path.islink(root.join(name))}
    records = {
        name: Path(root.join(name)).read_bytes()
        for name in ("counter", "audit.ndjson")
        if os.path.exists(root.join(name))
    }
    return {**links, **records}


def sealed(root: CacheRoot, seed: int = 1) -> tuple[str, str, int]:
    shutil.rmtree(root.join("work", RUN_ID), ignore_errors=True)
    source = make_build(root, seed=seed)
    return source, *seal_only(root, source)


def test_activation_switches_current_keeps_the_previous_and_removes_older_ones(root: CacheRoot) -> None:
    names = [activate_build(root, seed=seed).generation for seed in range(4)]
    assert [str(name) for name in root.generation_names()] == names[2:]
    assert os.readlink(root.join("current")) == f"generations/{names[3]}"
    assert os.readlink(root.join("previous")) == f"generations/{names[2]}"
    assert [name.split("-")[0] for name in names] == ["00000001", "00000002", "00000003", "00000004"]
    assert root.counter_floor() == 4
    assert check_audit(root.join("audit.ndjson")) == (4, None)
    assert last_audit(root.join("audit.ndjson"))["generation"] == names[3]
    assert check_cache(root, TakeoffQuestion()).go
    assert os.listdir(root.trash) == []


def test_activating_again_changes_nothing(root: CacheRoot) -> None:
    source, content_id, counter = sealed(root)
    text = grant_for(content_id, counter).to_text()
    assert do(root, source, text).changed
    before = snapshot(root)
    again = do(root, source, text)
    assert not again.changed
    assert again.content_id == content_id
    assert snapshot(root) == before


def test_a_grant_counts_once_and_only_upwards(root: CacheRoot) -> None:
    activate_build(root, seed=1)
    activate_build(root, seed=2)
    source, content_id, _counter = sealed(root, 3)
    for counter in (1, 2):
        assert refused(root, source, grant_for(content_id, counter).to_text()) is Reason.GRANT_REPLAYED
    assert do(root, source, grant_for(content_id, 9).to_text()).counter == 9
    assert root.next_counter() == 10


def test_the_floor_holds_when_the_record_is_lost(root: CacheRoot) -> None:
    activate_build(root, seed=1)
    activate_build(root, seed=2)
    os.unlink(root.join("counter"))
    source, content_id, counter = sealed(root, 3)
    assert counter == 3
    assert refused(root, source, grant_for(content_id, 2).to_text()) is Reason.GRANT_REPLAYED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"content_id": "ab" * 32}, Reason.GRANT_CONTENT),
        ({"vehicle_id": "other"}, Reason.GRANT_VEHICLE),
        ({"not_before": "2001-01-01T00:00:00Z", "not_after": "2001-01-02T00:00:00Z"}, Reason.GRANT_EXPIRED),
        ({"not_before": "2101-01-01T00:00:00Z", "not_after": "2101-01-02T00:00:00Z"}, Reason.GRANT_NOT_YET_VALID),
    ],
)
def test_a_foreign_or_stale_grant_is_refused(root: CacheRoot, change: dict[str, str], reason: Reason) -> None:
    activate_build(root, seed=1)
    source, content_id, counter = sealed(root, 2)
    text = grant_for(content_id, counter, **change).to_text()
    assert refused(root, source, text, vehicle_id="vehicle-01") is reason


def test_bytes_that_changed_after_the_seal_are_refused(root: CacheRoot) -> None:
    activate_build(root, seed=1)
    source, content_id, counter = sealed(root, 2)
    victim = Path(source, "index", "graph.bin")
    victim.chmod(0o644)
    victim.write_bytes(b"x" * victim.stat().st_size)
    assert refused(root, source, grant_for(content_id, counter).to_text()) is Reason.FILE_CONTENT
    assert check_cache(root, TakeoffQuestion()).go


def test_a_folder_that_is_swapped_after_the_check_never_becomes_current(
    root: CacheRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate_build(root, seed=1)
    source, content_id, counter = sealed(root, 2)
    real = _activation.sync_filesystem

    def swap(descriptor: int) -> None:
        real(descriptor)
        os.rename(source, source + "-good")
        shutil.copytree(source + "-good", source)
        Path(source, "evil").write_bytes(b"x")

    monkeypatch.setattr(_activation, "sync_filesystem", swap)
    assert refused(root, source, grant_for(content_id, counter).to_text()) is Reason.FILE_CHANGED
    assert check_cache(root, TakeoffQuestion()).go


def test_once_enrolled_only_signed_grants_count(root: CacheRoot, tmp_path: Path) -> None:
    signer, stranger = Signer.create(tmp_path, "operator"), Signer.create(tmp_path, "stranger")
    signer.enrol(root)
    source, content_id, counter = sealed(root)
    text = grant_for(content_id, counter).to_text().encode()
    assert refused(root, source, text) is Reason.GRANT_UNSIGNED
    assert refused(root, source, text, signature=stranger.sign(text)) is Reason.SIGNER_UNKNOWN
    assert refused(root, source, text + b" ", signature=signer.sign(text)) is Reason.SIGNATURE_INVALID
    other = grant_for(content_id, counter, vehicle_id="vehicle-02").to_text().encode()
    assert refused(root, source, other, signature=signer.sign(other)) is Reason.GRANT_VEHICLE
    assert do(root, source, text, signature=signer.sign(text)).signer == "operator"
    assert check_cache(root, TakeoffQuestion()).signer == "operator"
    os.unlink(os.path.join(root.trust_dir, "allowed_signers"))
    assert check_cache(root, TakeoffQuestion()).reason == "trust-missing"
    source, content_id, counter = sealed(root, 2)
    assert refused(root, source, grant_for(content_id, counter).to_text()) is Reason.TRUST_MISSING


def test_old_content_comes_back_under_a_new_grant_only(root: CacheRoot) -> None:
    old = activate_build(root, seed=1)
    new = activate_build(root, seed=2)
    target = root.join("work", "rollback")
    assert copy_generation(root, old.generation, target_path=target) == old.content_id
    assert refused(root, target, grant_for(old.content_id, old.counter).to_text()) is Reason.GRANT_REPLAYED
    back = do(root, target, grant_for(old.content_id, root.next_counter()).to_text())
    assert (back.content_id, back.counter, back.previous) == (old.content_id, 3, new.generation)
    assert check_cache(root, TakeoffQuestion(content_id=old.content_id)).go


def test_a_broken_old_generation_does_not_come_back(root: CacheRoot) -> None:
    old = activate_build(root, seed=1)
    activate_build(root, seed=2)
    Path(root.generations, old.generation, "tiles.pmtiles").unlink()
    with pytest.raises(CacheBuildError, match="tiles.pmtiles is missing"):
        copy_generation(root, old.generation, target_path=root.join("work", "rollback"))
    with pytest.raises(CacheBuildError, match="not the name of a generation"):
        copy_generation(root, "../../etc", target_path=root.join("work", "rollback"))


def test_a_cache_in_flight_is_neither_replaced_nor_removed(root: CacheRoot) -> None:
    first = activate_build(root, seed=1)
    flying = os.open(os.path.join(root.generations, first.generation), os.O_RDONLY)
    fcntl.flock(flying, fcntl.LOCK_SH)
    source, content_id, counter = sealed(root, 2)
    text = grant_for(content_id, counter).to_text()
    try:
        assert refused(root, source, text) is Reason.CACHE_IN_USE
    finally:
        os.close(flying)
    do(root, source, text)
    flying = os.open(os.path.join(root.generations, first.generation), os.O_RDONLY)
    fcntl.flock(flying, fcntl.LOCK_SH)
    activate_build(root, seed=3)
    activate_build(root, seed=4)
    assert first.generation in map(str, root.generation_names())
    os.close(flying)
    with exclusive(root):
        assert collect_garbage(root) == [first.generation]


def test_garbage_is_taken_up_where_it_was_left_and_links_are_not_followed(root: CacheRoot, tmp_path: Path) -> None:
    activate_build(root, seed=1)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"x")
    half_removed = Path(root.trash, "00000009-0123456789ab")
    half_removed.mkdir()
    (half_removed / "link").symlink_to(precious)
    Path(root.trash, "00000008-0123456789ab").symlink_to(precious)
    Path(root.generations, "notes.txt").write_bytes(b"kept: no generation")
    activate_build(root, seed=2)
    assert os.listdir(root.trash) == []
    assert (precious / "file").exists()
    assert Path(root.generations, "notes.txt").exists()


def test_a_run_that_was_superseded_can_neither_seal_nor_activate(root: CacheRoot) -> None:
    token = acquire_companion_lock(root.path, RUN_ID, f"run {RUN_ID} of a on b")
    source = make_build(root, seed=1)
    _changed, facts = seal_build(
        root, source=source, archive=None, request_text=None, report_text=None, run_id=RUN_ID, token=token
    )
    text = grant_for(facts["content_id"], facts["next_counter"]).to_text()
    newer = acquire_companion_lock(root.path, "run-2", "run run-2 of a on b")
    assert newer == token + 1
    assert refused(root, source, text, token=token) is Reason.LOCK_SUPERSEDED
    with pytest.raises(CacheActivateError, match="no longer holds the lock"):
        seal_build(root, source=source, archive=None, request_text=None, report_text=None, run_id=RUN_ID, token=token)
    assert refused(root, source, text) is Reason.LOCK_HELD
    release_companion_lock(root.path, "run-2", newer)
    assert refused(root, source, text, token=token) is Reason.LOCK_SUPERSEDED


@pytest.mark.parametrize("kind", ["file", "folder", "elsewhere", "no generation"])
def test_a_current_that_is_no_link_to_a_generation_is_refused(root: CacheRoot, kind: str) -> None:
    activate_build(root, seed=1)
    current = Path(root.join("current"))
    current.unlink()
    if kind == "file":
        current.write_bytes(b"x")
    elif kind == "folder":
        current.mkdir()
    else:
        current.symlink_to("/etc" if kind == "elsewhere" else "generations/00000007-0123456789ab")
    answer = check_cache(root, TakeoffQuestion())
    assert (answer.go, answer.reason) == (False, "current-invalid")


def test_the_grant_lies_beside_the_cache_as_it_was_signed(root: CacheRoot) -> None:
    done = activate_build(root, seed=1)
    text = Path(root.generations, done.generation, "grant.json").read_text(encoding="utf-8")
    assert json.loads(text)["content_id"] == done.content_id


def test_a_hundred_megabytes_are_activated_within_a_second_beside_the_hashing(root: CacheRoot) -> None:
    filler = os.urandom(1 << 20)
    spans = []
    for seed in range(3):
        source = make_build(root, seed=seed, archive=filler * 100)
        content_id, counter = seal_only(root, source)
        begun = time.perf_counter()
        with open_folder(source) as folder_fd:
            verify_files(folder_fd, read_manifest(folder_fd))
        hashed = time.perf_counter()
        do(root, source, grant_for(content_id, counter).to_text())
        spans.append(time.perf_counter() - hashed - (hashed - begun))
    assert min(spans) < 1.0


def test_a_build_on_another_file_system_is_refused_and_left_alone(root: CacheRoot) -> None:
    activate_build(root, seed=1)
    elsewhere = CacheRoot(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        source, content_id, counter = sealed(elsewhere, 2)
        assert refused(root, source, grant_for(content_id, counter + 1).to_text()) is Reason.STORAGE
        assert os.path.isdir(source)
    finally:
        shutil.rmtree(elsewhere.path)


def test_without_syncfs_everything_is_synced(root: CacheRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(*_arguments: object, **_options: object) -> None:
        raise OSError("no dlopen here")

    synced = []
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    monkeypatch.setattr(os, "sync", lambda: synced.append(True))
    activate_build(root, seed=1)
    assert synced == [True]


def test_without_the_counter_a_used_grant_would_count_again(root: CacheRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    activate_build(root, seed=1)
    source, content_id, _counter = sealed(root, 2)
    monkeypatch.setattr(CacheRoot, "counter_floor", lambda _self: 0)
    assert do(root, source, grant_for(content_id, 1).to_text()).changed
