# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a cache is refused: the closed list of reason codes. Runs on the companion: standard library only, Python 3.8."""

from __future__ import annotations

import enum
from typing import Any

from ._errors import CacheActivateError, CacheVerifyError

__all__ = ["Reason", "reason_of", "refuse", "refuse_activation"]


class Reason(str, enum.Enum):
    """One code for each thing a person can act on; docs/how-to/verify-at-take-off.md lists them all."""

    # the cache as a whole
    NO_CACHE = "no-cache"
    CURRENT_INVALID = "current-invalid"
    CONTENT_ID_MISMATCH = "content-id-mismatch"
    # the manifest
    MANIFEST_MISSING = "manifest-missing"
    MANIFEST_TOO_LARGE = "manifest-too-large"
    MANIFEST_MALFORMED = "manifest-malformed"
    MANIFEST_PATH = "manifest-path"
    MANIFEST_DUPLICATE = "manifest-duplicate"
    MANIFEST_ORDER = "manifest-order"
    # the files
    FILE_MISSING = "file-missing"
    FILE_EXTRA = "file-extra"
    FILE_SIZE = "file-size"
    FILE_CONTENT = "file-content"
    FILE_SYMLINK = "file-symlink"
    FILE_HARDLINK = "file-hardlink"
    FILE_SPECIAL = "file-special"
    FILE_NAME = "file-name"
    FILE_UNREADABLE = "file-unreadable"
    FILE_CHANGED = "file-changed-while-read"
    FILE_OPEN_FOR_WRITING = "file-open-for-writing"
    # the grant
    GRANT_MISSING = "grant-missing"
    GRANT_MALFORMED = "grant-malformed"
    GRANT_CONTENT = "grant-for-other-content"
    GRANT_VEHICLE = "grant-for-other-vehicle"
    GRANT_FLIGHT = "grant-for-other-flight"
    GRANT_EXPIRED = "grant-expired"
    GRANT_NOT_YET_VALID = "grant-not-yet-valid"
    GRANT_REPLAYED = "grant-replayed"
    GRANT_UNSIGNED = "grant-unsigned"
    # the signature and the trust in it
    SIGNATURE_MALFORMED = "signature-malformed"
    SIGNATURE_INVALID = "signature-invalid"
    SIGNATURE_NAMESPACE = "signature-namespace"
    SIGNER_UNKNOWN = "signer-unknown"
    SIGNER_REVOKED = "signer-revoked"
    SIGNER_NOT_VALID_NOW = "signer-outside-validity"
    TRUST_MISSING = "trust-missing"
    TRUST_MALFORMED = "trust-malformed"
    # the moment and the mission
    CLOCK_UNTRUSTED = "clock-untrusted"
    ROUTE_UNREADABLE = "route-unreadable"
    ROUTE_UNCOVERED = "route-uncovered"
    ARCHIVE_DAMAGED = "archive-damaged"
    # the companion
    LOCK_SUPERSEDED = "lock-superseded"
    LOCK_HELD = "lock-held"
    CACHE_IN_USE = "cache-in-use"
    STORAGE = "storage-failed"
    VERIFIER_FAILED = "verifier-failed"


def refuse(reason: Reason, message: str, **details: Any) -> CacheVerifyError:
    """The verification error for a reason; `details["reason"]` carries the code."""
    return CacheVerifyError(message, details={"reason": reason.value, **details})


def refuse_activation(reason: Reason, message: str, **details: Any) -> CacheActivateError:
    """The activation error for a reason; `details["reason"]` carries the code."""
    return CacheActivateError(message, details={"reason": reason.value, **details})


def reason_of(error: BaseException) -> Reason:
    """The code that an error carries; `verifier-failed` where it carries none."""
    found = getattr(error, "details", {}).get("reason")
    try:
        return Reason(found)
    except ValueError:
        return Reason.VERIFIER_FAILED
