# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The forms in which a secret turns up in output: as it is, and as libraries and shells encode it.

Base64 is found at any place inside a longer encoded text: of each of the three possible alignments the
part that depends on the secret alone is listed. That also covers HTTP Basic credentials, where the secret
stands behind a user name.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from typing import FrozenSet, Iterable, Set
from urllib.parse import quote, quote_plus

__all__ = ["MIN_ENCODED_BYTES", "MIN_LINE_CHARS", "secret_forms"]

MIN_ENCODED_BYTES = 4
"""Encoded forms shorter than this are left out: they would turn up by chance in any output."""

MIN_LINE_CHARS = 8
"""The lines of a secret of many lines (a PEM key) are secrets of their own from this length on."""

# What clients leave as it is: all encoded, urllib, encodeURIComponent, RFC 3986 paths, requests and encodeURI.
_URL_SAFE = ("", "/", "!'()*", "!$&'()*+,;=:@/", "!#$%&'()*+,/:;=?@[]~")
_NOT_PLAIN = re.compile(r"([^A-Za-z0-9_@%+=:,./-])")
_IN_DOUBLE_QUOTES = re.compile(r'([$`"\\!])')


def _base64_cores(data: bytes) -> Iterable[bytes]:
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + data)
        # Characters that also carry bits of what stands before or behind the secret are not part of the core.
        first = (lead * 8 + 5) // 6
        last = (lead + len(data)) * 8 // 6
        core = encoded[first:last]
        yield core
        yield core.replace(b"+", b"-").replace(b"/", b"_")


def _hex_forms(data: bytes) -> Iterable[bytes]:
    pairs = ["%02x" % value for value in data]
    for case in (str.lower, str.upper):
        cased = [case(pair) for pair in pairs]
        for form in (
            "".join(cased),
            ":".join(cased),
            " ".join(cased),
            "".join("%" + pair for pair in cased),
            "".join("\\x" + pair for pair in cased),
        ):
            yield form.encode()


def _upper_escapes(text: str) -> str:
    return re.sub(r"\\u([0-9a-f]{4})", lambda found: "\\u" + found.group(1).upper(), text)


def _lower_percent(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found.group(0).lower(), text)


def _text_forms(secret: str) -> Iterable[str]:
    as_json = json.dumps(secret)[1:-1]
    units = secret.encode("utf-16-be", "surrogatepass")
    all_escaped = "".join("\\u%02x%02x" % pair for pair in zip(units[::2], units[1::2]))
    forms = (
        secret,
        as_json,
        _upper_escapes(as_json),
        all_escaped,
        _upper_escapes(all_escaped),
        as_json.replace("/", "\\/"),
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        secret.replace("\\", "\\\\").replace("'", "\\'"),
        shlex.quote(secret).strip("'"),
        secret.replace("'", "'\\''"),
        html.escape(secret),
        html.escape(secret, quote=False),
        _NOT_PLAIN.sub(r"\\\1", secret),
        _IN_DOUBLE_QUOTES.sub(r"\\\1", secret),
    )
    for text in forms:
        yield text
        # A record's text quotes what a library wrote.
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]


def _url_forms(secret: str) -> Iterable[str]:
    data = secret.encode("utf-8", "surrogatepass")
    for safe in _URL_SAFE:
        for once in (quote(data, safe=safe), quote_plus(data, safe=safe)):
            for text in (once, quote(once, safe="")):
                yield text
                yield _lower_percent(text)


def _forms_of(secret: str) -> Iterable[bytes]:
    data = secret.encode("utf-8", "surrogatepass")
    yield data
    encoded: Set[bytes] = {text.encode("utf-8", "surrogatepass") for text in _text_forms(secret)}
    encoded.update(text.encode("ascii") for text in _url_forms(secret))
    encoded.add(repr(data)[2:-1].encode("ascii"))
    encoded.update(_hex_forms(data))
    encoded.update(_base64_cores(data))
    for codec in ("utf-16-le", "utf-16-be"):
        wide = secret.encode(codec, "surrogatepass")
        encoded.add(wide)
        encoded.update(_base64_cores(wide))
        encoded.update(_hex_forms(wide))
    for form in encoded:
        if len(form) >= MIN_ENCODED_BYTES:
            yield form


def secret_forms(secrets: Iterable[str]) -> FrozenSet[bytes]:
    """Every byte string that gives one of the secrets away.

    Empty secrets and secrets of white space are left out: a setting that is not set protects nothing.
    White space around a secret is not part of it, so that a token file's final newline does not hide it.
    """
    found: Set[bytes] = set()
    for given in secrets:
        secret = given.strip()
        parts = [secret] + [line.strip() for line in secret.splitlines() if len(line.strip()) >= MIN_LINE_CHARS]
        for part in parts:
            if part:
                found.update(_forms_of(part))
    return frozenset(found)
