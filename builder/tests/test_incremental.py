# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Clean, incremental and resumed builds give the same bytes. C10_KILL_POINTS=50 runs the long version."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from c10_builder._build import Build
from c10_builder._cache import DescriptorCache
from c10_builder._errors import BuilderError
from c10_builder._pmtiles import PmtilesReader
from c10_builder._request import BuildRequest
from c10_builder._screen import scan, screen
from c10_builder._verdicts import Verdicts
from c10_builder._voice import Voice
from support import X0, Y0, ZOOM, corner, ground, jpeg, request, tiles_of, tree, write_archive

KILL_POINTS = int(os.environ.get("C10_KILL_POINTS", "2"))


def build(data: Dict[str, Any]) -> Dict[str, Any]:
    """Build in this process."""
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        build = Build(BuildRequest.parse(data), Voice(descriptor=sink))
        try:
            return build.run()
        finally:
            build.close()
    finally:
        os.close(sink)


def small(folder: Path, archive: Path, sha256: str, name: str, cache: Path, **changes: Any) -> Dict[str, Any]:
    """A request over a part of the map that builds within about a second."""
    data = request(
        folder, archive, sha256, output_dir=str(folder / name), work_dir=str(folder / (name + "-work")),
        descriptor_cache_dir=str(cache), settings={"ladder_below": 0, "ladder_above": 0},
    )  # fmt: skip
    west, north = corner(1.1, 0.6)
    east, south = corner(3.4, 2.9)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    data["area"].update(bbox=[west, south, east, north], geojson={"type": "MultiPolygon", "coordinates": [[ring]]})
    data.update(changes)
    return data


def test_one_changed_tile_redescribes_only_its_windows(tmp_path: Path) -> None:
    image = ground()
    tiles = tiles_of(image)
    first = write_archive(tmp_path / "a.pmtiles", tiles)
    cache = tmp_path / "cache"
    before = build(small(tmp_path, tmp_path / "a.pmtiles", first, "a", cache))
    assert before["windows"]["reused"] == 0
    key = (ZOOM, X0 + 1, Y0)
    tiles[key] = jpeg(np.rot90(image[:256, 256:512]).copy())
    second = write_archive(tmp_path / "b.pmtiles", tiles)
    after = build(small(tmp_path, tmp_path / "b.pmtiles", second, "b", cache))
    clean = build(small(tmp_path, tmp_path / "b.pmtiles", second, "c", tmp_path / "other"))
    assert 0 < after["windows"]["described"] < 0.5 * clean["windows"]["described"]
    assert tree(tmp_path / "b") == tree(tmp_path / "c")
    assert after["content_id"] == clean["content_id"] != before["content_id"]


@pytest.mark.parametrize("point", range(KILL_POINTS))
def test_killed_and_resumed_gives_the_same_bytes(point: int, tmp_path: Path, the_map: Any) -> None:
    rng = random.Random(point)
    data = small(tmp_path, the_map[1], the_map[2], "index", tmp_path / "cache")
    path = tmp_path / "request.json"
    path.write_text(json.dumps(data))
    command = [sys.executable, "-m", "c10_builder", "build", "--request", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    stop_at = rng.randint(6, 15)
    for number, _line in enumerate(process.stdout):
        if number == stop_at:
            process.send_signal(signal.SIGKILL)
    process.stdout.close()
    process.wait(timeout=60)
    # the page cache may lose a tail that the kill alone did not
    for left in (tmp_path / "cache").glob("*.desc"):
        os.truncate(str(left), rng.randint(0, left.stat().st_size))
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=120, check=False)
    report = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, report["outcome"] in ("success", "idempotent_no_op")) == (0, True), report["failure"]
    clean = small(tmp_path, the_map[1], the_map[2], "clean", tmp_path / "clean-cache")
    path.write_text(json.dumps(clean))
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=120, check=False).returncode == 0
    assert tree(tmp_path / "index") == tree(tmp_path / "clean")
    assert not list(tmp_path.glob(".*partial*"))


def _fill(folder: Path, count: int) -> Path:
    cache = DescriptorCache(folder, model_sha256="ab" * 32, dim=3)
    for k in range(count):
        cache.add([(bytes([k]) * 32, 0.5, np.full(3, k, dtype=np.float32))])
    cache.close()
    return next(folder.glob("*.desc"))


def test_a_cache_cut_or_damaged_anywhere_gives_only_true_records(tmp_path: Path) -> None:
    path = _fill(tmp_path, 12)
    whole = path.read_bytes()
    rng = random.Random(1)
    for trial in range(60):
        damaged = bytearray(whole[: rng.randint(0, len(whole))])
        if trial % 2 and damaged:
            damaged[rng.randrange(len(damaged))] ^= 0x40
        path.write_bytes(bytes(damaged))
        cache = DescriptorCache(tmp_path, model_sha256="ab" * 32, dim=3)
        for k in range(12):
            if bytes([k]) * 32 in cache:
                row, share = cache.get(bytes([k]) * 32)
                assert (list(row), share) == ([k] * 3, 0.5)
        cache.add([(b"n" * 32, 0.25, np.ones(3, dtype=np.float32))])
        cache.close()
        again = DescriptorCache(tmp_path, model_sha256="ab" * 32, dim=3)
        assert list(again.get(b"n" * 32)[0]) == [1, 1, 1]
        again.close()


def test_two_builds_do_not_write_one_cache(tmp_path: Path) -> None:
    held = DescriptorCache(tmp_path, model_sha256="ab" * 32, dim=3)
    with pytest.raises(BuilderError, match="another build is writing"):
        DescriptorCache(tmp_path, model_sha256="ab" * 32, dim=3)
    held.close()


def test_verdicts_are_kept_and_a_damaged_file_is_none(tmp_path: Path, the_map: Any) -> None:
    def known(**changes: str) -> Verdicts:
        return Verdicts(tmp_path / "cache", **dict({"key": "k", "archive_sha256": the_map[2]}, **changes))

    with PmtilesReader(the_map[1]) as archive:
        first = known()
        tiles = scan(archive, hashes=first.hashes, progress=lambda *_: None)
        screened = screen(archive, tiles, known=first.verdicts, progress=lambda *_: None)
        first.save()
        again = known()
        assert (again.hashes, again.verdicts) == (first.hashes, first.verdicts)
        assert len(again.verdicts) == len(set(again.hashes.values())) > 0
        assert screen(archive, tiles, known=again.verdicts, progress=lambda *_: None) == screened
    assert not known(archive_sha256="0" * 64).hashes
    assert known(archive_sha256="0" * 64).verdicts == first.verdicts
    assert not known(key="another decoder").verdicts
    path = tmp_path / "cache" / "verdicts.json"
    whole = path.read_bytes()
    for damaged in (whole.replace(b'"ok:', b'"xx:', 1), whole[:-9], b"", b"\n", b"[" * 100_000):
        path.write_bytes(damaged)
        assert not known().verdicts
