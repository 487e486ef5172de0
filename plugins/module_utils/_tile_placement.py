# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Do the tiles show the places that they are named for: rows counted from the wrong end, tiles shifted by one.

Nothing from outside is asked. A source whose rows count from the south (TMS) though it is said to be XYZ gives, at
neighbouring rows, pictures that join at the wrong edges. And where a tile and its four quarters one zoom finer are
there, the quarters must show what the tile shows; shifted by one at all zooms, they do not, but fit beside it.

A fault is found only where the wrong order fits well and the right one does not, at nearly all places of a sample. So
a map of water, of one colour, of two seasons or of noise is undecided, never a fault. What this cannot see is a shift
or flip of a single zoom that joins up, and a source that is consistently of another place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ._errors import TilePlacementError
from ._tile_check import sniff_format
from ._tile_decode_program import THUMBNAIL_PX
from ._tile_decoder import DecodeTask, TileDecoder, TileLook
from ._tile_source import TileSource
from ._tile_store import TileStore
from ._tiles import Tile, TileSet

__all__ = ["PlacementReport", "check_placement", "examine_placement", "spread_tiles"]

SEAMS = 16
PARENTS = 10
"""Places looked at: pairs of rows for each zoom, and tiles with their quarters for each pair of zooms."""
MIN_PLACES = 6
MIN_SHARE = 0.9
"""A fault needs so many decided places, and so large a share of them that agree."""
SEAM_LEVELS = 8.0
SEAM_RATIO = 0.5
"""A seam decides where the worse order differs by so many grey levels, and the better one by half of that at most."""
MIN_DEVIATION = 4.0
MIN_FIT, MAX_MISFIT = 0.7, 0.35
"""Correlation that is a fit, and that is none."""
HALF_PX = THUMBNAIL_PX // 2


@dataclass(frozen=True)
class PlacementReport:
    """What was seen.

    Attributes:
        verdict: `as_said`, `rows_flipped`, `shifted`, or `undecided` where there was too little to see.
        seams: pairs of neighbouring rows that decided, and `seams_flipped` how many of them for the wrong order.
        quarters: tiles that were compared with their quarters, and `quarters_fit` how many of them fitted.
        columns: where shifted, how many tiles east of its quarters a tile finds what it shows; `rows` south.
    """

    verdict: str
    seams: int = 0
    seams_flipped: int = 0
    quarters: int = 0
    quarters_fit: int = 0
    columns: int = 0
    rows: int = 0


def spread_tiles(tiles: TileSet, zoom: int, count: int) -> List[Tile]:
    """Tiles of a zoom at equal steps through the set, from the first to the last."""
    total = tiles.counts_by_zoom.get(zoom, 0)
    count = min(count, total)
    wanted = sorted({round(index * (total - 1) / max(1, count - 1)) for index in range(count)})
    found: List[Tile] = []
    seen = 0
    for run in tiles.runs:
        if run.z != zoom:
            continue
        width = run.x_last - run.x_first + 1
        while len(found) < len(wanted) and wanted[len(found)] < seen + width:
            found.append(Tile(zoom, run.x_first + wanted[len(found)] - seen, run.y))
        seen += width
    return found


_OTHER_KIND = {"xyz": "tms", "tms": "xyz", "folder": "folder_tms", "folder_tms": "folder"}


class _Looks:
    """Pictures out of the store, each decoded once, in the process for that."""

    def __init__(self, store: TileStore, source: TileSource, decoder: TileDecoder) -> None:
        self._store, self._decoder, self._width_px = store, decoder, source.spec.tile_size_px
        self._number = store.source_number(source.source_key)
        self._seen: Dict[Tile, Optional[TileLook]] = {}

    def get(self, tile: Tile) -> Optional[TileLook]:
        """The picture, None where the store has none."""
        side = 1 << tile.z
        if self._number is None or not (0 <= tile.x < side and 0 <= tile.y < side):
            return None
        if tile not in self._seen:
            body = self._store.body(self._number, tile)
            kind = sniff_format(body) if body else None
            look = None
            if body and kind:
                look = self._decoder.look(DecodeTask(body, kind), width_px=self._width_px)
            self._seen[tile] = look
        return self._seen[tile]


def examine_placement(*, tiles: TileSet, source: TileSource, store: TileStore) -> PlacementReport:
    """Look at a sample of what the store has of these tiles; deterministic, a fraction of a second.

    Raises:
        DownloadError: the store is damaged.
    """
    with TileDecoder() as decoder:
        looks = _Looks(store, source, decoder)
        zooms = [zoom for zoom, _count in sorted(tiles.counts_by_zoom.items())]
        votes = [vote for zoom in zooms for vote in _seams(looks, spread_tiles(tiles, zoom, SEAMS))]
        flipped = sum(votes)
        quarters = [
            scores
            for coarse, fine in zip(zooms, zooms[1:])
            if fine == coarse + 1
            for scores in _quarters(looks, _parents(tiles, coarse))
        ]
    moved, fitting = _best_shift(quarters)
    seen = {"seams": len(votes), "seams_flipped": flipped, "quarters": len(quarters), "quarters_fit": fitting}
    if len(votes) >= MIN_PLACES and flipped >= MIN_SHARE * len(votes):
        return PlacementReport("rows_flipped", **seen)
    if moved is not None:
        return PlacementReport("shifted", columns=moved[0], rows=moved[1], **seen)
    joined = len(votes) >= MIN_PLACES and flipped <= (1 - MIN_SHARE) * len(votes)
    fitted = fitting >= MIN_SHARE * len(quarters)
    said = fitted and (joined or fitting >= MIN_PLACES)
    return PlacementReport("as_said" if said else "undecided", **seen)


