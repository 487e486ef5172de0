# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rare branches of what a flight's safety hangs on: failing system calls, races, and runs that go on half-way."""

from __future__ import annotations

import base64
import ctypes
import errno
import json
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import (
    _activation_lock,
    _generation,
    _takeoff_check,
    _takeoff_check_program,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation import activate
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_garbage import in_use
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_rollback import copy_generation
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import (
    CacheRoot,
    GenerationName,
    sync_filesystem,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._atomic_file import write_atomically
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheVerifyError
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_faults import Reason, reason_of
from ansible_collections.gps_denied.preflight.plugins.module_utils._manifest import MAX_FILES, Manifest, ManifestEntry
from ansible_collections.gps_denied.preflight.plugins.module_utils._ssh_signature import parse_allowed_signers
from ansible_collections.gps_denied.preflight.plugins.module_utils._takeoff_check import (
    TakeoffAnswer,
    TakeoffQuestion,
    check_cache,
)
from cache_samples import RUN_ID, activate_build, grant_for, make_build, seal_only, tile_archive


@pytest.fixture
def root(tmp_path: Path) -> CacheRoot:
    return CacheRoot(str(tmp_path / "cache"))


@contextmanager
def refused(reason: Reason) -> Iterator[None]:
    with pytest.raises(CacheVerifyError) as caught:
        yield
    assert reason_of(caught.value) is reason


def fail(*_arguments: Any, **_options: Any) -> Any:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


# --------------------------------------------------------------------------------------- manifest, signers, reasons


def test_a_manifest_of_no_or_too_many_entries_cannot_be_made() -> None:
    with refused(Reason.MANIFEST_MALFORMED):
        Manifest([])
    with refused(Reason.MANIFEST_TOO_LARGE):
        Manifest(ManifestEntry("0" * 64, 1, f"f{number:05}") for number in range(MAX_FILES + 1))


def test_a_signers_time_that_is_none_closes_the_door() -> None:
    kind = b"ssh-ed25519"
    key = base64.b64encode(struct.pack(">I", len(kind)) + kind + struct.pack(">I", 32) + bytes(32)).decode()
    assert parse_allowed_signers(f'ann valid-before="20270101" ssh-ed25519 {key}\n'.encode())
    with refused(Reason.TRUST_MALFORMED):
        parse_allowed_signers(f'ann valid-before="soon" ssh-ed25519 {key}\n'.encode())


def test_an_error_without_a_code_is_the_verifiers_own() -> None:
    assert reason_of(ValueError("x")) is Reason.VERIFIER_FAILED


# ---------------------------------------------------------------------------------------------------------- the files


@pytest.fixture
def sealed(root: CacheRoot) -> Path:
    source = make_build(root, seed=1)
    seal_only(root, source)
    return Path(source)


def check(folder: Path, *, full: bool = True) -> None:
    with _generation.open_folder(str(folder)) as folder_fd:
        _generation.verify_files(folder_fd, _generation.read_manifest(folder_fd), full=full)


@pytest.mark.parametrize("call", ["open", "read", "readv"])
def test_a_disk_that_fails_under_the_check_is_told(sealed: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_generation.os, call, fail)
        with refused(Reason.FILE_UNREADABLE):
            check(sealed)
    check(sealed)


def test_a_file_that_goes_while_the_folder_is_listed_is_told(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def gone(path: Any, **options: Any) -> os.stat_result:
        if path == "graph.bin":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return real(path, **options)

    monkeypatch.setattr(_generation.os, "stat", gone)
    with refused(Reason.FILE_MISSING):
        check(sealed)


def test_a_file_that_goes_between_the_listing_and_the_hash_is_told(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def gone(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if path == "graph.bin":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(_generation.os, "open", gone)
    with refused(Reason.FILE_MISSING):
        check(sealed)


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_file_of_another_size_than_it_had_is_told(sealed: Path, wrong: int) -> None:
    path = sealed / "tiles.pmtiles"
    with path.open("rb") as stream, refused(Reason.FILE_SIZE):
        _generation.hash_descriptor(stream.fileno(), path.name, path.stat().st_size + wrong)


def test_the_fast_check_leaves_the_bytes_of_large_files(root: CacheRoot) -> None:
    source = Path(make_build(root, seed=1, archive=bytes(2 << 20)))
    seal_only(root, str(source))
    (source / "tiles.pmtiles").chmod(0o644)
    with (source / "tiles.pmtiles").open("r+b") as stream:
        stream.write(b"x")
    check(source, full=False)
    with refused(Reason.FILE_CONTENT):
        check(source)


def test_a_file_that_is_replaced_while_it_is_sealed_is_told(root: CacheRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(make_build(root, seed=1))
    real = os.open

    def swapped(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if path == "graph.bin":
            os.rename(source / "index" / path, source.parent / "old")
            shutil.copy(source.parent / "old", source / "index" / path)
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(_generation.os, "open", swapped)
    with refused(Reason.FILE_CHANGED):
        _generation.seal(str(source))


# ------------------------------------------------------------------------------------------------------- the take-off


def test_a_disk_that_fails_under_the_question_is_no_go(root: CacheRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    activate_build(root, seed=1)
    monkeypatch.setattr(_takeoff_check, "read_manifest", fail)
    answer = check_cache(root, TakeoffQuestion())
    assert (answer.go, answer.reason) == (False, Reason.STORAGE.value)


def test_a_route_within_the_archive_is_go_and_its_tiles_are_counted(root: CacheRoot, tmp_path: Path) -> None:
    activate_build(root, seed=1, archive=tile_archive([(1, x, y) for x in range(2) for y in range(2)]))
    route = tmp_path / "route.json"
    route.write_text(json.dumps({"type": "LineString", "coordinates": [[-10, 10], [10, -10]]}), encoding="utf-8")
    answer = check_cache(root, TakeoffQuestion(route_path=str(route)))
    assert answer.go, answer.message
    assert answer.route_tiles in {2, 3}


def test_a_go_without_an_end_holds_for_the_hold(tmp_path: Path) -> None:
    path = tmp_path / "until"
    _takeoff_check_program.write_valid_until(
        str(path), TakeoffAnswer(go=True, mode="full"), now_epoch_s=100.0, hold_s=5.0
    )
    assert path.read_text(encoding="utf-8").split()[0] == "105"


class Closed:
    """A terminal that has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_an_answer_that_nobody_hears_is_no_go(root: CacheRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    activate_build(root, seed=1)
    question = ["--root", root.path]
    assert _takeoff_check_program.main(question) == 0
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Closed())
        assert _takeoff_check_program.main(question) == 1
    monkeypatch.setattr(_takeoff_check_program, "check_cache", fail)
    assert _takeoff_check_program.main(question) == 1


# ------------------------------------------------------------------------------------------------------- activation


def granted(root: CacheRoot, source: str, counter: int | None = None) -> bytes:
    content_id, following = seal_only(root, source)
    return grant_for(content_id, counter or following).to_text().encode()


def do(root: CacheRoot, source: str, text: bytes) -> Any:
    return activate(root, sealed_path=source, run_id=RUN_ID, token=None, grant_text=text)


def test_the_same_content_again_under_its_own_grant_changes_nothing_and_other_content_is_refused(
    root: CacheRoot,
) -> None:
    source = make_build(root, seed=1)
    text = granted(root, source)
    assert do(root, source, text).changed
    again = make_build(root, seed=1, run_id="again")
    seal_only(root, again)
    assert not do(root, again, text).changed
    other = make_build(root, seed=2, run_id="other")
    seal_only(root, other)
    with refused(Reason.GRANT_CONTENT):
        do(root, other, text)


def test_a_build_that_was_placed_before_the_run_died_is_activated_by_the_next(root: CacheRoot) -> None:
    source = make_build(root, seed=1)
    text = granted(root, source)
    grant = json.loads(text)
    name = f"{grant['counter']:08d}-{grant['content_id'][:12]}"
    os.rename(source, os.path.join(root.generations, name))
    assert do(root, source, text).generation == name
    assert check_cache(root, TakeoffQuestion()).go


def test_a_generation_that_is_not_there_is_in_nobodys_use(root: CacheRoot) -> None:
    root.ensure()
    assert not in_use(root, GenerationName(7, "0123456789ab"))


def test_a_copy_takes_the_place_of_one_that_was_left(root: CacheRoot) -> None:
    first = activate_build(root, seed=1)
    activate_build(root, seed=2)
    target = Path(root.join("work", "rollback"))
    target.mkdir(parents=True)
    (target / "half").touch()
    assert copy_generation(root, first.generation, target_path=str(target)) == first.content_id
    assert not (target / "half").exists()


# ------------------------------------------------------------------------------------------------ locks and storage


def test_a_boot_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", fail)
    assert _activation_lock.boot_id() == "unknown"


def test_a_lock_whose_record_goes_bad_is_not_renewed_and_one_without_a_root_not_released(
    root: CacheRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not _activation_lock.release_companion_lock(root.path, RUN_ID, 1)
    token = _activation_lock.acquire_companion_lock(root.path, RUN_ID, "ann")
    record = _activation_lock.read_companion_lock(root)
    answers = iter([record, None])
    monkeypatch.setattr(_activation_lock, "read_companion_lock", lambda _root: next(answers))
    _activation_lock.renew_companion_lock(root.path, RUN_ID, token)
    monkeypatch.undo()
    assert _activation_lock.read_companion_lock(root) == record


class Library:
    """A C library whose syncfs is interrupted once, and then fails or succeeds."""

    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)
        self.now = 0

    def syncfs(self, _descriptor: int) -> int:
        self.now = self._errors.pop(0)
        return -1 if self.now else 0


@pytest.mark.parametrize("last", [0, errno.EIO])
def test_an_interrupted_sync_is_made_again_and_a_failed_one_is_told(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    library = Library(errno.EINTR, last)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_arguments, **_options: library)
    monkeypatch.setattr(ctypes, "get_errno", lambda: library.now)
    if last:
        with pytest.raises(OSError, match="Input/output error"):
            sync_filesystem(0)
    else:
        sync_filesystem(0)
    assert library._errors == []


def test_a_file_that_cannot_be_put_in_place_leaves_the_old_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record"
    write_atomically(str(path), b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="Input/output error"):
            write_atomically(str(path), b"new")
    assert [(item.name, item.read_bytes()) for item in tmp_path.iterdir()] == [("record", b"old")]
