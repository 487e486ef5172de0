# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import tracemalloc

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._build_stream import (
    MAX_LINE_BYTES,
    REPORT_KEYS,
    TAIL_LINES,
    BuildStream,
    clean_text,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import BuildReportParseError
from ansible_collections.gps_denied.preflight.plugins.module_utils._redact import Redactor
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import RemoteBuildReport, from_plain
from hypothesis import given
from hypothesis import strategies as st

RUN, NONCE = "run-1", "00ff" * 8
GOOD = {
    "t": "report",
    "schema_version": 1,
    "run_id": RUN,
    "nonce": NONCE,
    "outcome": "success",
    "failure": None,
    "content_id": "ab" * 32,
    "tiles": {"in_area": 3, "ok": 3},
    "warnings": ["one tile is blank"],
}
FAILURE = {"code": "decode", "phase": "screen", "message": "bad tiles", "hint": None, "retryable": False}
PROGRESS = {"t": "progress", "phase": "describe", "done": 3, "total": 9, "unit": "windows"}


def line(**values: object) -> bytes:
    return json.dumps(values).encode() + b"\n"


def heard(data: bytes, *, size: int | None = None, redact=None) -> tuple[BuildStream, list[dict]]:
    records: list[dict] = []
    stream = BuildStream(run_id=RUN, nonce=NONCE, on_record=records.append, redact=redact)
    for at in range(0, len(data), size or len(data) or 1):
        stream.feed(data[at : at + (size or len(data))])
    stream.close()
    return stream, records


def test_a_good_report_has_every_key_and_makes_the_dataclass():
    stream, records = heard(line(**PROGRESS) + line(**GOOD))
    report = stream.last_word(0)
    assert tuple(sorted(report)) == tuple(sorted(REPORT_KEYS))
    assert records == [PROGRESS]
    made = from_plain(RemoteBuildReport, report)
    assert made.outcome.value == "success"
    assert made.tiles == {"in_area": 3, "ok": 3}
    assert made.warnings == ("one tile is blank",)
    assert made.quality is None


def test_the_keys_are_those_of_the_dataclass():
    assert set(REPORT_KEYS) == set(RemoteBuildReport.__dataclass_fields__)


def test_a_failure_in_the_builders_own_word_is_a_valid_last_word():
    stream, _records = heard(line(**{**GOOD, "outcome": "failure", "failure": FAILURE, "content_id": None}))
    assert stream.last_word(4)["failure"] == FAILURE


def test_a_report_cut_at_any_byte_is_no_report():
    whole = line(**PROGRESS) + line(**GOOD)
    for end in range(len(whole)):
        stream, _records = heard(whole[:end])
        with pytest.raises(BuildReportParseError, match=r"without a report of this run|not its last line"):
            stream.last_word(0)
    assert heard(whole)[0].last_word(0)["outcome"] == "success"


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_pieces_of_any_size_give_the_same_records(size):
    data = line(**PROGRESS) + b"plain words\n" + line(**PROGRESS) + "ümlaut\n".encode() + line(**GOOD)
    stream, records = heard(data, size=size)
    assert records == heard(data)[1]
    assert stream.last_word(0)["outcome"] == "success"


@pytest.mark.parametrize(
    ("change", "exit_code", "says"),
    [
        ({"schema_version": 2}, 0, "schema version 2, not 1"),
        ({"schema_version": True}, 0, "schema version True, not 1"),
        ({"outcome": "ok"}, 0, "outcome is none of success, idempotent_no_op, failure"),
        ({"outcome": ["success"]}, 0, "outcome is none of"),
        ({"failure": FAILURE}, 0, "outcome and its failure contradict"),
        ({"outcome": "failure"}, 1, "outcome and its failure contradict"),
        ({}, 1, "the report says success; exit status 1"),
        ({"outcome": "failure", "failure": FAILURE}, 0, "the report says failure; exit status 0"),
        ({"outcome": "failure", "failure": "bad"}, 1, "failure is not an object"),
        ({"outcome": "failure", "failure": {**FAILURE, "code": ""}}, 1, "failure has no code"),
        ({"outcome": "failure", "failure": {**FAILURE, "message": 3}}, 1, "failure has no message"),
        ({"outcome": "failure", "failure": {**FAILURE, "hint": 3}}, 1, "a hint that is not text"),
        ({"outcome": "failure", "failure": {**FAILURE, "retryable": "no"}}, 1, "a retryable that is not a truth value"),
        ({"tiles": [1]}, 0, "tiles is not an object"),
        ({"flight_id": 7}, 0, "flight_id is not text"),
        ({"content_id": None}, 0, "names no content_id"),
        ({"rebind_only": 1}, 0, "rebind_only is not a truth value"),
        ({"warnings": "none"}, 0, "warnings are not a list"),
    ],
)
def test_a_report_that_is_not_valid_is_refused(change, exit_code, says):
    stream, _records = heard(b"words before\n" + line(**{**GOOD, **change}))
    with pytest.raises(BuildReportParseError, match=says) as caught:
        stream.last_word(exit_code)
    assert caught.value.details["tail"] == ["words before"]
    assert caught.value.details["exit_code"] == exit_code


@pytest.mark.parametrize("change", [{"nonce": "0"}, {"nonce": None}, {"run_id": "run-2"}])
def test_a_report_of_another_run_is_only_text(change):
    stream, records = heard(line(**{**GOOD, **change}))
    with pytest.raises(BuildReportParseError, match="one of another run was refused"):
        stream.last_word(0)
    assert records[0]["t"] == "line"


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (line(**GOOD), "more than once"),
        (line(**PROGRESS), "not its last line"),
        (b"bye\n", "not its last line"),
        (b"bye", "not its last line"),
        (line(**{**GOOD, "nonce": "0"}), "not its last line"),
    ],
)
def test_nothing_comes_after_the_report(after, says):
    stream, _records = heard(line(**GOOD) + after)
    with pytest.raises(BuildReportParseError, match=says):
        stream.last_word(0)


