# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of the link, as a typed error: not trusted, not let in, not there, broken, or too slow."""

from __future__ import annotations

import re
from typing import Optional

from ._errors import (
    CacheBuildError,
    CompanionNotReadyError,
    CompanionNotTrustedError,
    CompanionUnreachableError,
    FailurePhase,
    SyncError,
)

__all__ = ["link_broke", "link_error", "took_too_long"]

NOT_TRUSTED = re.compile(
    r"host key verification failed|identification has changed|host key is known|revoked host key", re.IGNORECASE
)
REFUSED = re.compile(r"permission denied|authentication failed|too many authentication failures", re.IGNORECASE)
ANSIBLES = re.compile(
    r"^(Failed to connect to the host via ssh|Data could not be sent to remote host \S+ Make sure this host can be "
    r"reached over ssh)[:.]\s*",
    re.IGNORECASE,
)
"""What Ansible puts before ssh's own words, of which there may be none."""
FINGERPRINT = re.compile(r"(SHA256:[A-Za-z0-9+/=]{20,})")


def link_error(
    host: str, text: str, *, phase: Optional[FailurePhase] = FailurePhase.COMPANION_BRINGUP
) -> CacheBuildError:
    """The error for a connection that failed; ssh's own text is data, and only its last line is shown."""
    lines = [line for line in (ANSIBLES.sub("", line).strip() for line in text.splitlines()) if line]
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


def link_broke(doing: str, words: str) -> CompanionUnreachableError:
    """The error for a transfer that ended before all had arrived.

    Args:
        doing: what was under way.
        words: what the program that carried it said of it.
    """
    plain = re.sub(r"[^\x20-\x7e]", " ", words.strip())[-300:] or "no word from ssh"
    return CompanionUnreachableError(
        f"the link broke while {doing}: {plain}",
        phase=FailurePhase.SYNC,
        remediation="Check power, cable and address of the companion, then run again: what has arrived is kept.",
    )


def took_too_long(doing: str, deadline_s: float) -> SyncError:
    """The error for a transfer that was ended at its deadline."""
    return SyncError(
        f"{doing} took longer than {deadline_s:.0f} s",
        remediation="Use a faster link or raise sync_timeout_s, then run again: what has arrived is kept.",
    )