def check_placement(found: PlacementReport, *, source: TileSource) -> None:
    """Raise TilePlacementError where the tiles do not lie where the source says."""
    if found.verdict == "rows_flipped":
        other = _OTHER_KIND.get(source.spec.kind)
        step = f"Write a profile with kind = {other!r}" if other else "Correct the source, or make the archive anew"
        raise TilePlacementError(
            f"the tiles of {source.id} count their rows from the other end: {found.seams_flipped} of {found.seams} "
            "neighbouring rows join at the wrong edges",
            remediation=f"{step}; check_placement = false in a profile waives this check.",
            details={"verdict": found.verdict},
        )
    if found.verdict == "shifted":
        raise TilePlacementError(
            f"the tiles of {source.id} are shifted: what one zoom shows lies {found.columns} columns east and "
            f"{found.rows} rows south of that in the next",
            remediation="Look at the tiles in a map; check_placement = false in a profile waives this check.",
            details={"verdict": found.verdict, "columns": found.columns, "rows": found.rows},
        )


def _seams(looks: _Looks, anchors: Sequence[Tile]) -> List[bool]:
    """For each tile and the one south of it that decide: whether they join as if the rows were flipped."""
    votes: List[bool] = []
    for anchor in anchors:
        north, south = looks.get(anchor), looks.get(Tile(anchor.z, anchor.x, anchor.y + 1))
        if north is None or south is None:
            continue
        right, wrong = _apart(north.bottom, south.top), _apart(north.top, south.bottom)
        if max(right, wrong) >= SEAM_LEVELS and min(right, wrong) <= SEAM_RATIO * max(right, wrong):
            votes.append(wrong < right)
    return votes


def _apart(one: bytes, other: bytes) -> float:
    """Mean difference of two rows in grey levels."""
    import numpy as np

    return float(np.abs(np.frombuffer(one, np.uint8).astype(float) - np.frombuffer(other, np.uint8)).mean())


def _parents(tiles: TileSet, zoom: int) -> List[Tile]:
    """Tiles to compare with their quarters, those first that have all the tiles around these too."""
    candidates = spread_tiles(tiles, zoom, 8 * PARENTS)
    inside = [
        tile
        for tile in candidates
        if all(Tile(zoom + 1, 2 * tile.x + x, 2 * tile.y + y) in tiles for x in (-1, 2) for y in (-1, 2))
    ]
    chosen = inside[:: max(1, len(inside) // PARENTS)][:PARENTS]
    return chosen + [tile for tile in spread_tiles(tiles, zoom, PARENTS) if tile not in chosen][: PARENTS - len(chosen)]


_SHIFTS = tuple((columns, rows) for rows in (-1, 0, 1) for columns in (-1, 0, 1))


def _quarters(looks: _Looks, parents: Sequence[Tile]) -> List[Dict[Tuple[int, int], float]]:
    """For each tile: how well it correlates with the quarters at its place, and with those one tile beside."""
    import numpy as np

    found: List[Dict[Tuple[int, int], float]] = []
    for parent in parents:
        look = looks.get(parent)
        if look is None:
            continue
        whole = np.frombuffer(look.thumbnail, dtype=np.uint8).reshape(THUMBNAIL_PX, THUMBNAIL_PX).astype(float)
        if whole.std() < MIN_DEVIATION:
            continue
        patches = [
            [
                _patch(looks.get(Tile(parent.z + 1, 2 * parent.x + column, 2 * parent.y + row)))
                for column in range(-1, 3)
            ]
            for row in range(-1, 3)
        ]
        scores: Dict[Tuple[int, int], float] = {}
        for columns, rows in _SHIFTS:
            square = [line[columns + 1 : columns + 3] for line in patches[rows + 1 : rows + 3]]
            if all(patch is not None for line in square for patch in line):
                scores[columns, rows] = _correlation(whole, np.block(square))
        if (0, 0) in scores:
            found.append(scores)
    return found


def _patch(look: Optional[TileLook]) -> Any:
    """A quarter of a tile: the thumbnail at half its size."""
    import numpy as np

    if look is None:
        return None
    pixels = np.frombuffer(look.thumbnail, dtype=np.uint8).astype(float)
    return pixels.reshape(HALF_PX, 2, HALF_PX, 2).mean(axis=(1, 3))


def _correlation(one: Any, other: Any) -> float:
    if other.std() < MIN_DEVIATION:
        return 0.0
    return float(((one - one.mean()) * (other - other.mean())).mean() / (one.std() * other.std()))


def _best_shift(quarters: Sequence[Dict[Tuple[int, int], float]]) -> Tuple[Optional[Tuple[int, int]], int]:
    """The shift that fits at nearly all places where the right one does not; and how many fit as they should."""
    fitting = sum(scores[0, 0] >= MIN_FIT for scores in quarters)
    for shift in _SHIFTS:
        compared = [scores for scores in quarters if shift in scores]
        agree = [scores for scores in compared if scores[shift] >= MIN_FIT and scores[0, 0] <= MAX_MISFIT]
        if shift != (0, 0) and len(agree) >= MIN_PLACES and len(agree) >= MIN_SHARE * len(compared):
            return shift, fitting
    return None, fitting
