# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The folder on this workstation that every command works in, and the place of the report."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError

__all__ = ["check_report_place", "staging_root"]


def staging_root(config: PreflightConfig) -> Path:
    """The staging root, made for this user alone where it is missing.

    Raises:
        SettingsError: it cannot be made, or this user may not write to it.
    """
    root = Path(config.cache_staging_root).absolute()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(root, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as exc:
        raise SettingsError(
            f"the staging root {root} cannot be used: {exc.strerror}",
            remediation="Choose a folder that you may write to: --staging-root, or cache_staging_root in the settings.",
        ) from None
    return root


def check_report_place(config: PreflightConfig) -> None:
    """Find out before hours of work whether the report can be written where the settings want it.

    Raises:
        SettingsError: its folder cannot be made or written to, or it is a folder itself.
    """
    if not config.report:
        return
    path = Path(config.report).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as exc:
        raise SettingsError(
            f"the report cannot be written to {path}: {exc.strerror}",
            remediation="Choose another --report path; nothing was done yet.",
        ) from None
