# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Building, finding again, and refusing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
from c10_builder import open_index
from c10_builder._errors import EXIT_CODES, BuilderError
from c10_builder._geo import WORLD_M, mercator_of
from c10_builder._index import Near, verify_files
from PIL import Image
from support import COLUMNS, ROWS, X0, Y0, ZOOM, corner, jpeg, request, run_build, tiles_of, tree, write_archive

Map = Tuple[Any, Path, str]
Built = Tuple[Path, Dict[str, Any]]


def test_report_of_a_build(built: Built) -> None:
    _folder, report = built
    assert (report["outcome"], report["failure"]) == ("success", None)
    assert (report["run_id"], report["nonce"], report["flight_id"]) == ("run-1", "nonce-1", "flight-1")
    assert report["coverage"]["covered_ratio"] == 1.0 and report["coverage"]["takeoff_covered"] is True
    assert report["windows"]["described"] + report["windows"]["excluded"] == report["windows"]["planned"] > 100
    assert report["quality"]["self_r1"] >= 0.9
    assert report["artifacts"]["files"] == 11
    assert report["quality"]["hard_r1"] > 0.5


def test_a_camera_picture_is_found(the_map: Map, built: Built) -> None:
    index = open_index(built[0] / "index", verify=True)
    image = Image.fromarray(the_map[0])
    unit = WORLD_M / (1 << ZOOM)
    for x_tiles, y_tiles, heading in ((1.6, 1.4, 0.0), (2.9, 2.1, 70.0), (3.2, 1.8, -130.0)):
        # what a camera on this heading sees: the map turned counter-clockwise by the heading, cut around the place
        side = int(index.sides_m[1] / index.meta["scales"][1]["gsd_m"])
        reach = side
        cx, cy = x_tiles * 256, y_tiles * 256
        part = image.crop((int(cx) - reach, int(cy) - reach, int(cx) + reach, int(cy) + reach)).rotate(
            heading, resample=2
        )
        photo = part.crop((reach - side // 2, reach - 3 * side // 8, reach + side // 2, reach + 3 * side // 8))
        matches = index.query(photo, heading_deg=heading, agl_m=100)
        mx, my = mercator_of(lon_deg=matches[0].lon_deg, lat_deg=matches[0].lat_deg)
        away_tiles = max(abs(mx / unit - X0 - x_tiles), abs(my / unit - Y0 - y_tiles))
        assert away_tiles * 256 < side / 2, (x_tiles, heading, matches[:2])


def test_a_prior_searches_only_there(built: Built) -> None:
    index = open_index(built[0] / "index")
    lon, lat = corner(1.5, 1.5)
    raw = index.head().describe(__import__("numpy").full((1, 224, 224, 3), 90, dtype="uint8"))[0]
    raw[0] = 1
    near = index.search(raw, near=Near(lat_deg=lat, lon_deg=lon, radius_m=60), top=500)
    everything = {m.row: m.score for m in index.search(raw, top=len(index))}
    assert 0 < len(near) < len(index) == len(everything)
    assert all(everything[m.row] == pytest.approx(m.score, abs=1e-6) for m in near)


def test_the_same_request_gives_the_same_bytes(the_map: Map, built: Built, tmp_path: Path) -> None:
    code, report, _text = run_build(tmp_path, request(tmp_path, the_map[1], the_map[2]))
    assert code == 0
    assert tree(tmp_path / "index") == tree(built[0] / "index")
    assert report["package_id"] == built[1]["package_id"]


def test_again_is_a_no_op(the_map: Map, built: Built, tmp_path: Path) -> None:
    shutil.copytree(str(built[0] / "index"), str(tmp_path / "index"))
    code, report, _text = run_build(tmp_path, request(tmp_path, the_map[1], the_map[2]))
    assert (code, report["outcome"]) == (0, "idempotent_no_op")
    previous = request(
        tmp_path, the_map[1], the_map[2], output_dir=str(tmp_path / "new"), previous_index_dir=str(built[0] / "index")
    )
    code, report, _text = run_build(tmp_path, previous)
    assert (code, report["outcome"]) == (0, "idempotent_no_op")
    assert tree(tmp_path / "new") == tree(built[0] / "index")


def test_another_flight_over_the_same_ground_is_bound_anew(the_map: Map, built: Built, tmp_path: Path) -> None:
    data = request(tmp_path, the_map[1], the_map[2], flight_id="flight-2", previous_index_dir=str(built[0] / "index"))
    code, report, _text = run_build(tmp_path, data)
    assert (code, report["outcome"], report["rebind_only"]) == (0, "success", True)
    assert report["content_id"] == built[1]["content_id"] and report["package_id"] != built[1]["package_id"]
    clean = dict(data, previous_index_dir=None, output_dir=str(tmp_path / "clean"))
    assert run_build(tmp_path, clean)[0] == 0
    assert tree(tmp_path / "clean") == tree(tmp_path / "index")


def test_a_touched_file_is_noticed(built: Built, tmp_path: Path) -> None:
    shutil.copytree(str(built[0] / "index"), str(tmp_path / "index"))
    rows = tmp_path / "index" / "rows.npy"
    data = bytearray(rows.read_bytes())
    data[-1] ^= 1
    rows.write_bytes(bytes(data))
    with pytest.raises(BuilderError, match=r"rows\.npy differs from its hash"):
        verify_files(tmp_path / "index")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"archive_sha256": "0" * 64}, "archive_hash_mismatch", "not the one the request names"),
        ({"archive_path": "/nonexistent"}, "archive_missing", "cannot be opened"),
        ({"camera": {"hfov_deg": 65, "agl_m": "high", "width_px": 9, "height_px": 9}}, "bad_request", "agl_m"),
        ({"area": {"kind": "bbox", "bbox": [0, 0, 0, 0]}}, "bad_request", "bbox is empty"),
        ({"settings": {"thread": 1}}, "bad_request", "not a setting"),
        ({"model": {"id": "no-such"}}, "bad_request", "is not known"),
        ({"settings": {"max_windows": 5}}, "area_too_large", "more windows"),
        ({"area": {"kind": "bbox", "bbox": [10, 10, 10.01, 10.01]}}, "nothing_to_describe", "no readable tile"),
        ({"takeoff_origin": {"lat_deg": 1, "lon_deg": 1, "alt_m": 0}}, "takeoff_not_covered", "no readable imagery"),
    ],
)
def test_bad_requests_are_refused(the_map: Map, tmp_path: Path, change: Dict[str, Any], code: str, words: str) -> None:
    exit_code, report, text = run_build(tmp_path, request(tmp_path, the_map[1], the_map[2], **change))
    assert report["failure"]["code"] == code and words in report["failure"]["message"]
    assert exit_code == EXIT_CODES[code]
    assert "Traceback" not in text
    assert not (tmp_path / "index").exists() and report["run_id"] == "run-1"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": 2}', "[" * 100000])
def test_requests_that_are_no_requests(tmp_path: Path, text: str) -> None:
    exit_code, report, _text = run_build(tmp_path, text)
    assert (exit_code, report["failure"]["code"]) == (2, "bad_request")


def test_bad_tiles_are_verdicts(the_map: Map, tmp_path: Path) -> None:
    tiles = tiles_of(the_map[0])
    keys = sorted(tiles)
    tiles[keys[0]] = b"not an image"
    tiles[keys[1]] = tiles[keys[1]][:200]
    tiles[keys[2]] = jpeg(the_map[0][:100, :100])
    del tiles[keys[3]]
    sha256 = write_archive(tmp_path / "t.pmtiles", tiles)
    exit_code, report, _text = run_build(tmp_path, request(tmp_path, tmp_path / "t.pmtiles", sha256))
    assert (exit_code, report["failure"]["code"]) == (3, "tiles_corrupt")
    data = request(tmp_path, tmp_path / "t.pmtiles", sha256, settings={"max_corrupt_ratio": 0.5})
    exit_code, report, _text = run_build(tmp_path, data)
    assert exit_code == 0
    assert (report["tiles"]["corrupt"], report["tiles"]["missing"], report["tiles"]["ok"]) == (3, 1, COLUMNS * ROWS - 4)


def test_a_broken_archive_is_refused(the_map: Map, tmp_path: Path) -> None:
    import hashlib

    whole = the_map[1].read_bytes()
    for name, data in (("empty", b""), ("short", whole[:500]), ("noise", b"x" * 5000), ("v2", b"PM" + b"\0" * 600)):
        path = tmp_path / name
        path.write_bytes(data)
        exit_code, report, text = run_build(tmp_path, request(tmp_path, path, hashlib.sha256(data).hexdigest()))
        assert (exit_code, report["failure"]["code"]) == (3, "archive_invalid"), name
        assert "Traceback" not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_a_report(the_map: Map, tmp_path: Path, number: int) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(request(tmp_path, the_map[1], the_map[2])))
    process = subprocess.Popen(
        [sys.executable, "-m", "c10_builder", "build", "--request", str(path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b'"describe"' in line:
            process.send_signal(number)
            break
    rest = process.stdout.read().splitlines()
    process.stdout.close()
    report = json.loads(rest[-1])
    assert process.wait(timeout=30) == 5
    assert report["failure"]["code"] == "cancelled" and signal.Signals(number).name in report["failure"]["message"]
    assert not (tmp_path / "index").exists()
    assert not list(tmp_path.glob(".*partial*"))
