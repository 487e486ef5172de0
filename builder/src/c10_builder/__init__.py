# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Builds and searches a visual place index of a map. ``open_index(path).query(image, …)`` is the airborne side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from ._index import Index, Match, Near, open_index

__all__ = ["Index", "Match", "Near", "__version__", "open_index"]


def __getattr__(name: str) -> Any:
    # numpy is imported only by those who search, so that ``--help`` and a failure report never wait for it.
    if name in ("Index", "Match", "Near", "open_index"):
        from . import _index

        return getattr(_index, name)
    raise AttributeError(name)
