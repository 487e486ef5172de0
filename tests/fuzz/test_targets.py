# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every reader of bytes from outside refuses what is broken by an error of the tree, in bounded time."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

from targets import TARGETS, Target

PIECES = [
    b"{",
    b"}",
    b"[" * 100,
    b'"',
    b"\0",
    b"\xff",
    b"-1",
    b"1e999",
    b"NaN",
    b"\n",
    b"\x1b[",
    b"<",
    b"&a;",
    b"9" * 40,
]


@st.composite
def broken(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """A sample with some of its bytes changed, doubled, removed, or replaced by something troublesome."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _change in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        how = draw(st.sampled_from(["replace", "double", "cut", "flip"]))
        if how == "replace":
            data[start:end] = draw(st.sampled_from(PIECES) | st.binary(max_size=12))
        elif how == "double":
            data[start:start] = data[start:end]
        elif how == "cut":
            del data[start:end]
        elif start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_is_read_or_refused(name: str) -> None:
    target = TARGETS[name]
    samples = target.samples()

    @settings(max_examples=120, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=200) | broken(samples))
    def check(data: bytes) -> None:
        target(data)

    check()


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - {"signature", "tile"}))
def test_a_target_reads_at_least_one_of_its_samples_to_the_end(name: str) -> None:
    """Else its mutations would all end at the first check."""
    target, good = TARGETS[name], 0
    for sample in target.samples():
        with suppress(CacheBuildError):
            target.read(sample)
            good += 1
    assert good


def test_a_reader_that_raises_anything_else_is_convicted() -> None:
    for careless in (lambda data: data.decode("ascii"), lambda data: data[3]):
        with pytest.raises((UnicodeDecodeError, IndexError)):
            Target(careless, list)(b"\xff")
