# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bounds of a download: time, size, attempts. Every one of them is enforced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

__all__ = ["DownloadLimits"]


@dataclass(frozen=True)
class DownloadLimits:
    """Defaults suit a provider on the internet.

    Attributes:
        deadline_s: the whole download.
        connect_timeout_s: until a connection stands.
        request_timeout_s: one request, from start to end.
        min_rate_bytes_s: a transfer slower than this over `min_rate_window_s` is given up.
        max_body_bytes: one body; more is refused while it is read.
        max_attempts: requests for one tile.
        max_retries: second and later requests, all tiles together.
        max_refusals: 429 and 503 answers for one tile; they do not count as attempts.
        retry_after_cap_s: a longer `Retry-After` is not waited for.
        backoff_s: first step of the exponential backoff, with full jitter.
        breaker_failures: failures in a row that open the breaker.
        breaker_probes: probes that must fail before a provider that did answer counts as down.
        stall_s: no answer at all for so long ends the download.
        refresh_after_s: tiles older than this are asked again (a 304 costs nothing); None keeps them for good.
        void_after_s: missing and placeholder tiles are asked again after this time.
        max_listed: holes listed one by one in the report.
        check_threads: threads that decode; None for as many as there are cores, at most 8.
    """

    deadline_s: float = 14_400.0
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 60.0
    min_rate_bytes_s: int = 1024
    min_rate_window_s: float = 10.0
    max_body_bytes: int = 2 * 1024 * 1024
    max_attempts: int = 4
    max_retries: int = 10_000
    max_refusals: int = 20
    retry_after_cap_s: float = 60.0
    backoff_s: float = 0.5
    breaker_failures: int = 16
    breaker_probes: int = 3
    stall_s: float = 120.0
    refresh_after_s: Optional[float] = None
    void_after_s: float = 86_400.0
    max_listed: int = 10_000
    check_threads: Optional[int] = None
