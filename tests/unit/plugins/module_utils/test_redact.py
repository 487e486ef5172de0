# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import time
from urllib.parse import quote, quote_plus

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._redact import (
    MARK,
    MAX_GAP_BYTES,
    Redactor,
    without_escapes,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._redact_encodings import secret_forms
from hypothesis import given
from hypothesis import strategies as st

TOKEN = "tok-'9f$A\"b/c+d=é\\Z!"
KEY = "AIzaSyD3m0K3yForTests0nly"
SECRETS = (TOKEN, KEY)
REDACTOR = Redactor(SECRETS)

ENCODERS = {
    "literal": lambda s: s.encode(),
    "url": lambda s: quote(s, safe="").encode(),
    "url path": lambda s: quote(s).encode(),
    "url form": lambda s: quote_plus(s).encode(),
    "url lower case": lambda s: re.sub("%..", lambda found: found[0].lower(), quote(s, safe="")).encode(),
    "url by encodeURIComponent": lambda s: quote(s, safe="!'()*").encode(),
    "url by requests": lambda s: quote(s, safe="!#$%&'()*+,/:;=?@[]~").encode(),
    "html": lambda s: html.escape(s).encode(),
    "url twice": lambda s: quote(quote(s, safe=""), safe="").encode(),
    "url every byte": lambda s: "".join("%%%02X" % b for b in s.encode()).encode(),
    "json": lambda s: json.dumps(s)[1:-1].encode(),
    "json utf-8": lambda s: json.dumps(s, ensure_ascii=False)[1:-1].encode(),
    "json in json": lambda s: json.dumps(json.dumps(s)[1:-1])[1:-1].encode(),
    "json slash": lambda s: json.dumps(s)[1:-1].replace("/", "\\/").encode(),
    "hex": lambda s: s.encode().hex().encode(),
    "HEX": lambda s: s.encode().hex().upper().encode(),
    "hex with colons": lambda s: s.encode().hex(":").encode(),
    "hex with spaces": lambda s: s.encode().hex(" ").encode(),
    "repr": lambda s: repr(s)[1:-1].encode(),
    "repr of bytes": lambda s: repr(s.encode())[2:-1].encode(),
    "escaped bytes": lambda s: "".join("\\x%02x" % b for b in s.encode()).encode(),
    "ascii": lambda s: ascii(s)[1:-1].encode(),
    "shell": lambda s: shlex.quote(s).encode(),
    "shell '\\''": lambda s: ("'" + s.replace("'", "'\\''") + "'").encode(),
    "utf-16-le": lambda s: s.encode("utf-16-le"),
    "utf-16-be": lambda s: s.encode("utf-16-be"),
    "utf-16 with mark": lambda s: s.encode("utf-16"),
    "utf-32 of ascii": lambda s: s.encode("utf-32-le" if s.isascii() else "utf-8"),
    "base64 0": lambda s: base64.b64encode(s.encode()),
    "base64 1": lambda s: base64.b64encode(b"x" + s.encode() + b"yz"),
    "base64 2": lambda s: base64.b64encode(b"xy" + s.encode() + b"y"),
    "base64url": lambda s: base64.urlsafe_b64encode(b"?" + s.encode()),
    "base64 of utf-16": lambda s: base64.b64encode(s.encode("utf-16-le")),
    "hex of utf-16": lambda s: s.encode("utf-16-le").hex().encode(),
    "basic": lambda s: b"Authorization: Basic " + base64.b64encode(b"operator:" + s.encode()),
    "colours between letters": lambda s: "\x1b[1;31m".join(s).encode(),
    "inside a window title": lambda s: b"\x1b]0;" + s.encode() + b"\x07",
    "inside a link": lambda s: b"\x1b]8;;https://x/?key=" + s.encode() + b"\x1b\\tile\x1b]8;;\x1b\\",
    "backspaces and NULs": lambda s: "\x00\x08".join(s).encode(),
}


def alnum_runs(data: bytes) -> set[bytes]:
    return {data[i : i + 8] for i in range(len(data) - 7)}


@pytest.mark.parametrize("secret", SECRETS, ids=["token", "key"])
@pytest.mark.parametrize("name", ENCODERS)
def test_no_encoding_of_a_secret_gets_through(name, secret):
    encoded = ENCODERS[name](secret)
    out = REDACTOR.redact_bytes(b"before " + encoded + b" behind")
    assert MARK in out
    assert out.startswith(b"before ")
    assert out.endswith(b" behind")
    # What is left of the encoded text gives away no run of eight of its characters but its fixed surroundings.
    fixed = {"basic": b"Authorization: Basic " + base64.b64encode(b"operator:")}.get(name, b"")
    if "inside a link" not in name:
        assert not (alnum_runs(encoded) - alnum_runs(fixed)) & alnum_runs(out)


@pytest.mark.parametrize("secret", SECRETS, ids=["token", "key"])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_cut_in_two_and_in_single_bytes_gives_the_same_output(name, secret):
    data = b"a " + ENCODERS[name](secret) + b" z"
    whole = REDACTOR.redact_bytes(data)
    for cut in range(len(data) + 1):
        stream = REDACTOR.stream()
        assert stream.feed(data[:cut]) + stream.feed(data[cut:]) + stream.close() == whole
    stream = REDACTOR.stream()
    assert b"".join(stream.feed(data[i : i + 1]) for i in range(len(data))) + stream.close() == whole


def test_every_cut_in_three_gives_the_same_output():
    data = b"x" + KEY.encode() + b"\x1b[0m" + KEY[:5].encode() + b" " + base64.b64encode(KEY.encode())
    whole = REDACTOR.redact_bytes(data)
    for one in range(len(data) + 1):
        for two in range(one, len(data) + 1):
            stream = REDACTOR.stream()
            parts = (data[:one], data[one:two], data[two:])
            assert b"".join(stream.feed(part) for part in parts) + stream.close() == whole


def redact_plainly(data: bytes, forms: set[bytes]) -> bytes:
    """What the streaming redactor must come to, worked out in the slow and plain way."""
    raw = [i for i, value in enumerate(data) if value in (9, 10) or (value >= 32 and value != 127)]
    shown = places_shown(data)
    spans = []
    for places in (raw, shown):
        text = bytes(data[i] for i in places)
        for form in forms:
            at = text.find(form)
            while at >= 0:
                spans.append((places[at], places[at + len(form) - 1] + 1))
                at = text.find(form, at + 1)
    out, end, place = b"", 0, 0
    for start, stop in sorted(spans):
        if start >= end:
            out += data[place:start] + MARK
        end = max(end, stop)
        place = max(place, end)
    return out + data[place:]


def places_shown(data: bytes) -> list[int]:
    """Where the bytes lie that `without_escapes` keeps, told by dropping one byte at a time from the end."""
    lengths = [len(without_escapes(data[:i])) for i in range(len(data) + 1)]
    return [i for i in range(len(data)) if lengths[i + 1] > lengths[i]]


NOWHERE = Redactor(["\U0010fffd-never-there"])
SMALL = ("abab", "bca", "aa\x1bXb")
SMALL_REDACTOR = Redactor(SMALL)
SMALL_FORMS = {form.translate(None, bytes(set(range(32)) - {9, 10}) + b"\x7f") for form in secret_forms(SMALL)} | {
    without_escapes(form) for form in secret_forms(SMALL)
}
SOUP = st.lists(
    st.sampled_from(
        [b"a", b"b", b"c", b"ab", b"abab", b"bca", b"\x1b", b"\x1b[1m", b"\x1b]0;", b"\x07", b"\x1b\\", b"\n", b"\0",
         b"\x1b(B", b"\x18", b"\x7f", b"\xc3\xa9", b"YWJhYg", b"6162", b"[", b" ", b"m", b"X", b"\x1bP"]
    ),
    max_size=30,
).map(b"".join)  # fmt: skip


@given(SOUP, st.lists(st.integers(0, 60), max_size=6))
def test_any_split_of_any_soup_equals_the_plain_way(data, cuts):
    stream, out, at = SMALL_REDACTOR.stream(), b"", 0
    for cut in [*sorted(cuts), len(data)]:
        out += stream.feed(data[at:cut])
        at = max(at, min(cut, len(data)))
    out += stream.close()
    assert out == redact_plainly(data, SMALL_FORMS)


@given(SOUP)
def test_the_quick_way_through_clean_pieces_changes_nothing(data):
    data = data.replace(b"\x1b", b"").replace(b"\0", b"") * 20
    stream = SMALL_REDACTOR.stream()
    out = b"".join(stream.feed(data[i : i + 97]) for i in range(0, len(data), 97)) + stream.close()
    assert out == SMALL_REDACTOR.redact_bytes(data)


@given(st.text(max_size=40))
def test_text_without_secrets_comes_back_as_it_is(text):
    assert NOWHERE.redact(text) == text


@given(st.text(min_size=4, max_size=30).filter(lambda text: len(text.strip()) >= 4 and text.strip().isprintable()))
def test_any_printable_secret_is_found(secret):
    secret = secret.strip()
    redactor = Redactor([secret])
    for encode in (ENCODERS["literal"], ENCODERS["json"], ENCODERS["url"], ENCODERS["repr"]):
        assert redactor.redact_bytes(b"\n" + encode(secret) + b"\n") == b"\n<redacted>\n"


def test_what_cannot_become_a_secret_is_not_held_back():
    stream = REDACTOR.stream()
    assert stream.feed(b'{"t":"progress","done":1}\n') == b'{"t":"progress","done":1}\n'
    assert stream.feed(b"key " + KEY[:4].encode()) == b"key "
    assert stream.feed(b"?\n") == KEY[:4].encode() + b"?\n"


def test_a_long_chain_of_overlapping_secrets_is_one_mark_in_bounded_memory():
    redactor = Redactor(["zzzz"])
    stream = redactor.stream()
    out = b"".join(stream.feed(b"z" * 10_000) for _ in range(10))
    assert len(stream._held) < 10
    assert out + stream.close() == MARK


def test_adjacent_secrets_have_a_mark_each():
    assert Redactor(["abcd", "efgh"]).redact("abcdefgh") == "<redacted><redacted>"


def test_a_gap_longer_than_the_limit_is_given_up_and_a_shorter_one_is_not():
    redactor = Redactor(["secret-word"])
    for size, found in ((MAX_GAP_BYTES, True), (MAX_GAP_BYTES + 1, False)):
        data = b"secret" + b"\0" * size + b"-word"
        assert (redactor.redact_bytes(data) == MARK) is found
        assert redactor.redact(without_escapes(data).decode()) == "<redacted>"


def test_the_lines_of_a_long_secret_are_secrets():
    pem = "-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIEIDdT\nshort\n-----END KEY-----\n"
    redactor = Redactor([pem])
    assert redactor.redact("x MC4CAQAwBQYDK2VwBCIEIDdT y") == "x <redacted> y"
    assert redactor.redact("short") == "short"
    assert redactor.redact("a" + pem + "b") == "a<redacted>\nb"


@pytest.mark.parametrize("secrets", [[], [""], ["  \n"], ["\x01"]])
def test_without_secrets_everything_passes(secrets):
    redactor = Redactor(secrets)
    stream = redactor.stream()
    assert stream.feed(b"a\x1b[0m") + stream.close() == b"a\x1b[0m"
    assert redactor.redact("\udc80 text") == "\udc80 text"


def test_text_with_lone_surrogates_is_redacted_too():
    assert REDACTOR.redact(f"\udcff {KEY}") == "\udcff <redacted>"
    assert REDACTOR.redact(f"\ud800 {KEY}").endswith(" <redacted>")


def test_a_redactor_does_not_show_its_secrets():
    assert KEY not in repr(REDACTOR)
    assert "secrets" in repr(REDACTOR)


@pytest.mark.parametrize(
    ("given_bytes", "shown"),
    [
        (b"plain\ttext\n", b"plain\ttext\n"),
        (b"a\x07b\x00c\x7f\r\n", b"abc\n"),
        (b"\x1b[1;31mred\x1b[0m", b"red"),
        (b"\x1b]0;title\x07x\x1b]52;c;cGFzdGU=\x1b\\y", b"xy"),
        (b"\x1bPdcs\x1b\\x\x1b^pm\x1b[1mz", b"xz"),
        (b"\x1b(Bx\x1b#8y\x1b=z", b"xyz"),
        (b"\x1b[31\nnext", b"\nnext"),
        (b"\x1b]0;never ended\nnext", b"\nnext"),
        (b"\x1b[3\x181mx\x1b\x1ay", b"1mxy"),
        (b"\x1b[3\xc3\xa9x", b"\xc3\xa9x"),
        (b"\x1b\xc3\xa9x\x1b(\xc3\xa9", b"\xc3\xa9x\xc3\xa9"),
        (b"\x1b[1\x07;31mx", b"x"),
        (b"\x1b\x1b[1mx\x1b]a\x1b[1mz", b"xz"),
        (b"\x1b\tx", b"\tx"),
        (b"\x1b]a\x1b\x1b\\b", b"b"),
    ],
)
def test_escapes_and_controls_are_taken_out(given_bytes, shown):
    assert without_escapes(given_bytes) == shown


def test_time_grows_with_the_length_only():
    redactor = Redactor(["ab" * 40 + "c"])

    def took(size: int) -> float:
        data = b"ab" * (size // 2)
        started = time.process_time()
        redactor.redact_bytes(data)
        return time.process_time() - started

    took(1000)
    assert took(160_000) < 16 * took(20_000)
