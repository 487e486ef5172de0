# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The check of every tile: right kind of file, right size, decodes to the last bit, and is a picture of the ground.

The size is read from the header before any decoder runs, so that an image bomb costs nothing; what decodes is a process
of its own (`_tile_decoder`), so that a bad tile can end that and not the run.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import FrozenSet, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from ._tile_decoder import MAX_BATCH, DecodeTask, TileDecoder

__all__ = ["MAX_BATCH", "ReceivedBody", "TileChecker", "TileVerdict", "image_size", "sniff_format"]

MAX_PNG_TEXT_BYTES = 65536
MAX_BODY_BYTES = 16 * 1024 * 1024
"""No tile is larger, whatever a source allows: a batch must fit into the decoder's memory."""
_TEXT_STARTS = (b"<", b"{", b"[", b"\xef\xbb\xbf")


class ReceivedBody(NamedTuple):
    """What a source gave, and what its server called it, if there was one."""

    body: bytes
    content_type: Optional[str] = None


class TileVerdict(NamedTuple):
    """`reason` is None for a good tile, else one word."""

    sha256: bytes
    format: Optional[str]
    reason: Optional[str]

    @property
    def placeholder(self) -> bool:
        """The provider had nothing to show."""
        return self.reason == "placeholder"


def sniff_format(body: bytes) -> Optional[str]:
    """`jpg`, `png` or `webp` by the first bytes, None for anything else."""
    if body[:3] == b"\xff\xd8\xff":
        return "jpg"
    if body[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "webp"
    return None


def _jpeg_size(body: bytes) -> Optional[Tuple[int, int]]:
    position, end = 2, len(body)
    while position + 9 <= end and body[position] == 0xFF:
        marker = body[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", body, position + 5)
            return width, height
        position += 2 + int.from_bytes(body[position + 2 : position + 4], "big")
    return None


def _webp_size(body: bytes) -> Optional[Tuple[int, int]]:
    kind = body[12:16]
    if len(body) < 30:
        return None
    if kind == b"VP8X":
        if body[20] & 0x02:  # animated
            return None
        return 1 + int.from_bytes(body[24:27], "little"), 1 + int.from_bytes(body[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def image_size(body: bytes, image_format: str) -> Optional[Tuple[int, int]]:
    """Width and height from the header alone, None where it is damaged (or animated)."""
    if image_format == "jpg":
        return _jpeg_size(body)
    if image_format == "webp":
        return _webp_size(body)
    if len(body) < 33 or body[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", body, 16)
    return width, height


def _png_fault(body: bytes) -> Optional[str]:
    """Pillow does not check the sums of all chunks, so this does."""
    position, end, text_bytes = 8, len(body), 0
    while position + 12 <= end:
        length = int.from_bytes(body[position : position + 4], "big")
        kind = body[position + 4 : position + 8]
        following = position + 12 + length
        if following > end:
            return "truncated"
        if zlib.crc32(body[position + 4 : following - 4]) != int.from_bytes(body[following - 4 : following], "big"):
            return "damaged"
        if kind == b"IEND":
            return None
        if kind == b"acTL":
            return "animated"
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"):
            text_bytes += length
            if text_bytes > MAX_PNG_TEXT_BYTES:
                return "bomb"
        position = following
    return "truncated"


def _webp_fault(body: bytes) -> Optional[str]:
    return "truncated" if int.from_bytes(body[4:8], "little") + 8 > len(body) else None


_FORMATS = frozenset(["jpg", "png", "webp"])
_FAULTS = {"png": _png_fault, "webp": _webp_fault}
"""What a decoder would let pass; that of JPEG lets nothing."""


class TileChecker:
    """Checks tiles of one source; safe for use in several threads, each with a decoder of its own.

    Args:
        tile_size_px: edge of a tile.
        image_format: `jpg`, `png`, `webp`, or `auto` for any of them.
        max_bytes: a larger body is refused.
        placeholder_sha256: bodies (hex) that say "no imagery here".
        single_colour_is_placeholder: a tile of one colour shows nothing.
    """

    def __init__(
        self,
        *,
        tile_size_px: int = 256,
        image_format: str = "auto",
        max_bytes: int = 2 * 1024 * 1024,
        placeholder_sha256: Iterable[str] = (),
        single_colour_is_placeholder: bool = True,
    ) -> None:
        self._size = (tile_size_px, tile_size_px)
        self._formats = _FORMATS if image_format == "auto" else frozenset([image_format])
        self._max_bytes = min(max_bytes, MAX_BODY_BYTES)
        self._placeholders: FrozenSet[bytes] = frozenset(bytes.fromhex(digest) for digest in placeholder_sha256)
        self._single_colour = single_colour_is_placeholder

    def check(self, received: Sequence[ReceivedBody], *, decoder: TileDecoder) -> List[TileVerdict]:
        """The verdicts over a batch, in its order.

        Args:
            received: at most `MAX_BATCH` bodies, together less than 32 MiB.
            decoder: of the calling thread.

        Raises:
            DownloadError: the decoder cannot be started, or has ended too often.
        """
        kinds = [sniff_format(item.body) for item in received]
        reasons = [self._fault(item.body, kind, item.content_type) for item, kind in zip(received, kinds)]
        tasks = [
            DecodeTask(item.body, kind or "") for item, kind, reason in zip(received, kinds, reasons) if reason is None
        ]
        decoder.begin(tasks, single_colour=self._single_colour)
        digests = [hashlib.sha256(item.body).digest() for item in received]  # while the other process decodes
        decoded = iter(decoder.faults())
        reasons = [next(decoded) if reason is None else reason for reason in reasons]
        return [
            TileVerdict(digest, kind, "placeholder" if digest in self._placeholders else reason)
            for digest, kind, reason in zip(digests, kinds, reasons)
        ]

    def _fault(self, body: bytes, kind: Optional[str], content_type: Optional[str]) -> Optional[str]:
        """What is wrong without decoding."""
        reason: Optional[str] = None
        if not body:
            reason = "empty"
        elif len(body) > self._max_bytes:
            reason = "too_large"
        elif kind is None:
            text = body[:64].lstrip().startswith(_TEXT_STARTS)
            text = text or (content_type or "").startswith(("text/", "application/json"))
            reason = "not_an_image_but_text" if text else "not_an_image"
        elif kind not in self._formats:
            reason = f"is_{kind}"
        else:
            size = image_size(body, kind)
            if size is None:
                reason = "damaged"
            elif size != self._size:
                reason = f"size_{size[0]}x{size[1]}"
            elif kind in _FAULTS:
                reason = _FAULTS[kind](body)
        return reason
