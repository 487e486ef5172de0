# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The raw descriptors of a plan: from the descriptor cache what it holds, described now what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List

import numpy as np

from ._cache import DescriptorCache
from ._describe import described
from ._head import Head
from ._job import Job
from ._pack import let_go
from ._pmtiles import PmtilesReader
from ._screen import Screened
from ._windows import Plan

__all__ = ["Described", "describe_windows"]

_HELD_ROWS = 1024


@dataclass(frozen=True)
class Described:
    """One row for each planned window.

    Attributes:
        raw: n x dim float32, a memory map in the work folder; zero where there is too little imagery.
        shares: n float32, share of the window that is imagery.
        fresh: n bool, described by this build.
    """

    raw: Any
    shares: Any
    fresh: Any


def describe_windows(
    job: Job, archive: PmtilesReader, screened: Screened, plan: Plan, head: Head, digests: List[bytes]
) -> Described:
    """Describe the planned windows; what the descriptor cache holds is taken from there."""
    count = len(plan.windows)
    raw = np.lib.format.open_memmap(
        str(job.request.work_dir / "raw.npy"), mode="w+", dtype=np.float32, shape=(count, head.dim)
    )
    shares = np.zeros(count, dtype=np.float32)
    folder = job.request.descriptor_cache_dir or job.request.work_dir / "descriptors"
    store = DescriptorCache(folder, model_sha256=head.sha256, dim=head.dim)
    try:
        todo: List[int] = []
        for k, digest in enumerate(digests):
            if digest in store:
                raw[k], shares[k] = store.get(digest)
                if k % _HELD_ROWS == 0:
                    let_go(raw)
            else:
                todo.append(k)
        job.report["windows"].update(planned=count)
        reused = count - len(todo)
        job.voice.progress(reused, count, "windows")
        for first, pictures, part in described(
            archive, screened, plan, head, todo, min_valid_ratio=job.request.settings.min_valid_ratio
        ):
            ks = todo[first : first + len(part)]
            store.add([(digests[k], float(share), row) for k, share, row in zip(ks, part, pictures)])
            raw[ks], shares[ks] = pictures, part
            let_go(raw)
            job.voice.progress(reused + first + len(part), count, "windows")
        fresh = np.zeros(count, dtype=bool)
        fresh[todo] = True
    finally:
        store.close()
    return Described(raw, shares, fresh)
