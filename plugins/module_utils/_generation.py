# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of one generation: walk them by pinned folders, hash them, seal them, and hold them against the manifest.

Runs on the companion: standard library only, Python 3.8. Every open goes through the descriptor of the folder above and
refuses symbolic links, so that nothing swapped in later is ever read.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from ._errors import CacheVerifyError
from ._generation_faults import Reason, refuse
from ._manifest import (
    EVIDENCE_FILES,
    MANIFEST_NAME,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    Manifest,
    ManifestEntry,
    check_path,
    is_evidence,
)

__all__ = [
    "MAX_REQUEST_BYTES",
    "SealedGeneration",
    "hash_descriptor",
    "open_folder",
    "open_generation",
    "read_manifest",
    "read_small_file",
    "remove_temporaries",
    "seal",
    "verify_files",
    "write_in",
]

CHUNK_BYTES = 1024 * 1024
FILE_MODE, FOLDER_MODE = 0o444, 0o755
"""Sealed files are read-only; folders stay writable for their owner, who must be able to rename and remove them."""
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FAST_HASH_BYTES = 1024 * 1024
MAX_REQUEST_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class SealedGeneration:
    """A generation whose bytes are final."""

    path: str
    content_id: str
    size_bytes: int
    file_count: int


@contextlib.contextmanager
def open_folder(path: str, *, dir_fd: Optional[int] = None) -> Iterator[int]:
    """A descriptor of a folder that is not a symbolic link.

    Raises:
        CacheVerifyError: `file-missing`, `file-symlink` or `file-unreadable`.
    """
    try:
        descriptor = os.open(path, _FOLDER_FLAGS, dir_fd=dir_fd)
    except OSError as exc:
        raise _open_error(path, exc) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_generation(root_path: str, name: str) -> Iterator[int]:
    """A descriptor of a generation's folder; only the root itself may be reached through links.

    Raises:
        CacheVerifyError: `current-invalid`.
    """
    with contextlib.ExitStack() as opened:
        try:
            root_fd = os.open(root_path, _FOLDER_FLAGS & ~os.O_NOFOLLOW)
            opened.callback(os.close, root_fd)
            folder_fd = opened.enter_context(open_folder("generations", dir_fd=root_fd))
            generation_fd = opened.enter_context(open_folder(name, dir_fd=folder_fd))
        except (OSError, CacheVerifyError) as exc:
            raise refuse(Reason.CURRENT_INVALID, f"the generation {name} cannot be opened: {exc}") from None
        yield generation_fd


def _open_error(path: str, exc: OSError) -> CacheVerifyError:
    if exc.errno == errno.ENOENT:
        return refuse(Reason.FILE_MISSING, f"{path} is missing", file=path)
    if exc.errno in (errno.ELOOP, errno.ENOTDIR):
        return refuse(Reason.FILE_SYMLINK, f"{path} is a symbolic link, or not what the manifest says", file=path)
    return refuse(Reason.FILE_UNREADABLE, f"{path} cannot be read: {exc.strerror}", file=path)


def _check_regular(path: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise refuse(Reason.FILE_SYMLINK, f"{path} is a symbolic link", file=path)
    if not stat.S_ISREG(status.st_mode):
        raise refuse(Reason.FILE_SPECIAL, f"{path} is not a regular file", file=path)
    if status.st_nlink != 1:
        raise refuse(Reason.FILE_HARDLINK, f"{path} has {status.st_nlink} names: another path can change it", file=path)


def read_small_file(folder_fd: int, name: str, *, max_bytes: int) -> Optional[bytes]:
    """The bytes of a regular file at the top of a generation, None where there is none.

    Raises:
        CacheVerifyError: a link, not a regular file, larger than `max_bytes`, or unreadable.
    """
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder_fd)
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            return None
        raise _open_error(name, exc) from None
    try:
        _check_regular(name, os.fstat(descriptor))
        content = b""
        while len(content) <= max_bytes:
            piece = os.read(descriptor, max_bytes + 1 - len(content))
            if not piece:
                return content
            content += piece
    except OSError as exc:
        raise _open_error(name, exc) from None
    finally:
        os.close(descriptor)
    raise refuse(Reason.FILE_SIZE, f"{name} is larger than {max_bytes} bytes", file=name)


