# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The builder's words: bytes in, records out, and the last word judged.

A line is a protocol record (a JSON object with a known `t`) or a person's text. Whatever a builder writes,
memory stays bounded (`MAX_LINE_BYTES` for a line, `TAIL_LINES` lines kept), and no control character comes
through. A report counts only as the protocol says: once, last, of this run, complete, agreeing with the exit
status. Everything else is a `BuildReportParseError`, never a guess.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Tuple

from ._errors import BuildReportParseError
from ._redact import without_escapes

__all__ = ["MAX_LINE_BYTES", "REPORT_KEYS", "TAIL_LINES", "BuildStream", "LineSplitter", "clean_text", "last_word"]

MAX_LINE_BYTES = 64 * 1024
MAX_DEPTH = 64
TAIL_LINES = 20
TAIL_LINE_CHARS = 500

RECORD_TYPES = frozenset({"hello", "phase", "progress", "heartbeat", "warning"})
OUTCOMES = ("success", "idempotent_no_op", "failure")
_OBJECT_KEYS = (
    "tiles",
    "coverage",
    "windows",
    "model",
    "provider",
    "quality",
    "artifacts",
    "timing_s",
    "resources",
    "versions",
)
_TEXT_KEYS = ("flight_id", "package_id", "content_id")
REPORT_KEYS: Tuple[str, ...] = ("outcome", "failure", *_TEXT_KEYS, "rebind_only", *_OBJECT_KEYS, "warnings")

_C1_CONTROLS = re.compile("[\x80-\x9f\u2028\u2029]")


def clean_text(data: bytes) -> str:
    """Text for a terminal or a log: no escape sequences, no control characters but tab; bad UTF-8 marked."""
    text = without_escapes(data).decode("utf-8", "replace")
    return _C1_CONTROLS.sub("\ufffd", text).replace("\n", " ")


class LineSplitter:
    """Whole lines out of pieces; what of a line goes beyond `MAX_LINE_BYTES` is dropped."""

    def __init__(self) -> None:
        self._parts: List[bytes] = []
        self._size_bytes = 0
        self._cut = False

    def feed(self, data: bytes) -> List[Tuple[bytes, bool]]:
        """The lines that `data` completes, each with whether it had to be cut."""
        *complete, rest = data.split(b"\n")
        lines = []
        for part in complete:
            self._take(part)
            lines.append(self._finish())
        self._take(rest)
        return lines

    def close(self) -> Optional[Tuple[bytes, bool]]:
        """The last line where it has no line feed."""
        return self._finish() if self._size_bytes else None

    def _take(self, part: bytes) -> None:
        room = MAX_LINE_BYTES - self._size_bytes
        self._cut = self._cut or len(part) > room
        if part and room > 0:
            self._parts.append(part[:room])
            self._size_bytes += len(self._parts[-1])
            if len(self._parts) > 1024:
                self._parts = [b"".join(self._parts)]

    def _finish(self) -> Tuple[bytes, bool]:
        line, cut = b"".join(self._parts), self._cut
        self._parts, self._size_bytes, self._cut = [], 0, False
        return line, cut


