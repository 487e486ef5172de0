# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The descriptor cache: append-only records with a checksum, so that a kill costs one batch at most.

A record is key (32 bytes), share of imagery (float32), descriptor (dim x float32), CRC-32 of those. Records of one
model and one window size lie in one file, since they have one length. A torn tail is cut off when the file is opened.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

import numpy as np

from ._errors import BuilderError
from ._publish import storage_error

__all__ = ["DescriptorCache"]

_MAGIC = b"C10DESC1"
_READ_RECORDS = 2048


class DescriptorCache:
    """Descriptors by window key, on disk. A window left out for want of imagery is remembered with a zero descriptor.

    Args:
        folder: where the files lie.
        model_sha256: the model's identity; names the file.
        dim: length of a descriptor.

    Raises:
        BuilderError: `busy` while another build appends to the same file; `disk_full`, `output_unwritable`.
    """

    def __init__(self, folder: Path, *, model_sha256: str, dim: int) -> None:
        self.dim = dim
        self._record = 32 + 4 + 4 * dim + 4
        self._header = _MAGIC + dim.to_bytes(4, "little") + bytes.fromhex(model_sha256)[:20]
        self._path = folder / ("%s-%d.desc" % (model_sha256[:16], dim))
        self._places: Dict[bytes, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = open(self._path, "a+b", buffering=0)
        except OSError as error:
            raise storage_error(error, self._path) from error
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._stream.close()
            raise BuilderError("busy", "another build is writing %s" % self._path, retryable=True) from error
        try:
            self._load()
        except OSError as error:
            self._stream.close()
            raise storage_error(error, self._path) from error

    def _load(self) -> None:
        size = self._stream.seek(0, os.SEEK_END)
        self._stream.seek(0)
        if size < len(self._header) or self._stream.read(len(self._header)) != self._header:
            # another layout or a torn first write: nothing in it can be trusted, and nothing in it is irreplaceable
            self._stream.truncate(0)
            self._stream.write(self._header)
            return
        at = len(self._header)
        while at + self._record <= size:
            self._stream.seek(at)
            part = self._read_exactly(min(_READ_RECORDS, (size - at) // self._record) * self._record)
            for start in range(0, len(part), self._record):
                record = part[start : start + self._record]
                if zlib.crc32(record[:-4]) == int.from_bytes(record[-4:], "little"):
                    self._places[record[:32]] = at + start
                else:
                    self._places.pop(record[:32], None)
            at += len(part)
        if at < size:
            self._stream.truncate(at)

    def _read_exactly(self, count: int) -> bytes:
        parts: List[bytes] = []
        while count:
            part = self._stream.read(count)
            if not part:
                raise OSError(5, "the descriptor cache became shorter while it was read")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: bytes) -> Tuple[Any, float]:
        """(descriptor, share of imagery). Checked again here: the file may have changed since it was opened."""
        record = os.pread(self._stream.fileno(), self._record, self._places[key])
        if (
            len(record) != self._record
            or record[:32] != key
            or zlib.crc32(record[:-4]) != int.from_bytes(record[-4:], "little")
        ):
            raise BuilderError(
                "cache_damaged", "the descriptor cache changed while it was read", hint="run again", retryable=True
            )
        share = float(np.frombuffer(record, dtype="<f4", count=1, offset=32)[0])
        return np.frombuffer(record, dtype="<f4", count=self.dim, offset=36), share

    def add(self, rows: Iterable[Tuple[bytes, float, Any]]) -> None:
        """Append (key, share, descriptor) records in one write."""
        data: List[bytes] = []
        at = self._stream.seek(0, os.SEEK_END)
        places: List[Tuple[bytes, int]] = []
        for key, share, descriptor in rows:
            body = (
                key
                + np.float32(share).astype("<f4").tobytes()
                + np.ascontiguousarray(descriptor, dtype="<f4").tobytes()
            )
            data.append(body + zlib.crc32(body).to_bytes(4, "little"))
            places.append((key, at + self._record * len(places)))
        raw = b"".join(data)
        try:
            while raw:
                raw = raw[self._stream.write(raw) :]
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._places.update(places)

    def close(self) -> None:
        """Sync and close."""
        try:
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise storage_error(error, self._path) from error
        finally:
            self._stream.close()
