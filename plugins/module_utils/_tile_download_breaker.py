# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The breaker: a provider that is down, keeps refusing or answers nonsense ends the download soon."""

from __future__ import annotations

from ._errors import DownloadError, TileSourceError
from ._tile_download_limits import DownloadLimits

__all__ = ["Breaker"]

FIRST_FAILURES = 4
"""A provider that has never answered counts as down after so many failures in a row."""


class Breaker:
    """Counts failures in a row. Enough of them open it; after each pause one request probes, until one succeeds.

    Args:
        host: named in errors.
        source_id: likewise.
        limits: how many failures and probes.
    """

    def __init__(self, host: str, source_id: str, limits: DownloadLimits) -> None:
        self._host, self._source_id, self._limits = host, source_id, limits
        self._in_a_row = 0
        self._probes_failed = 0
        self._probing = False
        self._useless = 0
        self.has_answered = False
        self.last_reason = ""
        self.open_until_s = 0.0

    def launched(self) -> None:
        """A request leaves; while the breaker is open, it is a probe."""
        self._probing = bool(self.open_until_s)

    def healthy(self) -> None:
        """The provider gave a proper answer."""
        self._in_a_row = 0
        self._probes_failed = 0
        self.open_until_s = 0.0
        self.has_answered = True

    def forbidden(self) -> None:
        """It answered 403.

        Raises:
            TileSourceError: so many times in a row that it is not this tile.
        """
        self._in_a_row += 1
        if self._in_a_row >= self._limits.breaker_failures:
            raise TileSourceError(
                f"{self._host} refuses tile source {self._source_id} (HTTP 403, {self._in_a_row} times in a row)",
                remediation="Check the API key, the quota and the terms of the provider.",
            )

    def failed(self, reason: str, now_s: float) -> None:
        """A request failed.

        Raises:
            DownloadError: the probes failed too.
        """
        self._in_a_row += 1
        self.last_reason = reason
        limits = self._limits
        if self._probing:
            self._probing = False
            self._probes_failed += 1
        elif self.open_until_s or self._in_a_row < (limits.breaker_failures if self.has_answered else FIRST_FAILURES):
            return
        if self._probes_failed >= (limits.breaker_probes if self.has_answered else min(2, limits.breaker_probes)):
            raise DownloadError(
                f"{self._host} does not answer: {self._in_a_row} requests in a row failed ({reason})",
                remediation="Check the network and the tile source, then run again: what was downloaded is kept.",
            )
        self.open_until_s = now_s + limits.backoff_s * 2**self._probes_failed

    def useless(self, reason: str) -> None:
        """An answer that looked well was none (a login page, say).

        Raises:
            DownloadError: a row of these.
        """
        self._useless += 1
        if self._useless >= self._limits.breaker_failures:
            raise DownloadError(
                f"{self._host} answers {reason.replace('_', ' ')}, {self._useless} times in a row",
                remediation="A captive portal or an expired plan answers so: open the provider's page in a browser.",
            )

    def useful(self) -> None:
        """An answer was good."""
        self._useless = 0
