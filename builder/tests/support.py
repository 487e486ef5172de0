# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""A synthetic map, and requests over it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np
import pytest
from c10_builder._geo import WORLD_M, lonlat_of
from c10_builder._pmtiles import tile_id_of
from PIL import Image, ImageDraw

ZOOM, X0, Y0, COLUMNS, ROWS = 18, 137000, 90000, 5, 4


def ground(columns: int = COLUMNS, rows: int = ROWS, seed: int = 3) -> Any:
    """Fields, paths and trees, drawn from a seed."""
    rng = np.random.RandomState(seed)
    height, width = rows * 256, columns * 256
    image = np.zeros((height, width, 3), dtype=np.float32)
    for octave in (4, 16, 64):
        coarse = rng.rand(height // octave + 2, width // octave + 2, 3)
        up = np.asarray(Image.fromarray((coarse * 255).astype(np.uint8)).resize((width, height), Image.BICUBIC))
        image += up.astype(np.float32) * (octave / 84.0)
    canvas = Image.fromarray(np.clip(image, 12, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for _index in range(70 * columns * rows):
        centre, reach = rng.rand(2) * (width, height), rng.randint(4, 22)
        angles = np.sort(rng.rand(rng.randint(3, 7)) * 2 * np.pi)
        shape = [(centre[0] + reach * np.cos(a), centre[1] + reach * np.sin(a)) for a in angles]
        pen.polygon(shape, fill=tuple(int(v) for v in rng.randint(15, 255, 3)))
    return np.asarray(canvas)


def jpeg(pixels: Any) -> bytes:
    """A tile's bytes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def tiles_of(image: Any) -> Dict[Tuple[int, int, int], bytes]:
    """The image cut into tiles from (X0, Y0)."""
    rows, columns = image.shape[0] // 256, image.shape[1] // 256
    return {
        (ZOOM, X0 + x, Y0 + y): jpeg(image[y * 256 : y * 256 + 256, x * 256 : x * 256 + 256])
        for x in range(columns)
        for y in range(rows)
    }


def _varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def write_archive(path: Path, tiles: Dict[Tuple[int, int, int], bytes]) -> str:
    """A PMTiles archive with one directory; returns its sha256."""
    ids = sorted((tile_id_of(*key), data) for key, data in tiles.items())
    body, lengths, offsets, seen = bytearray(), [], [], {}
    for _tile_id, data in ids:
        if data not in seen:
            seen[data] = len(body)
            body += data
        offsets.append(seen[data])
        lengths.append(len(data))
    directory, last = _varint(len(ids)), 0
    for tile_id, _data in ids:
        directory += _varint(tile_id - last)
        last = tile_id
    directory += b"".join(_varint(1) for _ in ids) + b"".join(map(_varint, lengths))
    directory += b"".join(_varint(offset + 1) for offset in offsets)
    root, meta = gzip.compress(directory, mtime=0), gzip.compress(b"{}", mtime=0)
    zooms = [key[0] for key in tiles] or [0]
    header = struct.pack(
        "<7sBQQQQQQQQQQQBBBBBBiiiiBii", b"PMTiles", 3, 127, len(root), 127 + len(root), len(meta),
        127 + len(root) + len(meta), 0, 127 + len(root) + len(meta), len(body), len(ids), len(ids), len(seen),
        1, 2, 1, 2, min(zooms), max(zooms), 0, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    path.write_bytes(b"".join((header, root, meta, body)))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def corner(x_tiles: float, y_tiles: float) -> Tuple[float, float]:
    """(lon, lat) of a place in tiles from the map's corner."""
    unit = WORLD_M / (1 << ZOOM)
    return lonlat_of((X0 + x_tiles) * unit, (Y0 + y_tiles) * unit)


def request(folder: Path, archive: Path, sha256: str, **changes: Any) -> Dict[str, Any]:
    """A request over the whole synthetic map."""
    west, north = corner(0.1, 0.1)
    east, south = corner(COLUMNS - 0.1, ROWS - 0.1)
    lon, lat = corner(COLUMNS / 2, ROWS / 2)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    data: Dict[str, Any] = {
        "schema_version": 1,
        "run_id": "run-1",
        "nonce": "nonce-1",
        "flight_id": "flight-1",
        "archive_path": str(archive),
        "archive_sha256": sha256,
        "output_dir": str(folder / "index"),
        "work_dir": str(folder / "work"),
        "descriptor_cache_dir": str(folder / "descriptors"),
        "previous_index_dir": None,
        "area": {
            "kind": "bbox",
            "buffer_m": 0,
            "bbox": [west, south, east, north],
            "geojson": {"type": "MultiPolygon", "coordinates": [[ring]]},
        },
        "takeoff_origin": {"lat_deg": lat, "lon_deg": lon, "alt_m": 10},
        "camera": {"hfov_deg": 65, "agl_m": 100, "width_px": 1280, "height_px": 960},
        "model": {"id": "lite0-vlad"},
        "settings": {},
    }
    data.update(changes)
    return data


def run_build(folder: Path, data: Any, env: Optional[Dict[str, str]] = None) -> Tuple[int, Dict[str, Any], str]:
    """Run the command; returns exit code, last line, stderr."""
    path = folder / "request.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "c10_builder", "build", "--request", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False, env=env,
    )  # fmt: skip
    lines = done.stdout.decode("utf-8").splitlines()
    assert all(len(line) < 4096 for line in lines)
    parsed = [json.loads(line) for line in lines]
    assert [line["t"] for line in parsed].count("report") == 1
    return done.returncode, parsed[-1], done.stderr.decode("utf-8")


def tree(folder: Path) -> Dict[str, str]:
    """Name -> hash of every file of a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def the_map(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Any, Path, str]:
    """(image, archive path, archive sha256)."""
    image = ground()
    path = tmp_path_factory.mktemp("map") / "tiles.pmtiles"
    return image, path, write_archive(path, tiles_of(image))


@pytest.fixture(scope="session")
def built(the_map: Tuple[Any, Path, str], tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Dict[str, Any]]:
    """(folder, report) of one ordinary build."""
    folder = tmp_path_factory.mktemp("built")
    code, report, text = run_build(folder, request(folder, the_map[1], the_map[2]))
    assert code == 0, (report["failure"], text)
    return folder, report
