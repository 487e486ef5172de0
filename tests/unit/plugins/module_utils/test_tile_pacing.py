# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
from collections import deque

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_pacing import Pacer, retry_after_s


def simulate(
    permitted_per_s: float, *, seconds: float, limit: float | None, latency_s: float = 0.02
) -> tuple[float, float]:
    """Against a server with a token bucket, 16 connections: share of the permitted rate reached, share refused."""
    rng = random.Random(1)
    pacer = Pacer(limit, now_s=0.0)
    now_s, filled_s, tokens = 0.0, 0.0, permitted_per_s
    busy: deque[float] = deque()
    served = refused = 0
    answers: list[tuple[float, bool]] = []
    while now_s < seconds:
        for due_s, ok in [item for item in answers if item[0] <= now_s]:
            answers.remove((due_s, ok))
            busy.popleft()
            if ok:
                pacer.accept()
            else:
                pacer.refuse(now_s)
        while len(busy) < 16 and pacer.wait_s(now_s) == 0.0:
            tokens = min(permitted_per_s, tokens + (now_s - filled_s) * permitted_per_s)
            filled_s = now_s
            ok = tokens >= 1.0
            tokens -= ok
            served += ok
            refused += not ok
            busy.append(now_s)
            answers.append((now_s + latency_s * rng.uniform(0.8, 1.2), ok))
        now_s += 0.002
    return served / (permitted_per_s * seconds), refused / (served + refused)


@pytest.mark.parametrize("permitted_per_s", [20.0, 100.0, 300.0])
def test_most_of_the_permitted_rate_is_reached_with_few_refusals(permitted_per_s: float) -> None:
    reached, refused = simulate(permitted_per_s, seconds=60.0, limit=None)
    assert reached >= 0.85
    assert refused <= 0.06


def test_the_profile_rate_is_never_exceeded() -> None:
    reached, refused = simulate(100.0, seconds=20.0, limit=50.0)
    assert reached == pytest.approx(0.5, abs=0.01)
    assert refused == 0.0


def test_without_a_rate_nothing_waits_until_the_first_refusal() -> None:
    pacer = Pacer(None, now_s=0.0)
    assert [pacer.wait_s(index / 100) for index in range(100)] == [0.0] * 100
    for _answer in range(100):
        pacer.accept()
    pacer.refuse(1.0)
    assert pacer.rate_per_s == pytest.approx(25.0)
    assert pacer.wait_s(1.0) > 0
    pacer.refuse(1.1)
    assert pacer.rate_per_s == pytest.approx(25.0)
    assert pacer.refused == 2


def test_a_refusal_as_the_very_first_answer_does_not_put_it_to_sleep() -> None:
    pacer = Pacer(None, now_s=0.0)
    pacer.refuse(0.01)
    assert pacer.rate_per_s == 20.0
    assert pacer.wait_s(1.0) == 0.0


def test_refusals_never_stop_it_for_good() -> None:
    pacer = Pacer(5.0, now_s=0.0)
    for second in range(1, 100):
        pacer.refuse(float(second))
    assert pacer.rate_per_s is not None
    assert pacer.rate_per_s >= 0.2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0),
        ("0", 0.0),
        ("1000000000", 60.0),
        ("9" * 5000, 60.0),
        ("Thu, 01 Jan 1970 00:01:30 GMT", 30.0),
        ("Wed, 21 Oct 1969 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 60.0),
        ("soon", None),
        ("²", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_and_capped(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, cap_s=60.0, now_epoch_s=60.0) == seconds
