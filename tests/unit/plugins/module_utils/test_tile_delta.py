# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deltas between archives: whatever two archives share, the new one comes out byte for byte, or not at all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import TileSourceError
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_delta import (
    apply_delta,
    body_hashes,
    body_spans,
    file_blocks,
    hash_file,
    plan_delta,
    write_proven,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_sync import ShippedArchive
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tile_archives import write_archive

BODIES = [bytes([value]) * (value % 7 + 1) for value in range(1, 41)]
archives_of_bodies = st.lists(st.sampled_from(BODIES), min_size=1, max_size=30, unique=True)


def make_delta(old: ShippedArchive, new: ShippedArchive, path: Path) -> Path:
    spans = body_spans(new.path)
    listed = body_hashes(old.path, body_spans(old.path))
    delta = plan_delta(spans, body_hashes(new.path, spans), listed, size_bytes=new.size_bytes)
    with path.open("wb") as stream:
        delta.write(new.path, stream)
    assert path.stat().st_size == delta.size_bytes
    return path


def apply(old: ShippedArchive, new: ShippedArchive, delta: Path, target: Path) -> bool:
    return apply_delta(old.path, str(delta), str(target), sha256=new.sha256, size_bytes=new.size_bytes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old_bodies=archives_of_bodies, new_bodies=archives_of_bodies)
def test_the_new_archive_comes_out_of_any_old_one(
    tmp_path: Path, old_bodies: list[bytes], new_bodies: list[bytes]
) -> None:
    old, new = write_archive(tmp_path / "old", old_bodies), write_archive(tmp_path / "new", new_bodies)
    delta = make_delta(old, new, tmp_path / "delta")
    assert apply(old, new, delta, tmp_path / "made")
    assert (tmp_path / "made").read_bytes() == (tmp_path / "new").read_bytes()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[ShippedArchive, ShippedArchive, Path]:
    """An old archive, a new one that shares most of it, and the delta."""
    old = write_archive(tmp_path / "old", BODIES)
    new = write_archive(tmp_path / "new", [*BODIES[:10], b"new", *BODIES[12:30], b"another", *BODIES[33:]])
    return old, new, make_delta(old, new, tmp_path / "delta")


def test_a_delta_is_the_same_every_time(pair: tuple[ShippedArchive, ShippedArchive, Path], tmp_path: Path) -> None:
    old, new, delta = pair
    assert make_delta(old, new, tmp_path / "again").read_bytes() == delta.read_bytes()


def test_no_damage_gives_an_archive(pair: tuple[ShippedArchive, ShippedArchive, Path], tmp_path: Path) -> None:
    """Every byte of the delta changed, the delta cut anywhere, bytes of the base changed: no archive, and no error."""
    old, new, delta = pair
    target = tmp_path / "made"
    good, base = delta.read_bytes(), Path(old.path).read_bytes()
    for place in range(len(good)):
        delta.write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        assert not apply(old, new, delta, target), place
    for size in range(0, len(good), 7):
        delta.write_bytes(good[:size])
        assert not apply(old, new, delta, target), size
    delta.write_bytes(good)
    spans = [
        (offset, length)
        for offset, length in body_spans(old.path)
        if base[offset : offset + length] in (BODIES[0], BODIES[39])
    ]
    for offset, _length in spans:
        Path(old.path).write_bytes(base[:offset] + b"\0" + base[offset + 1 :])
        assert not apply(old, new, delta, target), offset
    Path(old.path).write_bytes(base)
    assert list(tmp_path.glob(".part-*")) == []
    assert not target.exists()
    assert apply(old, new, delta, target)


def test_what_stood_there_stays_until_the_new_one_is_proven(
    pair: tuple[ShippedArchive, ShippedArchive, Path], tmp_path: Path
) -> None:
    old, new, delta = pair
    target = tmp_path / "made"
    target.write_bytes(b"what was there")
    assert not apply_delta(old.path, str(delta), str(target), sha256="0" * 64, size_bytes=new.size_bytes)
    assert target.read_bytes() == b"what was there"


def test_a_storage_error_is_no_archive(tmp_path: Path) -> None:
    source = write_archive(tmp_path / "old", BODIES)
    with pytest.raises(FileNotFoundError):
        write_proven(str(tmp_path / "missing" / "target"), file_blocks(source.path), sha256=source.sha256)


@pytest.mark.parametrize("content", [b"", b"PMTiles", random.Random(1).randbytes(500)])
def test_a_base_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "old"
    path.write_bytes(content)
    with pytest.raises(TileSourceError):
        body_spans(str(path))


def test_hash_file_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert hash_file(str(tmp_path / "file")).startswith("ba7816bf")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="symbolic links"):
        hash_file(str(tmp_path / "link"))
