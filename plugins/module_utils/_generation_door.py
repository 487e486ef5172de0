# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the cache modules share: their common options, and the one way a failure leaves them.

Runs on the companion: standard library only, Python 3.8.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator

from ._errors import CacheActivateError, CacheBuildError
from ._generation_faults import Reason, refuse_activation

__all__ = ["COMMON_OPTIONS", "MOMENT_OPTION", "reported"]

COMMON_OPTIONS: Dict[str, Any] = {
    "root": {"type": "path", "default": "/var/lib/gps-denied"},
    "trust_dir": {"type": "path"},
}
MOMENT_OPTION: Dict[str, Any] = {"now_epoch_s": {"type": "float"}}


@contextlib.contextmanager
def reported(module: Any) -> Iterator[None]:
    """Turn a recognised failure of the block into the module's failed result."""
    try:
        yield
    except CacheBuildError as exc:
        error: CacheBuildError = exc
    except OSError as exc:
        error = _storage_error(exc)
    else:
        return
    module.fail_json(msg=f"{error.message}. {error.remediation}", error=error.to_dict())


def _storage_error(exc: OSError) -> CacheActivateError:
    where = f" ({exc.filename})" if exc.filename else ""
    return refuse_activation(Reason.STORAGE, f"the companion's storage refused: {exc.strerror or exc}{where}")
