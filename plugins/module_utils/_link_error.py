# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ssh said, as a typed error: not trusted, not let in, or not there."""

from __future__ import annotations

import re
from typing import Optional

from ._errors import (
    CacheBuildError,
    CompanionNotReadyError,
    CompanionNotTrustedError,
    CompanionUnreachableError,
    FailurePhase,
)

__all__ = ["link_error"]

NOT_TRUSTED = re.compile(
    r"host key verification failed|identification has changed|host key is known|revoked host key", re.IGNORECASE
)
REFUSED = re.compile(r"permission denied|authentication failed|too many authentication failures", re.IGNORECASE)
FINGERPRINT = re.compile(r"(SHA256:[A-Za-z0-9+/=]{20,})")


def link_error(
    host: str, text: str, *, phase: Optional[FailurePhase] = FailurePhase.COMPANION_BRINGUP
) -> CacheBuildError:
    """The error for a connection that failed; ssh's own text is data, and only its last line is shown."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = re.sub(r"[^\x20-\x7e]", "", lines[-1])[:300] if lines else "no word from ssh"
    if NOT_TRUSTED.search(text):
        offered = FINGERPRINT.search(text)
        seen = f" It offered {offered.group(1)}." if offered else ""
        return CompanionNotTrustedError(f"the host key of {host} is not the pinned one, or none is pinned.{seen}")
    if REFUSED.search(text):
        return CompanionNotReadyError(
            f"{host} refused the SSH login: {last}",
            phase=phase,
            remediation="Check ansible_user and the private key against the companion's authorized_keys.",
        )
    return CompanionUnreachableError(f"cannot reach {host}: {last}", phase=phase)
