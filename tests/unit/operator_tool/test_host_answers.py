# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CompanionNotTrustedError

from operator_tool._host_answers import host_error, silence_error
from operator_tool._runner import PlaybookResult


@pytest.mark.parametrize(
    ("result", "code", "words"),
    [
        (PlaybookResult(finished=True), 2, "no host in the group companions"),
        (PlaybookResult(cancelled=True), 130, "cancelled by the operator"),
        (PlaybookResult(failures=["it broke"]), 30, "did not come to its end: it broke"),
        (PlaybookResult(tail=deque(["\x1b[0;31mERROR!\x1b[0m\r\n bad"])), 30, "end: ERROR! bad"),
        (PlaybookResult(), 30, "no companion answered"),
    ],
)
def test_silence_has_a_reason(result: PlaybookResult, code: int, words: str) -> None:
    error = silence_error(result)
    assert (int(error.code), words in error.message) == (code, True), error.message
    assert error.remediation


@pytest.mark.parametrize(
    ("outcome", "code", "words"),
    [
        ({"unreachable": True, "msg": "Permission denied (publickey)"}, 30, "refused the SSH login"),
        ({"error": CompanionNotTrustedError("another key").to_dict()}, 31, "another key"),
        ({"msg": "sudo: a password\n is required"}, 30, "survey-01: sudo: a password is required"),
    ],
)
def test_a_host_that_failed_is_a_typed_error(outcome: dict[str, Any], code: int, words: str) -> None:
    error = host_error("survey-01", outcome)
    assert (int(error.code), words in error.message) == (code, True), error.message
