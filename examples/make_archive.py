# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""Cut `examples/imagery/bali.pmtiles` from the drone orthophoto it comes from.

The archive is committed; this script is how it was made, and makes it again byte for byte with the
same libraries. It needs the extra `geotiff`, and `pmtiles`, which the collection does not:

    python examples/make_archive.py riotiler_pix4d_alpha_nodata.tif examples/imagery/bali.pmtiles
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import Writer
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

TILE_PX = 256
JPEG_QUALITY = 85
ZOOMS = (17, 18, 19)
MERCATOR_HALF_M = math.pi * 6378137.0

ATTRIBUTION = "Drone orthophoto (Pix4D), Bali: from the test data of rio-tiler, (c) 2021 cogeotiff, BSD-3-Clause"


def tile_bounds_m(zoom: int, x: int, y: int) -> tuple[float, float, float, float]:
    """West, south, east, north of an XYZ tile in EPSG:3857 metres."""
    side_m = 2.0 * MERCATOR_HALF_M / (1 << zoom)
    west, north = -MERCATOR_HALF_M + x * side_m, MERCATOR_HALF_M - y * side_m
    return west, north - side_m, west + side_m, north


def tile_range(bounds_m: tuple[float, float, float, float], zoom: int) -> tuple[range, range]:
    """Columns and rows of the tiles that a box in EPSG:3857 metres touches."""
    side_m = 2.0 * MERCATOR_HALF_M / (1 << zoom)
    west, south, east, north = bounds_m
    columns = range(int((west + MERCATOR_HALF_M) // side_m), int((east + MERCATOR_HALF_M) // side_m) + 1)
    rows = range(int((MERCATOR_HALF_M - north) // side_m), int((MERCATOR_HALF_M - south) // side_m) + 1)
    return columns, rows


def read_tile(dataset: rasterio.DatasetReader, zoom: int, x: int, y: int) -> bytes | None:
    """The tile as JPEG, black where the orthophoto has no data; None where it has none at all."""
    vrt_options = {
        "crs": "EPSG:3857",
        "transform": from_bounds(*tile_bounds_m(zoom, x, y), TILE_PX, TILE_PX),
        "width": TILE_PX,
        "height": TILE_PX,
        "resampling": Resampling.bilinear,
    }
    with WarpedVRT(dataset, **vrt_options) as vrt:
        red_green_blue_alpha = vrt.read()
    opaque = red_green_blue_alpha[3] >= 128
    if not opaque.any():
        return None
    pixels = np.moveaxis(red_green_blue_alpha[:3] * opaque, 0, -1)
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return out.getvalue()


def make_archive(orthophoto: Path, archive: Path) -> int:
    """Write every tile of `ZOOMS` that holds part of the orthophoto; return how many."""
    tiles: dict[int, bytes] = {}
    with rasterio.open(orthophoto) as dataset:
        bounds_m = transform_bounds(dataset.crs, "EPSG:3857", *dataset.bounds)
        west, south, east, north = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
        for zoom in ZOOMS:
            columns, rows = tile_range(bounds_m, zoom)
            for x in columns:
                for y in rows:
                    data = read_tile(dataset, zoom, x, y)
                    if data is not None:
                        tiles[zxy_to_tileid(zoom, x, y)] = data
    header = {
        "tile_type": TileType.JPEG,
        "tile_compression": Compression.NONE,
        "min_lon_e7": math.floor(west * 1e7),
        "min_lat_e7": math.floor(south * 1e7),
        "max_lon_e7": math.ceil(east * 1e7),
        "max_lat_e7": math.ceil(north * 1e7),
        "center_zoom": ZOOMS[0],
        "center_lon_e7": round((west + east) * 5e6),
        "center_lat_e7": round((south + north) * 5e6),
    }
    metadata = {
        "name": "Rice fields, Bali",
        "description": "0.35 m drone orthophoto resampled to Web Mercator; black where it has no data",
        "attribution": ATTRIBUTION,
        "type": "baselayer",
        "format": "jpg",
        "license": "BSD-3-Clause",
    }
    partial = archive.with_name(archive.name + ".partial")
    with partial.open("wb") as file:
        writer = Writer(file)
        for tile_id in sorted(tiles):
            writer.write_tile(tile_id, tiles[tile_id])
        writer.finalize(header, metadata)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(archive)
    return len(tiles)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Cut the example archive from its orthophoto.")
    parser.add_argument("orthophoto", type=Path)
    parser.add_argument("archive", type=Path)
    arguments = parser.parse_args(argv)
    count = make_archive(arguments.orthophoto, arguments.archive)
    print(f"{arguments.archive}: {count} tiles, {arguments.archive.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
