# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The difference between two tile archives, tile by tile: what the new one takes from the old, and what it adds.

The holder of the old archive lists a short hash of each tile body, in the order of the file. The holder of the new one
writes a delta: the bytes that the old one lacks, and after which of them which of its bodies follow. From old archive
and delta the new archive is made again, byte for byte. Short hashes and lists need no trust: only an archive whose
whole SHA-256 is the wanted one ever gets its name.

Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
from array import array
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, Dict, Iterator, List, Optional, Sequence, Tuple

from ._errors import TileSourceError
from ._pmtiles import PmtilesReader

__all__ = [
    "CHUNK_BYTES",
    "PART_PREFIX",
    "SHORT_HASH_BYTES",
    "Span",
    "TileDelta",
    "apply_delta",
    "body_hashes",
    "body_spans",
    "file_blocks",
    "hash_file",
    "plan_delta",
    "write_proven",
]

SHORT_HASH_BYTES = 8
"""Of SHA-256: two of a million different bodies share one once in 37 million archives, and then the proof fails."""
CHUNK_BYTES = 1 << 20
MAX_THREADS = 2
PART_PREFIX = ".part-"
MAGIC = b"GPSDNDT1"
_HEAD = struct.Struct("<8sQQ")
"""Magic, size of the new archive in bytes, number of steps."""
_STEP = struct.Struct("<QQQ")

Span = Tuple[int, int]


def body_spans(path: str) -> List[Span]:
    """Offset and length of each distinct tile body, in the order of the file.

    Raises:
        TileSourceError: no whole PMTiles archive.
    """
    with PmtilesReader(path) as reader:
        base, end = reader.header.tile_data_offset, reader.header.tile_data_length
        spans = {(entry.offset, entry.length) for entry in reader.entries()}
    if any(offset + length > end for offset, length in spans):
        raise TileSourceError(f"{path} is damaged: a tile lies outside its section")
    return [(base + offset, length) for offset, length in sorted(spans)]


def body_hashes(path: str, spans: Sequence[Span]) -> bytes:
    """The short hashes of the bodies, one after the other.

    Raises:
        OSError: the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:

        def hash_part(part: Sequence[Span]) -> bytes:
            return b"".join(
                hashlib.sha256(os.pread(descriptor, length, offset)).digest()[:SHORT_HASH_BYTES]
                for offset, length in part
            )

        step = max(1, (len(spans) + MAX_THREADS - 1) // MAX_THREADS)
        parts = [spans[start : start + step] for start in range(0, len(spans), step)]
        with ThreadPoolExecutor(MAX_THREADS) as pool:
            return b"".join(pool.map(hash_part, parts))
    finally:
        os.close(descriptor)


def hash_file(path: str) -> str:
    """SHA-256 (hex) of a regular file.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as stream:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while True:
            count = stream.readinto(buffer)
            if not count:
                return digest.hexdigest()
            digest.update(buffer[:count])


