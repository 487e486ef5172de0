# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""What `c10-builder bench` says of photos that were taken of the very map, and of photos that were not."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from c10_builder._geo import WORLD_M, mercator_stretch
from c10_builder._request import Settings
from c10_builder._voice import Voice
from c10_builder.bench import bench
from c10_builder.cli import main
from PIL import Image
from support import ZOOM, corner

PLACES = ((1.3, 1.2), (2.4, 1.9), (3.6, 2.7))
SIDE_PX = 300


def taken(folder: Path, image: Any, truths: List[Tuple[float, float]]) -> Path:
    """Photos cut out of the map at `PLACES`, and a table that says where they were taken."""
    rows = []
    for number, (x, y) in enumerate(PLACES):
        left, top = int(x * 256) - SIDE_PX // 2, int(y * 256) - SIDE_PX // 2
        Image.fromarray(image[top : top + SIDE_PX, left : left + SIDE_PX]).save(folder / f"{number}.png")
        lon, lat = corner(*truths[number])
        gsd_m = WORLD_M / (256 << ZOOM) / mercator_stretch(lat)
        rows.append({"file": f"{number}.png", "heading_deg": 0, "gsd_m": gsd_m, "lat_deg": lat, "lon_deg": lon})
    with open(folder / "photos.csv", "w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder / "photos.csv"


def measured(archive: Path, table: Path, models: List[str], *, grids: int = 1) -> Dict[str, Any]:
    voice, settings = Voice(descriptor=os.open(os.devnull, os.O_WRONLY)), Settings(threads=2)
    return bench(archive, table, models=models, prior_m=150.0, settings=settings, voice=voice, grids=grids, loop_s=0.01)


def test_photos_of_the_map_are_found_and_photos_of_elsewhere_are_not(
    tmp_path: Path, the_map: Tuple[Any, Path, str]
) -> None:
    image, archive, _sha256 = the_map
    right = measured(archive, taken(tmp_path, image, list(PLACES)), ["lite0-vlad", "orb-vlad"])
    rows = {(row["model"], row["prior"]): row for row in right["rows"]}
    names = ("lite0-vlad", "orb-vlad", "lite0-gem", "thumbnail")
    assert set(rows) == {(name, prior) for name in names for prior in (False, True)}
    assert (right["photos"], rows["lite0-vlad", False]["r1"], rows["lite0-vlad", True]["r1"]) == (3, 1.0, 1.0)
    assert rows["lite0-vlad", False]["r1_interval"][0] < 0.5, "three photos say little"
    assert 0 < rows["lite0-vlad", False]["chance_r1"] < rows["lite0-vlad", True]["chance_r1"]
    assert right["throughput"]["ratio_both_heads"] < right["throughput"]["ratio"]

    elsewhere = [PLACES[2], PLACES[0], PLACES[0]]
    wrong = measured(archive, taken(tmp_path, image, elsewhere), ["lite0-vlad"], grids=2)
    assert (wrong["grids"], wrong["rows"][0]["prior"], wrong["rows"][0]["r1"]) == (2, False, 0.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [("file,heading_deg\n", "is empty"), ("file,heading_deg\nx.png,1\n", "not usable"), (None, "not usable")],
)
def test_a_table_that_is_none_is_one_sentence(
    tmp_path: Path, the_map: Tuple[Any, Path, str], capsys: pytest.CaptureFixture[str], text: "str | None", said: str
) -> None:
    table = tmp_path / "photos.csv"
    if text is not None:
        table.write_text(text)
    assert main(["bench", "--map", str(the_map[1]), "--queries", str(table)]) == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told
