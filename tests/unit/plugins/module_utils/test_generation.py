# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _generation
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheVerifyError
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation import (
    open_folder,
    read_manifest,
    read_small_file,
    seal,
    verify_files,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_faults import Reason, reason_of
from ansible_collections.gps_denied.preflight.plugins.module_utils._manifest import Manifest, ManifestEntry
from cache_samples import make_build

FILES = ("tiles.pmtiles", "request.json", "index/descriptors.bin", "index/places.bin", "index/graph.bin")


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return Path(make_build(CacheRoot(str(tmp_path / "cache")), seed=1))


@pytest.fixture
def sealed(build: Path) -> Path:
    seal(str(build))
    return build


def check(folder: Path, *, full: bool = True) -> None:
    with open_folder(str(folder)) as folder_fd:
        verify_files(folder_fd, read_manifest(folder_fd), full=full)


def fault(folder: Path, *, full: bool = True) -> tuple[Reason, str]:
    with pytest.raises(CacheVerifyError) as caught:
        check(folder, full=full)
    return reason_of(caught.value), caught.value.details["file"]


def test_a_sealed_folder_is_whole_and_read_only_and_sealing_again_changes_nothing(build: Path) -> None:
    first = seal(str(build))
    check(build)
    listed = {path for path in build.rglob("*") if path.is_file()}
    assert {path.stat().st_mode & 0o777 for path in listed} == {0o444}
    assert first.file_count == 6
    assert seal(str(build)) == first
    assert (build / "MANIFEST").read_text(encoding="ascii").splitlines()[0].endswith(" index/descriptors.bin")


def test_the_content_id_depends_on_names_and_bytes_alone(tmp_path: Path) -> None:
    roots = [CacheRoot(str(tmp_path / name)) for name in "ab"]
    first, second = (seal(make_build(root, seed=7)) for root in roots)
    assert first.content_id == second.content_id
    third = Path(make_build(CacheRoot(str(tmp_path / "c")), seed=7))
    (third / "report.json").write_bytes(b"{}")
    assert seal(str(third)).content_id == first.content_id
    fourth = Path(make_build(CacheRoot(str(tmp_path / "d")), seed=7))
    (fourth / "request.json").write_bytes(b"{}")
    assert seal(str(fourth)).content_id != first.content_id


def test_a_file_that_is_open_for_writing_is_not_sealed(build: Path) -> None:
    with (build / "index" / "graph.bin").open("r+b"), pytest.raises(CacheVerifyError) as caught:
        seal(str(build))
    assert reason_of(caught.value) is Reason.FILE_OPEN_FOR_WRITING
    assert caught.value.details["file"] == "index/graph.bin"
    assert f"by process {os.getpid()}" in caught.value.message
    assert not (build / "MANIFEST").exists()
    seal(str(build))


def test_a_writable_map_without_a_descriptor_is_found_too(build: Path) -> None:
    import mmap

    with (build / "tiles.pmtiles").open("r+b") as stream:
        mapped = mmap.mmap(stream.fileno(), 0)
    with mapped, pytest.raises(CacheVerifyError, match="open for writing"):
        seal(str(build))


def test_without_that_check_a_late_write_slips_under_the_seal(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_generation, "_check_no_writer", lambda _descriptor, _path: None)
    with (build / "index" / "graph.bin").open("r+b") as stream:
        seal(str(build))
        stream.write(b"late")
    assert fault(build) == (Reason.FILE_CONTENT, "index/graph.bin")


# ------------------------------------------------------------------------------ the ways to corrupt


def _writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


def bit_flip(path: Path, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    _writable(path).write_bytes(content)


def truncate(path: Path, dice: random.Random) -> None:
    os.truncate(_writable(path), dice.randrange(path.stat().st_size))


def append(path: Path, dice: random.Random) -> None:
    with _writable(path).open("ab") as stream:
        stream.write(dice.randbytes(dice.randrange(1, 9)))


def zero_fill(path: Path, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    begin = dice.randrange(len(content))
    content[begin] |= 1
    path_bytes = bytes(content)
    zeroed = path_bytes[:begin] + bytes(len(content) - begin)
    _writable(path).write_bytes(zeroed if zeroed != path.read_bytes() else b"\xff" + zeroed[1:])


def remove(path: Path, dice: random.Random) -> None:
    path.unlink()


def stale_chunk(path: Path, dice: random.Random) -> None:
    content = path.read_bytes()
    half = len(content) // 2
    changed = dice.randbytes(half) + content[half:]
    _writable(path).write_bytes(changed if changed != content else bytes([content[0] ^ 1]) + content[1:])


def swap(path: Path, dice: random.Random) -> None:
    other = path.parent / "swap"
    path.rename(other)
    shutil.copy(path.parent.joinpath("swap"), path)
    bit_flip(path, dice)
    other.unlink()


def symlink(path: Path, dice: random.Random) -> None:
    kept = path.parents[3] / f"kept-{dice.random()}"
    path.rename(kept)
    path.symlink_to(kept)


def hard_link(path: Path, dice: random.Random) -> None:
    os.link(path, path.parents[3] / f"second-name-{dice.random()}")


def fifo(path: Path, dice: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def unix_socket(path: Path, dice: random.Random) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def extra_file(path: Path, dice: random.Random) -> None:
    (path.parent / "zz_extra.bin").write_bytes(b"x")


def folder_instead(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.mkdir()


@dataclass(frozen=True)
class Corruption:
    work: Callable[[Path, random.Random], None]
    reasons: tuple[Reason, ...]
    names: str = ""


CORRUPTIONS = {
    "bit flip": Corruption(bit_flip, (Reason.FILE_CONTENT,)),
    "truncate": Corruption(truncate, (Reason.FILE_SIZE,)),
    "append": Corruption(append, (Reason.FILE_SIZE,)),
    "zero fill": Corruption(zero_fill, (Reason.FILE_CONTENT,)),
    "remove": Corruption(remove, (Reason.FILE_MISSING,)),
    "stale chunk": Corruption(stale_chunk, (Reason.FILE_CONTENT,)),
    "swap": Corruption(swap, (Reason.FILE_CONTENT,)),
    "symlink": Corruption(symlink, (Reason.FILE_SYMLINK,)),
    "hard link": Corruption(hard_link, (Reason.FILE_HARDLINK,)),
    "fifo": Corruption(fifo, (Reason.FILE_SPECIAL,)),
    "socket": Corruption(unix_socket, (Reason.FILE_SPECIAL,)),
    "extra file": Corruption(extra_file, (Reason.FILE_EXTRA,), "zz_extra.bin"),
    "folder": Corruption(folder_instead, (Reason.FILE_EXTRA,)),
}


@pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
def test_every_corruption_is_found_and_its_file_named(tmp_path: Path, sealed: Path, kind: str) -> None:
    dice = random.Random(kind)
    corruption = CORRUPTIONS[kind]
    for turn in range(80):
        copy = tmp_path / f"copy-{turn}" / "cache" / "run"
        shutil.copytree(sealed, copy)
        victim = copy / dice.choice(FILES)
        corruption.work(victim, dice)
        reason, name = fault(copy)
        assert reason in corruption.reasons
        wanted = victim.with_name(corruption.names or victim.name).relative_to(copy)
        assert name.rstrip("/") == str(wanted)
        shutil.rmtree(copy.parents[1])


def test_without_the_check_for_extra_files_one_slips_in(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_generation, "is_evidence", lambda _path: True)
    (sealed / "extra").write_bytes(b"x")
    check(sealed)


def test_the_fast_mode_finds_what_it_promises(sealed: Path) -> None:
    check(sealed, full=False)
    bit_flip(sealed / "request.json", random.Random(1))
    assert fault(sealed, full=False) == (Reason.FILE_CONTENT, "request.json")


def test_five_hundred_healthy_folders_are_never_refused(tmp_path: Path) -> None:
    root = CacheRoot(str(tmp_path / "cache"))
    for seed in range(500):
        folder = make_build(root, seed=seed)
        seal(folder)
        check(Path(folder))
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", [".hidden", "-rf", "a b", "a\nb", "caf\u00e9", "x" * 101])
def test_a_forbidden_name_is_neither_sealed_nor_overlooked(build: Path, name: str) -> None:
    (build / name).write_bytes(b"x")
    with pytest.raises(CacheVerifyError) as caught:
        seal(str(build))
    assert reason_of(caught.value) is Reason.FILE_NAME
    (build / name).unlink()
    seal(str(build))
    (build / name).write_bytes(b"x")
    assert fault(build)[0] is Reason.FILE_NAME


def test_an_empty_folder_and_a_file_that_cannot_be_read_have_reasons(sealed: Path) -> None:
    (sealed / "empty").mkdir()
    assert fault(sealed) == (Reason.FILE_EXTRA, "empty/")
    (sealed / "empty").rmdir()
    (sealed / "MANIFEST").unlink()
    assert fault(sealed) == (Reason.MANIFEST_MISSING, "MANIFEST")


def test_a_device_file_is_refused(sealed: Path) -> None:
    (sealed / "request.json").unlink()
    os.mknod(sealed / "request.json", 0o20444, os.makedev(1, 5))
    assert fault(sealed) == (Reason.FILE_SPECIAL, "request.json")


def test_a_file_beyond_four_gibibytes_is_measured_right(sealed: Path) -> None:
    big = sealed / "index" / "graph.bin"
    size = big.stat().st_size
    os.truncate(_writable(big), (1 << 32) + size)
    assert fault(sealed) == (Reason.FILE_SIZE, "index/graph.bin")


def test_a_file_that_changes_while_it_is_read_is_refused(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = _writable(sealed / "tiles.pmtiles")
    real = os.readv

    def readv(descriptor: int, buffers: list[memoryview]) -> int:
        count = real(descriptor, buffers)
        if os.path.samestat(os.fstat(descriptor), victim.stat()):
            os.utime(victim)
        return count

    monkeypatch.setattr(os, "readv", readv)
    assert fault(sealed) == (Reason.FILE_CHANGED, "tiles.pmtiles")


def test_a_failing_disk_is_named(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def readv(_descriptor: int, _buffers: list[memoryview]) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "readv", readv)
    assert fault(sealed) == (Reason.FILE_UNREADABLE, "index/descriptors.bin")


def test_a_folder_swapped_for_a_link_while_checking_is_not_followed(sealed: Path, tmp_path: Path) -> None:
    with open_folder(str(sealed)) as folder_fd:
        manifest = read_manifest(folder_fd)
        (sealed / "index").rename(tmp_path / "elsewhere")
        (sealed / "index").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CacheVerifyError) as caught:
            verify_files(folder_fd, manifest)
    assert reason_of(caught.value) is Reason.FILE_SYMLINK


def test_a_manifest_that_names_the_wrong_bytes_is_found(sealed: Path) -> None:
    with open_folder(str(sealed)) as folder_fd:
        entries = list(read_manifest(folder_fd).entries)
        entries[0] = ManifestEntry("0" * 64, *entries[0][1:])
        with pytest.raises(CacheVerifyError, match="other bytes"):
            verify_files(folder_fd, Manifest(entries))


@pytest.mark.parametrize("name", ["MANIFEST", "request.json", "report.json", "grant.json", "grant.json.sig"])
def test_a_seal_goes_on_where_a_killed_one_stopped(build: Path, name: str) -> None:
    (build / f".tmp-{name}").write_bytes(b"half")
    seal(str(build))
    assert not (build / f".tmp-{name}").exists()
    check(build)


def test_where_there_are_no_leases_the_open_descriptors_decide(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.fcntl

    def without_leases(descriptor: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETLEASE:
            raise OSError(errno.EINVAL, "Invalid argument")
        return int(real(descriptor, command, argument))

    monkeypatch.setattr(fcntl, "fcntl", without_leases)
    with (build / "request.json").open("r+b"), pytest.raises(CacheVerifyError, match=f"by process {os.getpid()}"):
        seal(str(build))
    with (build / "request.json").open("rb"):
        seal(str(build))


def test_a_folder_of_too_many_files_is_refused_before_they_are_looked_at(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_generation, "MAX_FILES", 10)
    for number in range(20):
        (sealed / "index" / f"more-{number}").touch()
    with pytest.raises(CacheVerifyError, match="more than 10 files in one folder"):
        check(sealed)


def test_small_files_beside_the_manifest_are_bounded_too(sealed: Path) -> None:
    with open_folder(str(sealed)) as folder_fd:
        assert read_small_file(folder_fd, "none", max_bytes=10) is None
        with pytest.raises(CacheVerifyError, match="larger than 10 bytes"):
            read_small_file(folder_fd, "tiles.pmtiles", max_bytes=10)
        (sealed / "link").symlink_to("tiles.pmtiles")
        with pytest.raises(CacheVerifyError, match="symbolic link"):
            read_small_file(folder_fd, "link", max_bytes=10)
    with pytest.raises(CacheVerifyError, match="nowhere is missing"), open_folder(str(sealed / "nowhere")):
        pass


def test_a_folder_that_cannot_be_written_is_not_sealed(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fchmod(_descriptor: int, _mode: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "fchmod", fchmod)
    with pytest.raises(CacheVerifyError, match="cannot be sealed: Read-only file system") as caught:
        seal(str(build))
    assert reason_of(caught.value) is Reason.STORAGE
