# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Members of zip archives and the content of gzip files from outside: bounded, with honest names, nothing on disk."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Dict, List, Tuple

from ._errors import FlightFileError

__all__ = ["gunzip", "is_gzip", "is_zip", "read_members"]

MAX_MEMBERS = 10_000
MAX_MEMBER_BYTES = 8 * 1024 * 1024
_MAX_NAME = 512
_BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    UnicodeError,
    ValueError,
    struct.error,
)


def is_zip(data: bytes) -> bool:
    return data.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_gzip(data: bytes) -> bool:
    return data.startswith(b"\x1f\x8b")


def gunzip(data: bytes) -> bytes:
    """The content of a gzip file, at most `MAX_MEMBER_BYTES` of it. Raises FlightFileError."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(data, MAX_MEMBER_BYTES + 1)
    except zlib.error:
        raise FlightFileError("is a broken gzip file") from None
    if len(content) > MAX_MEMBER_BYTES:
        raise FlightFileError(f"unpacks to more than {MAX_MEMBER_BYTES:,} bytes")
    if not unpacker.eof:
        raise FlightFileError("is a gzip file that ends too early")
    return content


def read_members(data: bytes, suffixes: Tuple[str, ...]) -> Dict[str, bytes]:
    """Members of the archive whose names end so (in lower case), by name, in the archive's order.

    Raises FlightFileError for a broken archive, too many members, a member that unpacks to more than
    `MAX_MEMBER_BYTES`, a password, or a name that leaves the archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS:
                raise FlightFileError(f"the archive has {len(infos):,} members, over the limit of {MAX_MEMBERS:,}")
            chosen: List[zipfile.ZipInfo] = []
            for info in infos:
                _check_name(info)
                if info.filename.lower().endswith(suffixes) and not info.is_dir():
                    chosen.append(info)
            return _unpack(archive, chosen)
    except _BROKEN:
        raise FlightFileError("is a broken archive") from None


def _check_name(info: zipfile.ZipInfo) -> None:
    name = info.filename
    steps = name.replace("\\", "/").split("/")
    if len(name) > _MAX_NAME or name.startswith("/") or "\\" in name or ".." in steps or ":" in steps[0]:
        raise FlightFileError(f"the archive holds a member whose name leaves it: {name[:80]!r}")


def _unpack(archive: zipfile.ZipFile, chosen: List[zipfile.ZipInfo]) -> Dict[str, bytes]:
    found: Dict[str, bytes] = {}
    left = MAX_MEMBER_BYTES
    for info in chosen[:64]:
        if info.flag_bits & 0x1:
            raise FlightFileError(f"member {info.filename[:80]!r} of the archive needs a password")
        if info.filename in found:
            raise FlightFileError(f"the archive holds {info.filename[:80]!r} twice")
        with archive.open(info) as stream:
            # The size that the archive declares may lie: what counts is what comes out.
            content = stream.read(left + 1)
        if len(content) > left:
            raise FlightFileError(f"member {info.filename[:80]!r} of the archive unpacks to more than {left:,} bytes")
        left -= len(content)
        found[info.filename] = content
    return found
