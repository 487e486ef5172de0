# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One redactor in front of every sink: secrets, in all their encodings, become `<redacted>`.

The stream may be cut anywhere: the joined output of `StreamRedactor` equals redacting the whole at once.
An automaton of all forms (Aho and Corasick, "Efficient string matching", CACM 18 (6), 1975) knows after every
byte how much of the end could still become a secret; just that much is held back. Time is linear in the
input, memory is bounded by the longest form times `MAX_GAP_BYTES`.

The stream is read in two ways at once, and what either way finds is redacted: with escape sequences taken out
(a secret with colours between its letters) and with only the control characters taken out (a secret inside a
window title or a link). NUL counts as a control character, so wide encodings of ASCII secrets need no form.
A secret broken over two lines by someone else's line wrap is not found.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Deque, Dict, Iterable, List, Optional, Tuple

from ._redact_encodings import secret_forms

__all__ = ["MARK", "MAX_GAP_BYTES", "Redactor", "StreamRedactor", "without_escapes"]

MARK = b"<redacted>"
MAX_GAP_BYTES = 4096
"""Control and escape bytes between two letters of a secret, beyond which the stream gives the match up.

A whole text (`Redactor.redact` after `without_escapes`) has no such limit: whoever takes escapes out of a line
redacts it again.
"""

_SKIPPED = frozenset(set(range(0x20)) - {0x09, 0x0A}) | {0x7F}
_DELETE = bytes(sorted(_SKIPPED))
_NEEDS_CARE = re.compile(b"[" + re.escape(_DELETE) + b"]")
_FLUSH_EVERY_BYTES = 4096

# States of the escape sequence reader (ECMA-48, leniently; a line feed ends every sequence).
_TEXT, _ESCAPE, _INTERMEDIATE, _CSI, _STRING, _STRING_ESCAPE = range(6)
_BEL, _LF, _CAN, _SUB, _ESC = 0x07, 0x0A, 0x18, 0x1A, 0x1B
_STRING_OPENERS = frozenset(b"PX]^_")


def _next_state(state: int, value: int) -> Tuple[int, bool]:
    """The reader's state after `value`, and whether `value` is shown."""
    if value == _LF:
        return _TEXT, True
    if value in (_CAN, _SUB):
        return _TEXT, False
    if value == _ESC:
        return (_STRING_ESCAPE if state == _STRING else _ESCAPE), False
    if state == _TEXT:
        return _TEXT, value not in _SKIPPED
    if state == _STRING:
        return (_TEXT if value == _BEL else _STRING), False
    if value in _SKIPPED:
        return state, False
    if state == _STRING_ESCAPE and value == 0x5C:
        return _TEXT, False
    if state in (_ESCAPE, _STRING_ESCAPE) and value in _STRING_OPENERS:
        return _STRING, False
    if state in (_ESCAPE, _STRING_ESCAPE) and value == 0x5B:
        return _CSI, False
    if state == _CSI:
        return (_CSI, False) if 0x20 <= value <= 0x3F else (_TEXT, value > 0x7E)
    return (_INTERMEDIATE, False) if 0x20 <= value <= 0x2F else (_TEXT, value > 0x7E or value < 0x20)


def without_escapes(data: bytes) -> bytes:
    """`data` as a terminal would show it: no escape sequences, no control characters but tab and line feed."""
    if not _NEEDS_CARE.search(data):
        return data
    if _ESC not in data:
        return data.translate(None, _DELETE)
    shown = bytearray()
    state = _TEXT
    for value in data:
        state, is_shown = _next_state(state, value)
        if is_shown:
            shown.append(value)
    return bytes(shown)


class _Automaton:
    """All forms in one machine; node 0 is the root."""

    def __init__(self, forms: Iterable[bytes]) -> None:
        forms = sorted(forms, key=len)
        # Whatever holds a form holds the shorter form within it: to look for these is enough.
        self.needles: List[bytes] = []
        for form in forms:
            if not any(needle in form for needle in self.needles):
                self.needles.append(form)
        self._children: List[Dict[int, int]] = [{}]
        self._fail: List[int] = [0]
        self.path: List[bytes] = [b""]
        self.match_bytes: List[int] = [0]
        for form in forms:
            self._add(form)
        self.longest_bytes = max(self.match_bytes)
        self.live_bytes: List[int] = [0] * len(self.path)
        self._connect()
        self._next: List[Dict[int, int]] = [dict(children) for children in self._children]

    def _add(self, form: bytes) -> None:
        node = 0
        for depth, value in enumerate(form, 1):
            child = self._children[node].get(value)
            if child is None:
                child = len(self._children)
                self._children[node][value] = child
                self._children.append({})
                self._fail.append(0)
                self.path.append(form[:depth])
                self.match_bytes.append(0)
            node = child
        self.match_bytes[node] = len(form)

    def _connect(self) -> None:
        pending: Deque[int] = deque(self._children[0].values())
        while pending:
            node = pending.popleft()
            fail = self._fail[node]
            # The longest form that ends here covers the shorter ones.
            self.match_bytes[node] = self.match_bytes[node] or self.match_bytes[fail]
            # A node without children cannot grow into a form: only its tail still can.
            self.live_bytes[node] = len(self.path[node]) if self._children[node] else self.live_bytes[fail]
            for value, child in self._children[node].items():
                back = fail
                while back and value not in self._children[back]:
                    back = self._fail[back]
                self._fail[child] = self._children[back].get(value, 0)
                pending.append(child)

    def step(self, node: int, value: int) -> int:
        """The node after `value`; transitions are remembered, so a step is one look-up in the long run."""
        known = self._next[node].get(value)
        if known is None:
            back = node
            while back and value not in self._children[back]:
                back = self._fail[back]
            known = self._children[back].get(value, 0)
            self._next[node][value] = known
        return known


