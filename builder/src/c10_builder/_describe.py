# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Cutting and describing windows, batch by batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator, Sequence, Tuple

import numpy as np

from ._cut import WindowCutter
from ._head import Head
from ._pmtiles import PmtilesReader
from ._screen import Screened, TileCache
from ._windows import Plan

__all__ = ["described"]

_BATCH = 32


def described(
    archive: PmtilesReader, screened: Screened, plan: Plan, head: Head, which: Sequence[int], *, min_valid_ratio: float
) -> Iterator[Tuple[int, Any, Any]]:
    """Cut and describe the windows `which` in batches.

    Yields:
        (position of the batch in `which`, descriptors, shares of imagery); windows with too little imagery have a zero
        descriptor.
    """
    if not len(which):
        return
    cutter = WindowCutter(TileCache(archive, screened), plan.tile_px, head.window_px)

    def cut(first: int) -> Tuple[Any, Any]:
        pieces = [cutter.cut(plan.windows[k]) for k in which[first : first + _BATCH]]
        return np.stack([picture for picture, _ in pieces]), np.array([share for _, share in pieces], dtype=np.float32)

    # the next batch is cut while this one is described: decoding and resampling leave the interpreter's lock
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="c10-cut") as ahead:
        pending = ahead.submit(cut, 0)
        for first in range(0, len(which), _BATCH):
            pictures, shares = pending.result()
            if first + _BATCH < len(which):
                pending = ahead.submit(cut, first + _BATCH)
            rows = np.zeros((len(shares), head.dim), dtype=np.float32)
            good = np.flatnonzero(shares >= min_valid_ratio)
            if len(good):
                rows[good] = head.describe(pictures[good])
            yield first, rows, shares