def _no_duplicates(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _whole_number(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number has too many digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(text + " is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_int=_whole_number, parse_float=_number, parse_constant=_no_constant
)


def _object_of(line: bytes) -> Optional[Dict[str, Any]]:
    """The line as a JSON object, strictly; None where it is anything else."""
    if not line.startswith(b"{"):
        return None
    try:
        value = _DECODER.decode(line.decode("utf-8").strip())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _cleaned(value: Any, clean: Callable[[str], str], depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError("nested deeper than %d" % MAX_DEPTH)
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(item, clean, depth + 1) for item in value]
    if isinstance(value, dict):
        return {clean(key): _cleaned(item, clean, depth + 1) for key, item in value.items()}
    return value


class BuildStream:
    """The builder's standard output, as it arrives.

    `on_record` takes every record: a protocol record with its text cleaned, or `{"t": "line", "text": …}` for
    a person's text. `redact` is asked once more after the JSON is decoded or escapes are taken out: escapes can
    hide a secret from whoever looked at the bytes alone.
    """

    def __init__(
        self,
        *,
        run_id: str,
        nonce: str,
        on_record: Callable[[Dict[str, Any]], None],
        redact: Optional[Callable[[str], str]] = None,
    ) -> None:
        self._run_id = run_id
        self._nonce = nonce
        self._on_record = on_record
        self._redact = redact
        self._splitter = LineSplitter()
        self._people = LineSplitter()
        self._tail: Deque[str] = deque(maxlen=TAIL_LINES)
        self._reports: List[Dict[str, Any]] = []
        self._report_is_last = False
        self._ends_whole = True
        self.foreign_reports = 0
        self.lines = 0

    @property
    def tail(self) -> Tuple[str, ...]:
        """The last lines, cleaned and shortened, for an error's details."""
        return tuple(self._tail)

    def feed(self, data: bytes) -> None:
        """Take the next bytes; a record goes out for every line they complete."""
        for line, cut in self._splitter.feed(data):
            self._line(line, cut=cut)

    def feed_people(self, data: bytes) -> None:
        """Take the next bytes of standard error: text for people, never a record."""
        for line, cut in self._people.feed(data):
            if line.strip():
                self._say(line, cut=cut)

    def close(self) -> None:
        """The output has ended: a last line without its end is text, whatever it looks like."""
        words = self._people.close()
        if words is not None:
            self._say(words[0], cut=words[1])
        rest = self._splitter.close()
        if rest is not None:
            self._ends_whole = False
            self._text(rest[0], cut=rest[1])

    def _line(self, line: bytes, *, cut: bool) -> None:
        self.lines += 1
        value = None if cut else _object_of(line)
        kind = value.get("t") if value is not None else None
        if value is not None and kind == "report":
            self._report(value, line)
        elif value is not None and isinstance(kind, str) and kind in RECORD_TYPES:
            self._protocol(value, line)
        elif line.strip() or cut:
            self._text(line, cut=cut)

    def _protocol(self, value: Dict[str, Any], line: bytes) -> None:
        # A backslash is the only way in which a JSON line can hide something from who reads its bytes.
        if b"\\" in line or not line.isascii():
            try:
                value = self._decoded(value)
            except ValueError:
                self._text(line, cut=False)
                return
            self._tail.append(json.dumps(value)[:TAIL_LINE_CHARS])
        else:
            self._tail.append(line[:TAIL_LINE_CHARS].decode("ascii"))
        self._report_is_last = False
        self._on_record(value)

    def _decoded(self, value: Dict[str, Any]) -> Dict[str, Any]:
        def clean(text: str) -> str:
            cleaned = clean_text(text.encode("utf-8", "replace"))
            return self._redact(cleaned) if self._redact is not None else cleaned

        cleaned = _cleaned(value, clean)
        return dict(cleaned)

    def _text(self, line: bytes, *, cut: bool) -> None:
        self._report_is_last = False
        self._say(line, cut=cut)

    def _say(self, line: bytes, *, cut: bool) -> None:
        text = clean_text(line)
        if self._redact is not None:
            text = self._redact(text)
        self._tail.append(text[:TAIL_LINE_CHARS])
        record: Dict[str, Any] = {"t": "line", "text": text}
        if cut:
            record["cut"] = True
        self._on_record(record)

    def _report(self, value: Dict[str, Any], line: bytes) -> None:
        if value.get("nonce") != self._nonce or value.get("run_id") != self._run_id:
            self.foreign_reports += 1
            self._text(line, cut=False)
            return
        try:
            self._reports.append(self._decoded(value))
        except ValueError:
            self._text(line, cut=False)
            return
        del self._reports[2:]
        self._report_is_last = True

    def last_word(self, exit_code: int) -> Dict[str, Any]:
        """The builder's report, after `close`.

        Args:
            exit_code: The builder's exit status; a builder that a signal ended has no last word.

        Raises:
            BuildReportParseError: There is no report of this run, more than one, something behind it, or it is
                not valid, or says another thing than the exit status.
        """
        try:
            if not self._reports:
                other = " (one of another run was refused)" if self.foreign_reports else ""
                raise ValueError("the builder ended without a report of this run" + other)
            if len(self._reports) > 1:
                raise ValueError("the builder reported more than once")
            if not self._report_is_last or not self._ends_whole:
                raise ValueError("the builder's report is not its last line")
            return last_word(self._reports[0], exit_code)
        except ValueError as exc:
            raise BuildReportParseError(
                "%s; exit status %d" % (exc, exit_code),
                details={"tail": list(self.tail), "exit_code": exit_code, "foreign_reports": self.foreign_reports},
            ) from None


def last_word(report: Mapping[str, Any], exit_code: int) -> Dict[str, Any]:
    """The keys of `RemoteBuildReport`, all present, out of a report record; `ValueError` says what is wrong."""
    version, outcome, failure = report.get("schema_version"), report.get("outcome"), report.get("failure")
    _must(version == 1 and version is not True, "the report has schema version %r, not 1" % (version,))
    _must(outcome in OUTCOMES, "the report's outcome is none of %s" % ", ".join(OUTCOMES))
    failed = outcome == "failure"
    _must(failed == (failure is not None), "the report's outcome and its failure contradict each other")
    _must(failed == (exit_code != 0), "the report says %s" % outcome)
    if failed:
        _check_failure(failure)
    for key in _OBJECT_KEYS:
        _must(isinstance(report.get(key), (dict, type(None))), "the report's %s is not an object" % key)
    for key in _TEXT_KEYS:
        _must(isinstance(report.get(key), (str, type(None))), "the report's %s is not text" % key)
    _must(failed or bool(report.get("content_id")), "the report names no content_id")
    rebind_only = report.get("rebind_only")
    _must(isinstance(rebind_only, (bool, type(None))), "the report's rebind_only is not a truth value")
    _must(isinstance(report.get("warnings", []), list), "the report's warnings are not a list")
    return {**{key: report.get(key) for key in REPORT_KEYS}, "warnings": list(report.get("warnings", []))}


def _check_failure(failure: Any) -> None:
    _must(isinstance(failure, dict), "the report's failure is not an object")
    for key in ("code", "message"):
        _must(isinstance(failure.get(key), str) and bool(failure[key]), "the report's failure has no %s" % key)
    for key in ("phase", "hint"):
        value = failure.get(key)
        _must(isinstance(value, (str, type(None))), "the report's failure has a %s that is not text" % key)
    retryable = failure.get("retryable")
    _must(isinstance(retryable, (bool, type(None))), "the report's failure has a retryable that is not a truth value")


def _must(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise ValueError(otherwise)
