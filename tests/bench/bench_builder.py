# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How often real drone photos are found on real maps, and how fast the builder describes, beside plain baselines.

Photos and maps come from the evaluation data (`GPS_DENIED_SHARED_DATA`), whose licences do not let it be shipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("GPS_DENIED_SHARED_DATA", REPO.parent / "shared" / "data"))
SETS = {"arroio": "nadir video frames over farmland and a town", "ariel": "oblique (45 degrees) video frames, warped"}


def percent(value: float) -> str:
    return f"{100 * value:.0f}"


def show(name: str, found: dict[str, Any]) -> None:
    """Print one set's table."""
    jitter = found["jitter"]
    print(
        f"{name}: {SETS[name]}; {found['photos']} photos. Hit: {found['hit']}. Mean of {found['grids']} grids "
        f"of windows. Jittered: mean of {jitter['looks']} "
        f"looks, heading off by up to {jitter['heading_deg']:g} degrees, scale by {percent(jitter['scale'])} %."
    )
    print(
        "                  |       as the table says: %       | jittered: %  | R@1 by localis- |  query ms\n"
        "model       prior | chance R@1 (95 %)     R@5  R@10  | R@1  R@5     | ability third   |  p50   p95"
    )
    for row in found["rows"]:
        low, high = row["r1_interval"]
        prior = f"{found['prior_m']:.0f} m" if row["prior"] else "none"
        thirds = " / ".join(percent(value) for value in row["r1_by_localisability_third"])
        print(
            f"{row['model']:<11} {prior:>5} | {percent(row['chance_r1']):>5}  {percent(row['r1']):>3} "
            f"({percent(low):>2} to {percent(high):>2})   {percent(row['r5']):>3}  {percent(row['r10']):>3}   | "
            f"{percent(row['r1_jittered']):>3}  {percent(row['r5_jittered']):>3}     | {thirds:<15} | "
            f"{row['query_ms_p50']:>5.1f} {row['query_ms_p95']:>5.1f}"
        )
    for row in found["rows"]:
        if row["prior"] and "hard_r1" in row:
            print(
                f"{row['model']}: {row['windows']} windows, index {row['index_bytes'] / 1e6:.1f} MB, "
                f"made pictures found {percent(row['hard_r1'])} %, int8 costs {-100 * row['int8_delta_r1']:.1f} points"
            )
    speed = found["throughput"]
    print(
        f"windows/s on {speed['threads']} threads, decoding and cutting included: "
        f"lite0-vlad {speed['lite0-vlad_per_s']}, orb-vlad {speed['orb-vlad_per_s']}; "
        f"a bare onnxruntime loop over ready pictures {speed['onnxruntime_per_s']} "
        f"(batch {speed['onnxruntime_batch']}): {speed['ratio']} x, both heads {speed['ratio_both_heads']} x"
    )
    print(f"peak memory {found['peak_rss_mb']:.0f} MB\n", flush=True)


def main() -> int:
    """Print both sets; 1 where a baseline is ahead at rank 1 or the throughput is missed."""
    if not DATA.exists():
        sys.exit(f"the evaluation data is not there: {DATA}")
    builder = Path(sys.executable).parent / "c10-builder"
    good = True
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        command = [sys.executable, str(REPO / "builder/tools/real_sets.py"), "--data", str(DATA), "--out", text]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for name in SETS:
            command = [str(builder), "bench", "--map", str(folder / f"{name}.pmtiles")]
            done = subprocess.run(
                [*command, "--queries", str(folder / f"{name}.csv"), "--grids", "5"],
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            found = json.loads(done.stdout)
            show(name, found)
            for prior in (False, True):
                rows = {row["model"]: row for row in found["rows"] if row["prior"] == prior}
                ours = rows["lite0-vlad"]
                for other in ("lite0-gem", "thumbnail"):
                    good = good and ours["r1_jittered"] > rows[other]["r1_jittered"]
            good = good and found["throughput"]["ratio"] >= 0.9
    print("targets met" if good else "TARGETS MISSED: ahead of every baseline at rank 1; 0.9 x a bare loop")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
