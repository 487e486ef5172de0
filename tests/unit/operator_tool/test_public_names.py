# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""The public surface of the driver: every name is there, for programs and for type checkers alike."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import operator_tool


@pytest.mark.parametrize("name", operator_tool.__all__)
def test_a_public_name_loads(name: str) -> None:
    assert getattr(operator_tool, name).__name__ == name if name != "FlightSource" else operator_tool.FlightSource


def test_a_name_that_is_not_public_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'operator_tool' has no attribute 'nonsense'"):
        operator_tool.nonsense  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(operator_tool.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(seen) == sorted(operator_tool.__all__)


def test_the_import_loads_nothing_heavy() -> None:
    code = "import sys, operator_tool; print(sorted(HEAVY & set(sys.modules)))"
    code = code.replace("HEAVY", "{'ansible', 'ansible_runner', 'httpx', 'numpy', 'pydantic', 'rich'}")
    path = f"import sys; sys.path[:0] = {sys.path!r}; "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
