# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheVerifyError
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_faults import Reason, reason_of
from ansible_collections.gps_denied.preflight.plugins.module_utils._grant import (
    MAX_GRANT_BYTES,
    Grant,
    check_grant,
    parse_time,
)
from hypothesis import given, settings
from hypothesis import strategies as st

CONTENT = "ab" * 32
NOW = float(parse_time("2026-06-01T12:00:00Z"))


def issue(**changes: Any) -> Grant:
    values: dict[str, Any] = {
        "vehicle_id": "v1", "flight_id": "f1", "content_id": CONTENT, "counter": 7, "run_id": "r1",
        "now_epoch_s": NOW, "valid_for_s": 3600,
    }  # fmt: skip
    return Grant.issue(**{**values, **changes})


def refused(content: bytes) -> str:
    with pytest.raises(CacheVerifyError) as caught:
        Grant.parse(content)
    assert reason_of(caught.value) is Reason.GRANT_MALFORMED
    return str(caught.value)


def test_a_grant_is_read_back_from_its_text() -> None:
    grant = issue()
    assert Grant.parse(grant.to_text().encode()) == grant
    assert (grant.not_before, grant.not_after) == ("2026-06-01T11:55:00Z", "2026-06-01T13:00:00Z")


@pytest.mark.parametrize(
    "change",
    [
        {"vehicle_id": ""}, {"vehicle_id": "../v"}, {"vehicle_id": "v\n"}, {"flight_id": ""}, {"flight_id": "x" * 201},
        {"flight_id": "a\x1b[31m"}, {"content_id": "AB" * 32}, {"content_id": "ab"}, {"counter": 0}, {"counter": -1},
        {"counter": 10**8}, {"counter": 1.0}, {"counter": True}, {"counter": "7"}, {"schema_version": 2}, {"type": "x"},
        {"not_before": "2026-06-01"}, {"not_after": "2026-13-01T00:00:00Z"}, {"not_after": "2026-06-01T11:00:00Z"},
        {"issued_at": "yesterday"}, {"extra": 1}, {"flight_id": None}, {"flight_id": ["f1"]},
    ],
)  # fmt: skip
def test_a_grant_with_a_wrong_field_is_refused(change: dict[str, Any]) -> None:
    refused(json.dumps({**json.loads(issue().to_text()), **change}).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"{}", b"{", b"\xff", b"[" * 5000, b'{"counter":NaN}', b" " * (MAX_GRANT_BYTES + 1),
        issue().to_text().encode().replace(b'"counter": 7', b'"counter": 7, "counter": 8'),
        issue().to_text().encode() + b"x",
    ],
)  # fmt: skip
def test_what_is_no_grant_is_refused(content: bytes) -> None:
    refused(content)


@pytest.mark.parametrize("name", list(json.loads(issue().to_text())))
def test_a_grant_without_a_field_is_refused(name: str) -> None:
    body = json.loads(issue().to_text())
    del body[name]
    assert "missing" in refused(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"content_id": "cd" * 32}, Reason.GRANT_CONTENT),
        ({"vehicle_id": "v2"}, Reason.GRANT_VEHICLE),
        ({"flight_id": "f2"}, Reason.GRANT_FLIGHT),
        ({"now_epoch_s": 0.0}, Reason.CLOCK_UNTRUSTED),
        ({"now_epoch_s": -5.0}, Reason.CLOCK_UNTRUSTED),
        ({"now_epoch_s": NOW - 301}, Reason.GRANT_NOT_YET_VALID),
        ({"now_epoch_s": NOW + 3600}, Reason.GRANT_EXPIRED),
        ({"now_epoch_s": NOW + 3599}, None),
        ({"now_epoch_s": NOW - 300}, None),
        ({"vehicle_id": None, "flight_id": None, "now_epoch_s": None}, None),
    ],
)
def test_a_grant_counts_for_its_content_vehicle_flight_and_time_only(
    change: dict[str, Any], reason: Reason | None
) -> None:
    asked: dict[str, Any] = {"content_id": CONTENT, "vehicle_id": "v1", "flight_id": "f1", "now_epoch_s": NOW}
    if reason is None:
        check_grant(issue(), **{**asked, **change})
        return
    with pytest.raises(CacheVerifyError) as caught:
        check_grant(issue(), **{**asked, **change})
    assert reason_of(caught.value) is reason


@settings(deadline=None, max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_refused_by_type(document: Any) -> None:
    refused(json.dumps(document).encode())
