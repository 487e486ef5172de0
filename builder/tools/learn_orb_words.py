# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Learns the words of ORB-VLAD from openly licensed aerial imagery; the recipe of data/orb_vlad_words_v1.npy.

    python tools/learn_orb_words.py --imagery FOLDER --out src/c10_builder/data/orb_vlad_words_v1.npy

The released words were learned from six aerial orthophotos:
NEON OSBS_029 and 2018_SJER_3 (CC0, National Ecological Observatory Network), two OpenAerialMap orthophotos from
DeepForest's test data (5b90f92da0d7280005fab355, 5dded5bc0140b80006d2e565; CC-BY-4.0), Bali by Pix4D (rio-tiler,
BSD-3-Clause), and USGS HRO Colorado (public domain). Only the words (means of binary features) are shipped, no pixels.
Spherical k-means from a fixed start, so that the same OpenCV gives the same words.
Print the hash into ORB_WORDS in _orb.py after a change.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import tifffile
from c10_builder import _orb
from c10_builder._vlad import unit_rows
from PIL import Image

# file, metres per pixel
SOURCES = (
    ("2018_SJER_3_252000_4107000_image_477.tif", 0.1),
    ("5b90f92da0d7280005fab355_4310.tif", 0.1),
    ("5dded5bc0140b80006d2e565_23.tif", 0.1),
    ("OSBS_029.tif", 0.1),
    ("riotiler_hro_colorado_cog_rgb_mask.tif", 0.15),
    ("riotiler_pix4d_alpha_nodata.tif", 0.35),
)
WORDS = 16


def pictures(folder: Path, side_px: int, gsds_m: tuple) -> list:
    """Square crops of every source at several ground resolutions, without those that are largely empty."""
    found = []
    for name, gsd_m in SOURCES:
        pixels = tifffile.imread(folder / name)
        if pixels.ndim == 3 and pixels.shape[0] in (3, 4):
            pixels = np.moveaxis(pixels, 0, 2)
        image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]).astype(np.uint8))
        for target in gsds_m:
            factor = max(gsd_m, target) / gsd_m
            if factor > 1.05:
                scaled = image.resize(
                    (max(1, int(image.width / factor)), max(1, int(image.height / factor))), Image.BICUBIC
                )
            else:
                scaled = image
            array = np.asarray(scaled)
            side = min(side_px, array.shape[0], array.shape[1])
            if side < 64:
                continue
            for top in range(0, array.shape[0] - side + 1, side):
                for left in range(0, array.shape[1] - side + 1, side):
                    crop = array[top : top + side, left : left + side]
                    if (crop.max(axis=2) > 10).mean() > 0.8:
                        found.append(crop)
    return found


def learn(local: np.ndarray, words: int, rounds: int = 40) -> np.ndarray:
    """k-means by direction, keeping each word's true mean: residuals then centre on zero.

    The start is farthest-point sampling from the first row.
    """
    centres = [local[0]]
    nearest = local @ centres[0]
    rng = np.random.RandomState(7)
    for _index in range(words - 1):
        weight = np.maximum(0, 1 - nearest) ** 2
        pick = int(np.searchsorted(np.cumsum(weight), rng.rand() * weight.sum()))
        centres.append(local[min(pick, len(local) - 1)])
        nearest = np.maximum(nearest, local @ centres[-1])
    table = np.array(centres, dtype=np.float32)
    for _round in range(rounds):
        owner = np.argmax(local @ unit_rows(table).T, axis=1)
        for word in range(words):
            mine = local[owner == word]
            if len(mine):
                table[word] = mine.mean(axis=0)
    return table


def main() -> None:
    """Learn and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imagery", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    head = _orb.OrbVlad.__new__(_orb.OrbVlad)
    import cv2

    head._cv2 = cv2
    head._orb = cv2.ORB_create(
        nfeatures=head._FEATURES, scaleFactor=1.2, nlevels=6, edgeThreshold=15, patchSize=31, fastThreshold=5
    )
    crops = pictures(options.imagery, head.window_px, (0.1, 0.2, 0.35, 0.5))
    # the same share from every crop, so that one large orthophoto does not outvote five small ones
    local = np.vstack(
        [features[:: max(1, len(features) // 200)] for features in map(head.local, crops) if len(features)]
    )
    table = learn(local, WORDS)
    np.save(options.out, table)
    print(len(crops), "crops,", len(local), "features; sha256", hashlib.sha256(options.out.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
