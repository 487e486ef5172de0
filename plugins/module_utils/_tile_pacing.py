# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How fast to ask a provider: a token bucket whose rate gives way to 429 and 503 and feels its way back."""

from __future__ import annotations

import email.utils
from typing import Optional

__all__ = ["Pacer", "retry_after_s"]

DECREASE = 0.8
DECREASE_INTERVAL_S = 0.3
SETTLED_S = 1.0
FIRST_SHARE = 0.25
FIRST_RATE_PER_S = 20.0
"""A refusal among the very first answers says little about the rate: begin from here, slow but not asleep."""
MIN_RATE_PER_S = 0.2
BURST_S = 0.05


class Pacer:
    """Says when the next request may leave.

    Additive increase, multiplicative decrease (Chiu and Jain, 1989): each refusal, at most one in 0.3 s, takes the
    rate to 0.8 of itself; each second without one gives back a share of the permitted rate. Near the rate that was
    last refused the way back is slower, so that few requests are spent on finding the same wall again.

    Args:
        rate_per_s: the profile's rate, never exceeded; None for "as the connections go" until a first refusal.
        now_s: the monotonic time.
    """

    def __init__(self, rate_per_s: Optional[float], *, now_s: float) -> None:
        self._limit = rate_per_s
        self._rate = rate_per_s
        self._wall: Optional[float] = None
        self._tokens = 1.0
        self._filled_s = now_s
        self._started_s = now_s
        self._decreased_s = float("-inf")
        self._accepted = 0
        self._settled = True
        self.refused = 0

    @property
    def rate_per_s(self) -> Optional[float]:
        """The rate in force, None where none is."""
        return self._rate

    def wait_s(self, now_s: float) -> float:
        """Seconds until a request may leave; 0 takes the permission."""
        if self._rate is None:
            return 0.0
        self._fill(now_s)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def accept(self) -> None:
        """The provider gave a proper answer."""
        self._accepted += 1

    def refuse(self, now_s: float) -> None:
        """The provider answered 429 or 503."""
        self.refused += 1
        since_s = now_s - self._decreased_s
        if since_s < DECREASE_INTERVAL_S:
            return
        self._decreased_s = now_s
        # Fresh from a burst the rate is still far off, and is halved until the refusals pause.
        self._settled = self._settled or since_s > SETTLED_S or 0.0 < (self._rate or 0.0) <= FIRST_RATE_PER_S
        if self._rate is None:
            # Until now the server gave from its burst: its lasting rate is far below, and soon found from there.
            served_per_s = self._accepted / max(0.05, now_s - self._started_s)
            self._wall = max(2 * FIRST_RATE_PER_S, served_per_s)
            self._rate = max(FIRST_RATE_PER_S, served_per_s * FIRST_SHARE)
            self._filled_s = now_s
            self._tokens = 0.0
            self._settled = False
            return
        self._fill(now_s)
        self._wall = self._rate
        self._rate = max(MIN_RATE_PER_S, self._rate * (DECREASE if self._settled else 0.5))
        self._tokens = min(self._tokens, 0.0)

    def _fill(self, now_s: float) -> None:
        elapsed_s = max(0.0, now_s - self._filled_s)
        self._filled_s = now_s
        if self._rate is None:
            return
        self._tokens = min(max(1.0, self._rate * BURST_S), self._tokens + elapsed_s * self._rate)
        if self._rate != self._limit and now_s - self._decreased_s > DECREASE_INTERVAL_S:
            share = self._rate / self._wall if self._wall else 1.0
            self._rate += elapsed_s * self._rate * (0.6 if share < 0.5 else 0.15 if share < 0.95 else 0.02)
        if self._limit is not None:
            self._rate = min(self._rate, self._limit)


def retry_after_s(value: Optional[str], *, cap_s: float, now_epoch_s: float) -> Optional[float]:
    """Seconds that `Retry-After` asks for (RFC 9110: seconds or a date), capped; None where it says nothing."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(cap_s, float(text[:12]))
    try:
        due = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    try:
        return min(cap_s, max(0.0, due.timestamp() - now_epoch_s))
    except (OverflowError, ValueError, OSError):
        return None
