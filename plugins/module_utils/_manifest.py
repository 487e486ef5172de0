# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest of a generation: one line `sha256 size path` for each file, and its strict grammar.

Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import hashlib
import re
from typing import Iterable, NamedTuple, Set, Tuple

from ._generation_faults import Reason, refuse

__all__ = [
    "EVIDENCE_FILES",
    "MANIFEST_NAME",
    "MAX_FILES",
    "MAX_MANIFEST_BYTES",
    "Manifest",
    "ManifestEntry",
    "check_path",
    "is_evidence",
]

MANIFEST_NAME = "MANIFEST"
EVIDENCE_FILES = ("grant.json", "grant.json.sig", "report.json")
"""Files beside the manifest that it does not list: the grant names the manifest, and the report is evidence only."""

MAX_FILES = 20000
MAX_MANIFEST_BYTES = 8 * 1024 * 1024
MAX_PATH_BYTES = 240
MAX_SIZE_BYTES = 1 << 53
_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,99}", re.ASCII)
_LINE = re.compile(r"([0-9a-f]{64}) (0|[1-9][0-9]{0,15}) ([!-~]+)", re.ASCII)


class ManifestEntry(NamedTuple):
    """One file: SHA-256 (hex), size in bytes, path relative to the generation."""

    sha256: str
    size_bytes: int
    path: str


def is_evidence(path: str) -> bool:
    """Whether a file at the top of a generation stands outside the manifest."""
    return path == MANIFEST_NAME or path in EVIDENCE_FILES


def check_path(path: str) -> str:
    """The path itself, where it is plain: ASCII, relative, no dot or dash first in any part, at most 240 bytes.

    Raises:
        CacheVerifyError: `manifest-path`.
    """
    parts = path.split("/")
    if len(path) > MAX_PATH_BYTES or len(parts) > 8 or not all(_COMPONENT.fullmatch(part) for part in parts):
        raise refuse(Reason.MANIFEST_PATH, f"the path {path[:300]!a} is not allowed in a cache", file=path[:300])
    if is_evidence(path):
        raise refuse(Reason.MANIFEST_PATH, f"{path} may not stand in the manifest", file=path)
    return path


class Manifest:
    """The files of a generation, sorted bytewise by path, no two equal without regard to case."""

    def __init__(self, entries: Iterable[ManifestEntry]) -> None:
        self.entries: Tuple[ManifestEntry, ...] = tuple(entries)
        self._check()

    def _check(self) -> None:
        if not self.entries:
            raise refuse(Reason.MANIFEST_MALFORMED, "the manifest lists no file")
        if len(self.entries) > MAX_FILES:
            raise refuse(Reason.MANIFEST_TOO_LARGE, f"the manifest lists more than {MAX_FILES} files")
        folded: Set[str] = set()
        folders: Set[str] = set()
        previous = ""
        for entry in self.entries:
            check_path(entry.path)
            if entry.size_bytes > MAX_SIZE_BYTES:
                raise refuse(Reason.MANIFEST_MALFORMED, f"{entry.path} has an impossible size", file=entry.path)
            key = entry.path.lower()
            if key in folded:
                raise refuse(
                    Reason.MANIFEST_DUPLICATE,
                    f"the manifest lists {entry.path} twice, or in two spellings",
                    file=entry.path,
                )
            if entry.path <= previous:
                raise refuse(Reason.MANIFEST_ORDER, f"the manifest is not sorted at {entry.path}", file=entry.path)
            folded.add(key)
            previous = entry.path
            parts = key.split("/")
            folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
        clash = folded & folders
        if clash:
            name = min(clash)
            raise refuse(Reason.MANIFEST_DUPLICATE, f"the manifest has {name} as a file and as a folder", file=name)

    @classmethod
    def parse(cls, content: bytes) -> "Manifest":
        """A manifest from its bytes; anything but the one way of writing it is refused.

        Raises:
            CacheVerifyError: `manifest-too-large`, `-malformed`, `-path`, `-duplicate` or `-order`.
        """
        if len(content) > MAX_MANIFEST_BYTES:
            raise refuse(Reason.MANIFEST_TOO_LARGE, f"the manifest is larger than {MAX_MANIFEST_BYTES} bytes")
        try:
            text = content.decode("ascii")
        except UnicodeDecodeError:
            raise refuse(Reason.MANIFEST_MALFORMED, "the manifest is not plain ASCII") from None
        if not text.endswith("\n"):
            raise refuse(Reason.MANIFEST_MALFORMED, "the manifest is cut short or empty")
        lines = text[:-1].split("\n")
        if len(lines) > MAX_FILES:
            raise refuse(Reason.MANIFEST_TOO_LARGE, f"the manifest lists more than {MAX_FILES} files")
        entries = []
        for number, line in enumerate(lines, 1):
            match = _LINE.fullmatch(line)
            if match is None:
                raise refuse(
                    Reason.MANIFEST_MALFORMED, f"line {number} of the manifest is not `sha256 size path`", line=number
                )
            entries.append(ManifestEntry(match.group(1), int(match.group(2)), match.group(3)))
        return cls(entries)

    def to_bytes(self) -> bytes:
        """The one way of writing it."""
        return "".join(f"{entry.sha256} {entry.size_bytes} {entry.path}\n" for entry in self.entries).encode("ascii")

    @property
    def content_id(self) -> str:
        """SHA-256 (hex) of the manifest's bytes: the name of the content."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size_bytes for entry in self.entries)
