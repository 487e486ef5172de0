# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Vectors of locally aggregated descriptors, and other steps shared by the heads.

VLAD: Jegou et al., "Aggregating local descriptors into a compact image representation", CVPR 2010;
intra-normalisation: Arandjelovic and Zisserman, "All about VLAD", CVPR 2013.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

__all__ = ["BLOCK_ROWS", "block_matmul", "sign_projection", "unit_rows", "vlad"]

#: numpy's product of one row changes its last bits with the number of rows; a fixed block does not.
BLOCK_ROWS = 64


def unit_rows(rows: Any) -> Any:
    """Rows scaled to length one; zero rows stay zero."""
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1)


def vlad(local: Any, words: Any) -> Any:
    """Aggregate local descriptors.

    Args:
        local: n x d float32, unit rows.
        words: k x d float32, the means of what each word owns; a row goes to the word of nearest direction.

    Returns:
        k*d float32 of length one (zeros when n is 0).
    """
    owner = np.zeros((len(words), len(local)), dtype=np.float32)
    if len(local):
        owner[np.argmax(local @ unit_rows(words).T, axis=1), np.arange(len(local))] = 1
    sums = owner @ local - owner.sum(axis=1, keepdims=True) * words
    sums = np.sign(sums) * np.sqrt(np.abs(sums))
    return unit_rows(unit_rows(sums).reshape(-1)).astype(np.float32)


def sign_projection(dim_in: int, dim_out: int, seed: str) -> Any:
    """A random projection of +-1/sqrt(dim_out), from SHAKE-256: the same on every machine and numpy version."""
    raw = hashlib.shake_256(seed.encode("ascii")).digest((dim_in * dim_out + 7) // 8)
    bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8))[: dim_in * dim_out]
    return ((bits.astype(np.float32) * 2 - 1) / np.float32(np.sqrt(dim_out))).reshape(dim_in, dim_out)


def block_matmul(rows: Any, matrix: Any) -> Any:
    """rows @ matrix in zero-padded blocks of `BLOCK_ROWS`, so that each row's bits do not depend on its company."""
    out = np.empty((len(rows), matrix.shape[1]), dtype=np.float32)
    block = np.zeros((BLOCK_ROWS, matrix.shape[0]), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        part = rows[start : start + BLOCK_ROWS]
        block[: len(part)] = part
        block[len(part) :] = 0
        out[start : start + len(part)] = (block @ matrix)[: len(part)]
    return out
