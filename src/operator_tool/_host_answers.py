# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""What it means where a playbook's host failed, or where no host answered at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    BuildCancelledError,
    CacheBuildError,
    CompanionNotReadyError,
    CompanionUnreachableError,
    SettingsError,
    error_from_dict,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._link_error import link_error

from ._runner import PlaybookResult

__all__ = ["host_error", "silence_error"]

SUDO_HINT = "Mend what is named and run again; where sudo asks for a password, give --ask-become-pass."
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
MAX_TEXT = 600


def host_error(host: str, outcome: Mapping[str, Any]) -> CacheBuildError:
    """The error of a host whose last task failed."""
    if outcome.get("unreachable"):
        return link_error(host, str(outcome.get("msg")))
    known = error_from_dict(outcome["error"]) if isinstance(outcome.get("error"), dict) else None
    if known is not None:
        return known
    said = " ".join(str(outcome.get(key) or "").strip() for key in ("msg", "module_stderr", "stderr"))
    return CompanionNotReadyError(f"{host}: {' '.join(said.split())[:900]}", remediation=SUDO_HINT)


def silence_error(result: PlaybookResult) -> CacheBuildError:
    """The error of a playbook that was ended, or that brought no answer of any host."""
    if result.cancelled:
        return BuildCancelledError("cancelled by the operator")
    if result.finished and not result.failures:
        return SettingsError(
            "the inventory has no host in the group companions, or cannot be read",
            remediation="Look at it with `ansible-inventory -i PATH --graph companions`.",
        )
    said = "; ".join(result.failures) or " ".join(list(result.tail)[-3:]) or "no companion answered"
    words = " ".join(COLOUR.sub("", said).split())[:MAX_TEXT]
    return CompanionUnreachableError(f"the playbook did not come to its end: {words}")