def test_empty_lines_and_standard_error_after_the_report_do_no_harm():
    stream, _records = heard(line(**GOOD) + b"\n  \n")
    assert stream.last_word(0)["outcome"] == "success"
    stream.feed_people(b"closing down\n\nbye")
    stream.close()
    assert stream.last_word(0)["outcome"] == "success"
    assert stream.tail == ("closing down", "bye")


@pytest.mark.parametrize(
    "text",
    [
        b'{"t":"report","t":"report"}',
        b'{"t":"progress","done":NaN}',
        b'{"t":"progress","done":1e999}',
        b'{"t":"progress","done":' + b"9" * 30000 + b"}",
        b'{"t":"progress","deep":' + b"[" * 20000 + b"]" * 20000 + b"}",
        b'{"t":"progress","deep":' + b"[" * 100 + b'"\\n"' + b"]" * 100 + b"}",
        b'{"t":"progress","text":"\xff"}',
        b'{"t":"secret-handshake"}',
        b'{"t":["progress"]}',
        b'["progress"]',
        b'"progress"',
        b"{",
        b'{"t":"progress"} {"t":"progress"}',
    ],
)
def test_what_is_not_strictly_a_record_is_text(text):
    _stream, records = heard(text + b"\n")
    (record,) = records
    assert record["t"] == "line"


def test_a_report_nested_too_deeply_is_no_report():
    stream, _records = heard(line(**{**GOOD, "tiles": {"a": json.loads("[" * 80 + "]" * 80)}}))
    with pytest.raises(BuildReportParseError, match="without a report"):
        stream.last_word(0)


def test_lines_are_cut_at_the_limit_and_not_before():
    prefix = b'{"t":"progress","text":"'
    fits = prefix + b"x" * (MAX_LINE_BYTES - len(prefix) - 2) + b'"}'
    _stream, records = heard(fits + b"\n" + fits + b" \n" + line(**PROGRESS), size=1000)
    assert [record["t"] for record in records] == ["progress", "line", "progress"]
    assert records[1]["cut"]
    assert len(records[1]["text"]) == MAX_LINE_BYTES


def test_a_cut_line_at_the_very_end_is_text_too():
    _stream, records = heard(b"y" * (MAX_LINE_BYTES + 5))
    assert records == [{"t": "line", "text": "y" * MAX_LINE_BYTES, "cut": True}]


def test_memory_stays_bounded_whatever_comes():
    stream = BuildStream(run_id=RUN, nonce=NONCE, on_record=lambda record: None)
    tracemalloc.start()
    try:
        for _unused in range(200):
            stream.feed(b"z" * 100_000)
        for _unused in range(20_000):
            stream.feed(b"q")
        stream.feed(b"\n" + line(**PROGRESS) * 5000)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert len(stream.tail) == TAIL_LINES


def test_text_inside_records_is_cleaned_and_redacted_once_it_is_decoded():
    redactor = Redactor(["canary-token"])
    hidden = b'{"t":"progress","text":"c\\u0000anary\\u001b[1m-token \\u001b]0;x\\u0007",'
    hidden += b'"done":1,"list":["canary\\u002dtoken"]}\n'
    _stream, records = heard(hidden, redact=redactor.redact)
    assert records == [{"t": "progress", "text": "<redacted> ", "done": 1, "list": ["<redacted>"]}]


def test_a_report_is_cleaned_and_redacted_too():
    redactor = Redactor(["canary-token"])
    failure = {**FAILURE, "message": "sent \x1b[1mcanary\x00-token"}
    stream, _records = heard(line(**{**GOOD, "outcome": "failure", "failure": failure}), redact=redactor.redact)
    assert stream.last_word(1)["failure"]["message"] == "sent <redacted>"


def test_text_for_people_is_cleaned():
    assert clean_text(b"\x1b[31mred\x1b[0m \xff\xc2\x9b31m\ttab") == "red \ufffd\ufffd31m\ttab"


@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([line(**GOOD), line(**PROGRESS), b"\n", b"{", b"\x1b["]))
    )
)
def test_no_output_whatever_does_harm(parts):
    stream, records = heard(b"".join(parts), redact=Redactor(["canary-token"]).redact)
    for record in records:
        json.dumps(record)
        assert "\x1b" not in json.dumps(record)
    try:
        assert stream.last_word(0)["outcome"] == "success"
    except BuildReportParseError as exc:
        assert len(exc.message) < 300
