# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program for the companion, as one text out of the files that it is written in."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

__all__ = ["job_source"]

_PARTS = ("_job_folder", "_job_processes", "_job_launch", "_job_supervisor", "_job_poll", "_job_program")
"""In this order, so that every name is there before it is used."""


@functools.lru_cache(maxsize=1)
def job_source() -> bytes:
    """The parts one after the other, without their imports of each other, which have become one name space."""
    texts = ["from __future__ import annotations\n"]
    for name in _PARTS:
        text = Path(__file__).with_name(name + ".py").read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and (node.level > 0 or node.module == "__future__"):
                for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                    lines[number] = ""
        texts.append("".join(lines))
    return "\n\n".join(texts).encode()
