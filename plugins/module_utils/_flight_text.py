# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text of a mission file from its bytes: UTF-8 or UTF-16, with or without a byte order mark."""

from __future__ import annotations

import codecs

from ._errors import FlightFileError

__all__ = ["decode_text"]

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode_text(data: bytes) -> str:
    """The text of the bytes. Raises FlightFileError for bytes that are no text."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None:
        # Mission text begins with ASCII: a zero at an odd or even place betrays UTF-16 without its mark.
        head = data[:2]
        encoding = {b"\0": "utf-16-be"}.get(head[:1], "utf-16-le" if head[1:] == b"\0" else "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise FlightFileError(f"is not valid {encoding.upper()} text") from None
        # Older planners on Windows write names and comments in the local code page; numbers are ASCII anyway.
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:
        raise FlightFileError("is not text: it holds zero bytes")
    return text