class _Reading:
    """One way of reading the stream: where the automaton stands, and where its letters lie in the stream."""

    def __init__(self, automaton: _Automaton) -> None:
        self._automaton = automaton
        self._places: Deque[int] = deque(maxlen=automaton.longest_bytes)
        self._gap_bytes = 0
        self.node = 0

    def step(self, value: int, place: int) -> Optional[Tuple[int, int]]:
        """Read one byte; the span of a form that ends with it, if one does."""
        self._gap_bytes = 0
        self.node = self._automaton.step(self.node, value)
        self._places.append(place)
        length = self._automaton.match_bytes[self.node]
        return (self._places[-length], place + 1) if length else None

    def skip(self) -> None:
        """Pass over one byte that does not count."""
        self._gap_bytes += 1
        if self._gap_bytes > MAX_GAP_BYTES:
            self.node = 0

    def live_from(self, end: int) -> int:
        """The first place that may belong to a form not seen to its end yet; `end` if there is none."""
        live = self._automaton.live_bytes[self.node]
        return self._places[-live] if live else end

    def restart(self, tail: bytes, place: int) -> None:
        """Stand as if only `tail`, which begins at `place`, had been read."""
        self.node = 0
        for offset, value in enumerate(tail):
            self.step(value, place + offset)


class StreamRedactor:
    """Redacts a byte stream that arrives in pieces; made by `Redactor.stream`, one for each stream."""

    def __init__(self, automaton: Optional[_Automaton]) -> None:
        self._automaton = automaton
        self._readings = tuple(_Reading(automaton) for _unused in range(2)) if automaton is not None else ()
        self._state = _TEXT
        self._held = bytearray()
        self._base = 0  # Place in the stream of the first held byte.
        self._end = 0  # Place behind the last byte read.
        self._spans: Deque[Tuple[int, int]] = deque()  # Found, not written yet; in order, without overlap.
        self._marked_to = 0  # A mark stands for everything up to this place.

    def feed(self, data: bytes) -> bytes:
        """The next piece in; out comes what is known to be clean."""
        if self._automaton is None:
            return data
        if self._is_clean(self._automaton, data):
            tail = data[-self._automaton.longest_bytes :]
            self._held += data
            self._end += len(data)
            for reading in self._readings:
                reading.restart(tail, self._end - len(tail))
            return self._flush()
        out: List[bytes] = []
        for start in range(0, len(data), _FLUSH_EVERY_BYTES):
            piece = data[start : start + _FLUSH_EVERY_BYTES]
            self._held += piece
            self._read(piece)
            out.append(self._flush())
        return b"".join(out)

    def close(self) -> bytes:
        """What is still held back."""
        return self._emit(self._end)

    def _is_clean(self, automaton: _Automaton, data: bytes) -> bool:
        """Whether no form ends in `data`, told quickly; False also where a quick look cannot tell."""
        shown, raw = self._readings
        if len(data) < automaton.longest_bytes or self._state != _TEXT or shown.node != raw.node:
            return False
        if self._spans or _NEEDS_CARE.search(data):
            return False
        window = automaton.path[raw.node] + data
        return not any(needle in window for needle in automaton.needles)

    def _read(self, data: bytes) -> None:
        shown, raw = self._readings
        state, place = self._state, self._end
        for value in data:
            if state == _TEXT and value not in _SKIPPED:
                is_shown = True
            else:
                state, is_shown = _next_state(state, value)
            for reading, counts in ((raw, value not in _SKIPPED), (shown, is_shown)):
                if not counts:
                    reading.skip()
                    continue
                span = reading.step(value, place)
                if span is not None:
                    self._note(*span)
            place += 1
        self._state, self._end = state, place

    def _note(self, start: int, end: int) -> None:
        while self._spans and self._spans[-1][1] > start:
            earlier_start, earlier_end = self._spans.pop()
            start, end = min(start, earlier_start), max(end, earlier_end)
        if start < self._marked_to:
            self._marked_to = max(end, self._marked_to)
        else:
            self._spans.append((start, end))

    def _flush(self) -> bytes:
        return self._emit(min(reading.live_from(self._end) for reading in self._readings))

    def _emit(self, limit: int) -> bytes:
        out: List[bytes] = []
        place = self._base
        while place < limit:
            if self._marked_to > place:
                place = min(limit, self._marked_to)
            elif self._spans and self._spans[0][0] < limit:
                start, self._marked_to = self._spans.popleft()
                out.append(bytes(self._held[place - self._base : start - self._base]) + MARK)
                place = start
            else:
                out.append(bytes(self._held[place - self._base : limit - self._base]))
                place = limit
        if limit > self._base:
            del self._held[: limit - self._base]
            self._base = limit
        return b"".join(out)


class Redactor:
    """Knows the secrets of a run; immutable, one for all sinks."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = set()
        for form in secret_forms(secrets):
            forms.add(form.translate(None, _DELETE))
            forms.add(without_escapes(form))
        forms.discard(b"")
        self._automaton = _Automaton(forms) if forms else None

    def __repr__(self) -> str:
        return "Redactor(<secrets>)"

    def stream(self) -> StreamRedactor:
        """A redactor for one byte stream."""
        return StreamRedactor(self._automaton)

    def redact_bytes(self, data: bytes) -> bytes:
        """All of `data` at once."""
        stream = self.stream()
        return stream.feed(data) + stream.close()

    def redact(self, text: str) -> str:
        """All of `text` at once; characters that UTF-8 has no bytes for are kept where they stand."""
        try:
            return self.redact_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return self.redact_bytes(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
