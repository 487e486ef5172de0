# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that decodes tiles: a process of its own under hard limits, started by `_tile_decoder`.

A decoder reads bytes that a stranger sent. If it crashes, loops or fills the memory, this process ends, one tile is
bad, and the run goes on. Standard library, Pillow and simplejpeg only; it has no secret, no network, no file to write.

Bodies and answers lie in memory that both processes map: `MAX_BATCH` answers of one byte, then the bodies. Over its
standard input, a socket, comes what to do: a count, then for each tile the task, its format and its length. When the
batch is done it sends one byte; where it dies before, the answer that is still `STARTED` is the tile that did it. After
a `LOOK` that went well the picture's rows lie where the body was.
"""

from __future__ import annotations

import io
import mmap
import os
import resource
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, List, Tuple

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "ANSWERS",
    "CHECK",
    "CHECK_COLOUR",
    "COUNT",
    "FORMATS",
    "ITEM",
    "LOOK",
    "MAX_BATCH",
    "PENDING",
    "SHARED_BYTES",
    "STARTED",
    "THUMBNAIL_PX",
    "decode_fault",
    "main",
]

FORMATS = ("JPEG", "PNG", "WEBP")
CHECK, CHECK_COLOUR, LOOK = 0, 1, 2
"""Tasks: decode to the last bit; decode, and see whether it is one colour; the picture small, and its edges."""
ANSWERS = (None, "undecodable", "bomb", "animated", "placeholder", "truncated")
COUNT = struct.Struct("<I")
ITEM = struct.Struct("<BBI")
MAX_BATCH = 64
PENDING, STARTED = 255, 254
SHARED_BYTES = 1 << 25
THUMBNAIL_PX = 32
_LOST = ("premature end", "Premature end", "bad Huffman code")
"""Warnings of libjpeg that mean lost picture; bytes too many before a marker, say, lose none."""
MAX_MEMORY_BYTES = 1 << 30
MAX_CPU_S = 10


def decode_fault(body: bytes, image_format: str, *, single_colour: bool) -> Any:
    """Every bit through the decoder; what is wrong in one word of `ANSWERS`, None where nothing is.

    Args:
        body: an image whose header was looked at before.
        image_format: one of `FORMATS`; no other decoder runs.
        single_colour: call a picture of one colour a placeholder.
    """
    import PIL.Image

    if image_format == "JPEG":
        word = _jpeg_word(body)
        if word != "doubtful":
            return None if word == "good" else word
    try:
        with PIL.Image.open(io.BytesIO(body), formats=(image_format,)) as image:
            if image_format != "JPEG" and getattr(image, "n_frames", 1) != 1:
                return "animated"
            image.draft("L", (image.width // 8, image.height // 8))
            image.load()
            suspicious = single_colour and _one_colour(image)
        if suspicious:
            with PIL.Image.open(io.BytesIO(body), formats=(image_format,)) as image:
                return "placeholder" if _one_colour(image) else None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, OverflowError, MemoryError):
        return "undecodable"
    except PIL.Image.DecompressionBombError:
        return "bomb"
    return None


def _jpeg_word(body: bytes) -> str:
    """What libjpeg-turbo says: `good`, `truncated`, or `doubtful`, which Pillow, slower and milder, has to judge.

    Pillow takes a picture whose data end too soon for a good one, and paints the rest of it grey.
    """
    import simplejpeg

    try:
        # At an eighth of its size every bit is read too, in 0.6 of the time.
        grey = simplejpeg.decode_jpeg(body, colorspace="GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except (ValueError, MemoryError) as exc:
        return "truncated" if any(words in str(exc) for words in _LOST) else "doubtful"
    return "good" if grey.min() < grey.max() else "doubtful"


def _one_colour(image: Image) -> bool:
    image.load()
    right, bottom = image.width - 1, image.height - 1
    # Five pixels tell nearly all pictures apart from a plain tile; only the rest is looked at in full.
    places = ((0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 3))
    if image.mode not in ("RGBA", "LA") and len({image.getpixel(place) for place in places}) > 1:
        return False
    extrema: Tuple[Any, ...] = image.getextrema()
    bands = [extrema] if isinstance(extrema[0], (int, float)) else extrema
    transparent = image.mode in ("RGBA", "LA") and bands[-1][1] == 0
    return transparent or all(low == high for low, high in bands)


def _look(body: bytes, image_format: str) -> bytes:
    """Grey values: the top row, the bottom row, and a thumbnail of `THUMBNAIL_PX` squared."""
    import PIL.Image

    with PIL.Image.open(io.BytesIO(body), formats=(image_format,)) as image:
        grey = image.convert("L")
    last = grey.height - 1
    top, bottom = grey.crop((0, 0, grey.width, 1)), grey.crop((0, last, grey.width, last + 1))
    small = grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), PIL.Image.Resampling.BOX)
    return top.tobytes() + bottom.tobytes() + small.tobytes()


def _limit() -> None:
    """No core, no file that grows, bounded memory."""
    for name, value in (("CORE", 0), ("FSIZE", 0), ("AS", MAX_MEMORY_BYTES), ("NOFILE", 64)):
        number = getattr(resource, "RLIMIT_" + name)
        hard = resource.getrlimit(number)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (limit, limit))


def _limit_cpu() -> None:
    """The kernel ends this process where the next batch takes more processor time than any batch can need."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + MAX_CPU_S
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _batch(shared: mmap.mmap, items: List[Tuple[int, int, int]]) -> None:
    offset = MAX_BATCH
    for index, (task, number, length) in enumerate(items):
        shared[index] = STARTED
        body = shared[offset : offset + length]
        fault = decode_fault(body, FORMATS[number], single_colour=task == CHECK_COLOUR)
        if task == LOOK and fault is None:
            rows = _look(body, FORMATS[number])
            shared[offset : offset + len(rows)] = rows
        shared[index] = ANSWERS.index(fault)
        offset += length


def main() -> None:
    """Answer batches until the other side closes."""
    sys.path += sys.argv[1].split(os.pathsep)
    import PIL.Image
    import PIL.WebPImagePlugin
    import simplejpeg  # noqa: F401 - before its memory is limited

    PIL.Image.preinit()
    shared = mmap.mmap(int(sys.argv[2]), SHARED_BYTES)
    _limit()
    with socket.socket(fileno=os.dup(0)) as link, link.makefile("rb") as stream:
        while True:
            head = stream.read(COUNT.size)
            if len(head) < COUNT.size:
                return
            _limit_cpu()
            _batch(shared, [ITEM.unpack(stream.read(ITEM.size)) for _index in range(COUNT.unpack(head)[0])])
            link.sendall(b"\n")


if __name__ == "__main__":
    main()
