# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress records in words."""

from __future__ import annotations

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._progress import describe


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"phase": "download", "done": 3, "total": 8, "unit": "tiles"}, "download: 3/8 tiles"),
        ({"phase": "download", "done": 3, "total": None, "unit": None}, "download: 3"),
        (
            {
                "phase": "sync",
                "host": "v1",
                "done": 1_250_000,
                "total": 3e8,
                "unit": "bytes",
                "text": "5.0MB/s, 0:01 left",
            },
            "[v1] sync: 1.2/300.0 MB 5.0MB/s, 0:01 left",
        ),
        ({"phase": "sync", "done": 2_000_000, "total": None, "unit": "bytes"}, "sync: 2.0 MB"),
        ({"phase": "build", "step": "describe", "done": None, "text": "hello"}, "build (describe): hello"),
        ({"phase": None}, ""),
    ],
)
def test_describe(record: dict[str, object], words: str) -> None:
    assert describe(record) == words