def hash_descriptor(descriptor: int, path: str, size_bytes: int) -> str:
    """SHA-256 (hex) of exactly `size_bytes` bytes from the start of an open file.

    Raises:
        CacheVerifyError: the file is shorter or longer, changed under the reading, or the disk failed.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(CHUNK_BYTES, max(size_bytes, 1))))
    done = 0
    try:
        before = os.fstat(descriptor)
        while True:
            count = os.readv(descriptor, [buffer])
            if not count:
                break
            done += count
            if done > size_bytes:
                break
            digest.update(buffer[:count])
        after = os.fstat(descriptor)
    except OSError as exc:
        raise refuse(Reason.FILE_UNREADABLE, f"{path} cannot be read: {exc.strerror}", file=path) from None
    if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    ):
        raise refuse(Reason.FILE_CHANGED, f"{path} changed while it was read", file=path)
    if done != size_bytes:
        raise refuse(Reason.FILE_SIZE, f"{path} has another size than {size_bytes} bytes", file=path)
    return digest.hexdigest()


def _walk(folder_fd: int, visit: Callable[[int, str, str, os.stat_result], None], prefix: str = "") -> None:
    """Call `visit(folder_fd, name, path, status)` for every file; links and special files are refused."""
    names = []
    with os.scandir(folder_fd) as listing:
        for entry in listing:
            names.append(entry.name)
            if len(names) > MAX_FILES + len(EVIDENCE_FILES) + 1:
                raise refuse(Reason.FILE_EXTRA, f"the cache holds more than {MAX_FILES} files in one folder")
    names.sort()
    if not names and prefix:
        raise refuse(Reason.FILE_EXTRA, f"{prefix} is an empty folder", file=prefix)
    for name in names:
        path = prefix + name
        try:
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except OSError as exc:
            raise _open_error(path, exc) from None
        if not (not prefix and is_evidence(name)):
            _check_name(path)
        if stat.S_ISDIR(status.st_mode):
            with open_folder(name, dir_fd=folder_fd) as inner:
                _walk(inner, visit, path + "/")
        else:
            _check_regular(path, status)
            visit(folder_fd, name, path, status)


def _check_name(path: str) -> None:
    try:
        check_path(path)
    except CacheVerifyError:
        raise refuse(
            Reason.FILE_NAME, f"the cache holds a file with a forbidden name: {path[:300]!a}", file=ascii(path)[:300]
        ) from None


def read_manifest(folder_fd: int) -> Manifest:
    """The manifest of an open generation.

    Raises:
        CacheVerifyError: missing, or not in its one way of writing.
    """
    content = read_small_file(folder_fd, MANIFEST_NAME, max_bytes=MAX_MANIFEST_BYTES)
    if content is None:
        raise refuse(Reason.MANIFEST_MISSING, "the cache has no MANIFEST", file=MANIFEST_NAME)
    return Manifest.parse(content)


def verify_files(folder_fd: int, manifest: Manifest, *, full: bool = True) -> None:
    """Hold every file of an open generation against its manifest.

    Args:
        folder_fd: the open generation.
        manifest: what it must hold.
        full: hash every byte; otherwise names, kinds and sizes of all files, and the bytes of those up to 1 MiB.

    Raises:
        CacheVerifyError: the first difference, with the file's name in `details["file"]`.
    """
    wanted = {entry.path: entry for entry in manifest.entries}
    found: Dict[str, os.stat_result] = {}

    def note(_folder: int, _name: str, path: str, status: os.stat_result) -> None:
        found[path] = status

    _walk(folder_fd, note)
    for path in sorted(wanted.keys() - found.keys()):
        raise refuse(Reason.FILE_MISSING, f"{path} is missing", file=path)
    for path in sorted(found.keys() - wanted.keys()):
        if not is_evidence(path):
            raise refuse(Reason.FILE_EXTRA, f"{path} is not in the manifest", file=path)
    for entry in manifest.entries:
        size_bytes = found[entry.path].st_size
        if size_bytes != entry.size_bytes:
            raise refuse(
                Reason.FILE_SIZE, f"{entry.path} has {size_bytes} bytes instead of {entry.size_bytes}", file=entry.path
            )
    for entry in manifest.entries:
        if full or entry.size_bytes <= _FAST_HASH_BYTES:
            with _open_in(folder_fd, entry.path) as descriptor:
                _check_regular(entry.path, os.fstat(descriptor))
                if hash_descriptor(descriptor, entry.path, entry.size_bytes) != entry.sha256:
                    raise refuse(
                        Reason.FILE_CONTENT, f"{entry.path} has other bytes than the manifest says", file=entry.path
                    )


@contextlib.contextmanager
def _open_in(folder_fd: int, path: str) -> Iterator[int]:
    """A file below an open folder, no part of its path a symbolic link."""
    with contextlib.ExitStack() as opened:
        parts = path.split("/")
        for part in parts[:-1]:
            folder_fd = opened.enter_context(open_folder(part, dir_fd=folder_fd))
        try:
            descriptor = os.open(parts[-1], _FILE_FLAGS, dir_fd=folder_fd)
        except OSError as exc:
            raise _open_error(path, exc) from None
        opened.callback(os.close, descriptor)
        yield descriptor


def seal(path: str) -> SealedGeneration:
    """Make the bytes of a finished folder final: nobody writes, files read-only, MANIFEST written.

    Sealing again a folder that has a MANIFEST holds it against that manifest instead.

    Raises:
        CacheVerifyError: something writes to a file, a link or special file or forbidden name, or the disk fails.
    """
    with open_folder(path) as folder_fd:
        try:
            remove_temporaries(folder_fd)
            if read_small_file(folder_fd, MANIFEST_NAME, max_bytes=MAX_MANIFEST_BYTES) is not None:
                manifest = read_manifest(folder_fd)
                verify_files(folder_fd, manifest)
            else:
                manifest = _seal_open(folder_fd)
        except OSError as exc:
            raise refuse(Reason.STORAGE, f"{path} cannot be sealed: {exc.strerror}") from None
    return SealedGeneration(path, manifest.content_id, manifest.size_bytes, len(manifest.entries))


def _seal_open(folder_fd: int) -> Manifest:
    entries: List[ManifestEntry] = []

    def add(inner_fd: int, name: str, path: str, status: os.stat_result) -> None:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=inner_fd)
        try:
            opened = os.fstat(descriptor)
            _check_regular(path, opened)
            if opened.st_ino != status.st_ino:
                raise refuse(Reason.FILE_CHANGED, f"{path} was replaced while it was sealed", file=path)
            os.fchmod(descriptor, FILE_MODE)
            _check_no_writer(descriptor, path)
            if not is_evidence(path):
                entries.append(ManifestEntry(hash_descriptor(descriptor, path, opened.st_size), opened.st_size, path))
        finally:
            os.close(descriptor)

    _walk(folder_fd, add)
    manifest = Manifest(sorted(entries, key=lambda entry: entry.path))
    write_in(folder_fd, MANIFEST_NAME, manifest.to_bytes())
    return manifest


def remove_temporaries(folder_fd: int) -> None:
    """What an interrupted `write_in` left at the top of an open generation."""
    for name in (MANIFEST_NAME, "request.json", *EVIDENCE_FILES):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f".tmp-{name}", dir_fd=folder_fd)


def write_in(folder_fd: int, name: str, content: bytes) -> None:
    """Write a read-only file at the top of an open generation, whole or not at all; durable with the folder's sync."""
    temporary = f".tmp-{name}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder_fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder_fd)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, FILE_MODE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def _check_no_writer(descriptor: int, path: str) -> None:
    """A read lease is granted only while nobody, of any user, has the file open (or mapped) for writing."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as exc:
        if exc.errno == errno.EAGAIN:
            raise refuse(
                Reason.FILE_OPEN_FOR_WRITING, f"{path} is still open for writing{_writer_of(descriptor)}", file=path
            ) from None
        # EACCES: owned by another user; EINVAL: a file system without leases. What /proc shows decides then.
        writer = _writer_of(descriptor)
        if writer:
            raise refuse(Reason.FILE_OPEN_FOR_WRITING, f"{path} is still open for writing{writer}", file=path) from None
        return
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _writer_of(descriptor: int) -> str:
    """` by process N`, as far as this user may see other processes' files; empty where none is seen."""
    wanted = os.fstat(descriptor)
    key: Tuple[Any, Any] = (wanted.st_dev, wanted.st_ino)
    for process in os.listdir("/proc"):
        if not process.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            for number in os.listdir(f"/proc/{process}/fd"):
                status = os.stat(f"/proc/{process}/fd/{number}")
                if (status.st_dev, status.st_ino) != key:
                    continue
                with open(f"/proc/{process}/fdinfo/{number}", encoding="ascii") as stream:
                    flags = next(int(line.split()[1], 8) for line in stream if line.startswith("flags:"))
                if flags & os.O_ACCMODE != os.O_RDONLY:
                    return f" by process {process}"
    return ""
