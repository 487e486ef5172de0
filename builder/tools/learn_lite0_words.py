# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Learns the words and the whitening of lite0-vlad; the recipe of data/lite0_words_v1.npy and lite0_quarters_v1.npy.

    python tools/learn_lite0_words.py --imagery FOLDER --photos FOLDER --out src/c10_builder/data

The released ones were learned from the six orthophotos named in learn_orb_words.py and from 18 drone photos of
Brighton Beach (pierotofy/drone_dataset_brighton_beach, BSD-2-Clause), all openly licensed, none of them part of an
evaluation. Only means and a covariance of features are shipped. Put the printed hashes into _lite0.py after a change.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
from c10_builder._lite0 import backbone, feature_map
from c10_builder._session import Runtime, Session
from c10_builder._vlad import unit_rows
from learn_orb_words import learn, pictures
from PIL import Image

WORDS = 16
#: Whitening to the power of a half, with the smallest variances lifted: full whitening amplifies noise.
POWER, FLOOR = 0.5, 0.02


def main() -> None:
    """Learn and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imagery", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    crops = [c for c in pictures(options.imagery, 224, (0.2, 0.35, 0.5, 0.7)) if c.shape[:2] == (224, 224)]
    for path in sorted(options.photos.iterdir()):
        photo = np.asarray(Image.open(path).convert("RGB").resize((430, 242), Image.BICUBIC))
        crops += [photo[:224, :224], photo[-224:, -224:]]
    crops += [np.rot90(crop, 2) for crop in crops]
    session = Session(backbone(), Runtime(), np.stack(crops[:1]))
    local = np.stack([feature_map(session.run(crop[None])[0]) for crop in crops])
    words = learn(np.ascontiguousarray(unit_rows(local)[:, ::3].reshape(-1, local.shape[2])), WORDS, 15)
    rows = local.reshape(-1, local.shape[2]).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    whiten = vectors * (values + FLOOR * values.max()) ** (-POWER / 2)
    table = np.vstack([whiten, rows.mean(axis=0)]).astype(np.float32)
    for name, array in (("lite0_words_v1.npy", words), ("lite0_quarters_v1.npy", table)):
        np.save(options.out / name, array)
        print(name, array.shape, hashlib.sha256((options.out / name).read_bytes()).hexdigest())
    print(len(crops), "crops")


if __name__ == "__main__":
    main()