@dataclass(frozen=True)
class TileDelta:
    """What makes an archive from an older one.

    Attributes:
        steps: three numbers for each step: bytes to take from the delta, the first body to take from the old archive,
            and how many follow each other.
        taken: the ranges of the new archive that travel.
    """

    archive_bytes: int
    steps: "array[int]"
    taken: Sequence[Span]

    @property
    def size_bytes(self) -> int:
        """Size of the file that `write` makes."""
        return _HEAD.size + 8 * len(self.steps) + sum(length for _offset, length in self.taken)

    def write(self, archive: str, stream: BinaryIO) -> None:
        """Write the delta; the same bytes every time.

        Raises:
            OSError: the storage failed.
            TileSourceError: the archive cannot be read.
        """
        stream.write(_HEAD.pack(MAGIC, self.archive_bytes, len(self.steps) // 3))
        stream.write(struct.pack(f"<{len(self.steps)}Q", *self.steps))
        with open(archive, "rb") as source:
            for offset, length in self.taken:
                source.seek(offset)
                for chunk in _chunks(source, length):
                    stream.write(chunk)


def plan_delta(spans: Sequence[Span], hashes: bytes, old_hashes: bytes, *, size_bytes: int) -> TileDelta:
    """The delta to the archive of `size_bytes` with these bodies, from one with the bodies `old_hashes`."""
    places: Dict[bytes, int] = {}
    for index, start in enumerate(range(0, len(old_hashes) - SHORT_HASH_BYTES + 1, SHORT_HASH_BYTES)):
        places.setdefault(old_hashes[start : start + SHORT_HASH_BYTES], index)
    steps = array("Q")
    taken: List[Span] = []
    done = first = count = 0  # up to `done`, all is either copied or travels; the copies that follow wait in `count`
    for number, (offset, length) in enumerate(spans):
        index = places.get(hashes[number * SHORT_HASH_BYTES : (number + 1) * SHORT_HASH_BYTES], -1)
        if index < 0 or offset < done:
            continue  # it travels; so does one that overlaps, as in the archives of others
        if not (count and offset == done and index == first + count):
            _close_step(steps, taken, count, first, done, offset)
            first, count = index, 0
        count += 1
        done = offset + length
    _close_step(steps, taken, count, first, done, size_bytes)
    steps.extend((0, 0))
    return TileDelta(size_bytes, steps, taken)


def _close_step(steps: "array[int]", taken: List[Span], count: int, first: int, done: int, until: int) -> None:
    """The copies that wait end their step, and the bytes up to `until` begin the next one."""
    if steps:
        steps.extend((first, count))
    steps.append(until - done)
    if until > done:
        taken.append((done, until - done))


def _chunks(stream: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        try:
            chunk = stream.read(min(length, CHUNK_BYTES))
        except OSError as exc:
            raise TileSourceError(f"the file cannot be read: {exc.strerror}") from None
        if not chunk:
            raise TileSourceError("the file ends before its time")
        length -= len(chunk)
        yield chunk


def file_blocks(path: str) -> Iterator[bytes]:
    """The file in blocks.

    Raises:
        TileSourceError: it cannot be read.
    """
    with open(path, "rb") as stream:
        yield from _chunks(stream, os.fstat(stream.fileno()).st_size)


def apply_delta(base: str, delta: str, target: str, *, sha256: str, size_bytes: int) -> bool:
    """Make the new archive at `target` from the old one and the delta.

    Returns:
        Whether that gave the wanted SHA-256; where not, `target` is as it was.

    Raises:
        OSError: the storage failed; `target` is as it was.
    """
    try:
        with open(delta, "rb") as literals, open(base, "rb") as old:
            blocks = _made(old, literals, body_spans(base), size_bytes)
            return write_proven(target, blocks, sha256=sha256)
    except (TileSourceError, struct.error):
        return False


def _made(old: BinaryIO, literals: BinaryIO, spans: Sequence[Span], size_bytes: int) -> Iterator[bytes]:
    """The blocks of the new archive."""
    magic, size, count = _HEAD.unpack(literals.read(_HEAD.size))
    if magic != MAGIC or size != size_bytes or count > size_bytes + 1:
        raise TileSourceError("the delta is not of this archive")
    steps = literals.read(count * _STEP.size)
    for missing, first, bodies in _STEP.iter_unpack(steps):
        yield from _chunks(literals, missing)
        if first + bodies > len(spans):
            raise TileSourceError("the delta is not of this base")
        for offset, length in _joined(spans[first : first + bodies]):
            old.seek(offset)
            yield from _chunks(old, length)


def _joined(spans: Sequence[Span]) -> Iterator[Span]:
    """Spans that touch as one."""
    start: Optional[int] = None
    end = 0
    for offset, length in spans:
        if start is not None and offset == end:
            end += length
            continue
        if start is not None:
            yield start, end - start
        start, end = offset, offset + length
    if start is not None:
        yield start, end - start


def write_proven(target: str, blocks: Iterator[bytes], *, sha256: str) -> bool:
    """Write a new file beside `target`, and give it that name only where its SHA-256 is the wanted one.

    Its own temporary name keeps a program of a killed run, which may still write, out of this file.

    Raises:
        OSError: the storage failed; `target` is as it was.
        TileSourceError: raised by `blocks`.
    """
    digest = hashlib.sha256()
    descriptor, part = tempfile.mkstemp(dir=os.path.dirname(target), prefix=PART_PREFIX)
    try:
        with open(descriptor, "wb", buffering=0) as stream, ThreadPoolExecutor(1) as hasher:
            hashed: Optional[Future[None]] = None
            for block in blocks:
                if hashed is not None:
                    hashed.result()
                hashed = hasher.submit(digest.update, block)
                view = memoryview(block)
                while view:
                    view = view[stream.write(view) :]
            os.fchmod(stream.fileno(), 0o644)
        if digest.hexdigest() != sha256:
            return False
        os.rename(part, target)
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
