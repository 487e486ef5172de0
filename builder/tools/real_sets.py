# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Makes the input of ``c10-builder bench`` from the shared evaluation data: a tile archive and a table of photos.

    python tools/real_sets.py --data SHARED_DATA --out FOLDER

The data's licences are partly unclear: for evaluation on this machine only. Oblique photos (45 degrees, as assumed by
their authors) are warped onto flat ground first.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import write_archive

FIELDS = ("file", "heading_deg", "gsd_m", "lat_deg", "lon_deg")


def warp_to_ground(image: Image.Image, agl_m: float, *, down_deg: float, hfov_deg: float, side_px: int = 640) -> tuple:
    """A square of ground 1.1 heights wide around where the camera looks, and its metres a pixel."""
    width, height = image.size
    focal = width / 2 / math.tan(math.radians(hfov_deg / 2))
    tilt = math.radians(down_deg)
    gsd_m = 1.1 * agl_m / side_px
    equations, values = [], []
    for x, y in ((0, 0), (side_px, 0), (side_px, side_px), (0, side_px)):
        right, ahead = (x - side_px / 2) * gsd_m, agl_m / math.tan(tilt) + (side_px / 2 - y) * gsd_m
        depth = ahead * math.cos(tilt) + agl_m * math.sin(tilt)
        u = width / 2 + focal * right / depth
        v = height / 2 + focal * (agl_m * math.cos(tilt) - ahead * math.sin(tilt)) / depth
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    matrix = tuple(np.linalg.solve(np.array(equations), np.array(values)))
    return image.convert("RGBA").transform((side_px, side_px), 2, matrix, resample=2), gsd_m


def table(path: Path, rows: list) -> None:
    """Write a table of photos."""
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(FIELDS)
        writer.writerows(rows)


def archive(root: Path, pattern: str, out: Path) -> None:
    """An archive of a z/x/y folder."""
    tiles = {(int(p.parts[-3]), int(p.parts[-2]), int(p.stem)): p.read_bytes() for p in sorted(root.glob(pattern))}
    write_archive(out, tiles)


def main() -> None:
    """Make both sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    archive(options.data / "imagery/arroio_2014-01/xyz", "*/*/*.jpg", options.out / "arroio.pmtiles")
    archive(options.data / "imagery/ariel_z18_native", "*/*/*.jpg", options.out / "ariel.pmtiles")
    photos = options.data / "queries/arroio"
    with open(photos / "ground_truth.csv", newline="", encoding="utf-8") as stream:
        table(
            options.out / "arroio.csv",
            [
                (
                    photos / "img" / r["file"],
                    r["yaw_deg_estimated"],
                    r["gsd_m_estimated"],
                    r["nominal_lat"],
                    r["nominal_lon"],
                )
                for r in csv.DictReader(stream)
            ],
        )
    photos, rows = options.data / "queries/ariel_oblique45", []
    with open(photos / "ground_truth.csv", newline="", encoding="utf-8") as stream:
        for r in csv.DictReader(stream):
            down = float(r["camera_down_angle_deg_assumed"])
            image, gsd_m = warp_to_ground(
                Image.open(photos / "img" / r["file"]).convert("RGB"), float(r["rel_alt_m"]), down_deg=down, hfov_deg=70
            )
            name = "ariel_" + Path(r["file"]).stem + ".png"
            image.save(options.out / name)
            rows.append(
                (name, r["heading_deg_from_track"], gsd_m, r["ground_lat_projected"], r["ground_lon_projected"])
            )
    table(options.out / "ariel.csv", rows)


if __name__ == "__main__":
    main()
