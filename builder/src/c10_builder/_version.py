# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The builder's version, and the version of the code that decides what a descriptor is."""

from __future__ import annotations

__all__ = ["CODE_VERSION", "INDEX_SCHEMA", "__version__"]

__version__ = "0.1.0"
#: Part of every window's key: raise it whenever cutting or describing a window may give other bytes.
CODE_VERSION = "2"
INDEX_SCHEMA = 1
