# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The index as an airborne program uses it: opened, checked, searched. numpy and Pillow alone for the search.

Search is exact: every row within the position prior is compared, through a memory map, so that a large index costs
address space and page cache, not memory of the process.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from ._cut import resample
from ._errors import BuilderError
from ._geo import lonlat_of, mercator_of, mercator_stretch
from ._pack import project
from ._version import INDEX_SCHEMA

__all__ = ["META_DTYPE", "NEAR_BLOCK_ROWS", "Index", "Match", "Near", "open_index", "replay_probes", "verify_files"]

#: One row's facts. mx_m and my_m: centre in Mercator metres; flags: reserved.
META_DTYPE = np.dtype(
    [
        ("mx_m", "<f8"),
        ("my_m", "<f8"),
        ("side_m", "<f4"),
        ("inv_length", "<f4"),
        ("localisability", "<f4"),
        ("valid", "u1"),
        ("scale", "u1"),
        ("flags", "<u2"),
    ]
)
#: Rows per entry of blocks.npy, the table of bounding boxes that a position prior is held against.
NEAR_BLOCK_ROWS = 256
_SCAN_ROWS = 8192


@dataclass(frozen=True)
class Near:
    """A position prior: only windows whose centre lies within `radius_m` of the point are searched."""

    lat_deg: float
    lon_deg: float
    radius_m: float


@dataclass(frozen=True)
class Match:
    """One answer: the window's centre, its similarity (cosine, 1 at best), and how far to trust the place."""

    row: int
    score: float
    lat_deg: float
    lon_deg: float
    side_m: float
    localisability: float


def _load_json(path: Path) -> Dict[str, Any]:
    try:
        data = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError) as error:
        raise BuilderError("index_invalid", "%s is missing or damaged" % path, hint="build the index again") from error
    if not isinstance(data, dict):
        raise BuilderError("index_invalid", "%s is damaged" % path, hint="build the index again")
    return data


def verify_files(path: Path) -> Dict[str, Any]:
    """Hold every file of an index against its hash, and the binding against the index.

    Returns:
        index.json.

    Raises:
        BuilderError: `index_invalid`.
    """
    meta = _load_json(path / "index.json")
    if meta.get("schema_version") != INDEX_SCHEMA:
        raise BuilderError("index_invalid", "%s is not an index of a kind this version knows" % path)
    files = meta.get("files")
    if not isinstance(files, dict) or not files:
        raise BuilderError("index_invalid", "%s lists no files" % (path / "index.json"))
    for name in sorted(files):
        if "/" in name or name.startswith("."):
            raise BuilderError("index_invalid", "index.json names a file outside its folder")
        digest = hashlib.sha256()
        size = 0
        try:
            with open(path / name, "rb") as stream:
                for part in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(part)
                    size += len(part)
        except OSError as error:
            raise BuilderError("index_invalid", "the index's file %s is missing" % name) from error
        if size != files[name].get("size") or digest.hexdigest() != files[name].get("sha256"):
            raise BuilderError("index_invalid", "the index's file %s differs from its hash" % name)
    binding = _load_json(path / "binding.json")
    if binding.get("index_sha256") != hashlib.sha256((path / "index.json").read_bytes()).hexdigest():
        raise BuilderError("index_invalid", "binding.json belongs to another index")
    unknown = {p.name for p in path.iterdir()} - set(files) - {"index.json", "binding.json"}
    if unknown:
        raise BuilderError("index_invalid", "the index holds a file it does not list: %s" % sorted(unknown)[0])
    return meta


class Index:
    """An open index. `open_index` makes one."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self.path = path
        self._threads = threads
        self.meta = _load_json(path / "index.json")
        if self.meta.get("schema_version") != INDEX_SCHEMA:
            raise BuilderError("index_invalid", "%s is not an index of a kind this version knows" % path)
        try:
            self._rows = np.load(path / "rows.npy", mmap_mode="r", allow_pickle=False)
            self.rows_meta = np.load(path / "meta.npy", mmap_mode="r", allow_pickle=False)
            self._blocks = np.load(path / "blocks.npy", allow_pickle=False)
            self._basis = np.load(path / "pca_basis.npy", allow_pickle=False)
            self._ranges = [tuple(scale["rows"]) for scale in self.meta["scales"]]
            self._sides_m = [float(scale["side_m"]) for scale in self.meta["scales"]]
            self._stretch = mercator_stretch(float(self.meta["latitude_deg"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BuilderError("index_invalid", "the index %s is incomplete or damaged" % path) from error
        n = len(self._rows)
        if (
            self._rows.dtype != np.int8
            or self.rows_meta.dtype != META_DTYPE
            or self.rows_meta.shape != (n,)
            or self._basis.shape != (self.meta["model"]["dim"], self._rows.shape[1])
            or self._blocks.shape != (-(-n // NEAR_BLOCK_ROWS), 4)
        ):
            raise BuilderError("index_invalid", "the index %s has files that do not fit each other" % path)
        self._head: Any = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def sides_m(self) -> List[float]:
        """Window sides on the ground, one per scale."""
        return list(self._sides_m)

    def head(self) -> Any:
        """The model that describes pictures for this index; needs its runtime installed."""
        if self._head is None:
            from ._heads import open_head
            from ._session import Runtime

            head = open_head(self.meta["model"]["id"], Runtime(threads=self._threads), folder=self.path)
            if head.sha256 != self.meta["model"]["sha256"]:
                raise BuilderError(
                    "model_invalid",
                    "the index was built with another version of the model %s or its library" % head.id,
                    hint="build the index again with this version",
                )
            self._head = head
        return self._head

    def search(
        self, raw: Any, *, near: Optional[Near] = None, scales: Optional[Sequence[int]] = None, top: int = 10
    ) -> List[Match]:
        """Search with a raw descriptor.

        Args:
            raw: a raw descriptor of the index's model.
            near: position prior; None searches everything.
            scales: which scales to search; None means all.
            top: how many answers.

        Returns:
            Best first; equal scores in row order.
        """
        query = project(np.asarray(raw, dtype=np.float32).reshape(1, -1), self._basis)[0]
        best_rows: Any = np.empty(0, dtype=np.int64)
        best_scores: Any = np.empty(0, dtype=np.float32)
        for start, stop in self._spans(near, scales):
            scores = (self._rows[start:stop].astype(np.float32) @ query) * self.rows_meta["inv_length"][start:stop]
            rows = np.arange(start, stop)
            if near is not None:
                inside = self._within(near, start, stop)
                rows, scores = rows[inside], scores[inside]
            best_rows = np.concatenate([best_rows, rows])
            best_scores = np.concatenate([best_scores, scores])
            order = np.lexsort((best_rows, -best_scores))[: max(1, top)]
            best_rows, best_scores = best_rows[order], best_scores[order]
        return [self._match(int(row), float(score)) for row, score in zip(best_rows, best_scores)]

    def _match(self, row: int, score: float) -> Match:
        facts = self.rows_meta[row]
        lon, lat = lonlat_of(float(facts["mx_m"]), float(facts["my_m"]))
        return Match(
            row=row,
            score=score,
            lat_deg=lat,
            lon_deg=lon,
            side_m=float(facts["side_m"]),
            localisability=float(facts["localisability"]),
        )

    def _within(self, near: Near, start: int, stop: int) -> Any:
        mx, my = mercator_of(lon_deg=near.lon_deg, lat_deg=near.lat_deg)
        part = self.rows_meta[start:stop]
        return np.hypot(part["mx_m"] - mx, part["my_m"] - my) <= near.radius_m * self._stretch

    def _spans(self, near: Optional[Near], scales: Optional[Sequence[int]]) -> List[Tuple[int, int]]:
        """Row ranges to scan, at most `_SCAN_ROWS` long each."""
        wanted = range(len(self._ranges)) if scales is None else scales
        spans: List[Tuple[int, int]] = []
        for scale in wanted:
            first, last = self._ranges[scale]
            if near is None:
                spans.extend((start, min(start + _SCAN_ROWS, last)) for start in range(first, last, _SCAN_ROWS))
                continue
            mx, my = mercator_of(lon_deg=near.lon_deg, lat_deg=near.lat_deg)
            reach = near.radius_m * self._stretch
            box = self._blocks
            hit = (
                (box[:, 0] <= mx + reach)
                & (box[:, 2] >= mx - reach)
                & (box[:, 1] <= my + reach)
                & (box[:, 3] >= my - reach)
            )
            for block in np.flatnonzero(hit):
                start, stop = max(first, int(block) * NEAR_BLOCK_ROWS), min(last, (int(block) + 1) * NEAR_BLOCK_ROWS)
                if start < stop:
                    spans.append((start, stop))
        return spans

    def query(
        self,
        image: Any,
        *,
        heading_deg: Optional[float] = None,
        agl_m: Optional[float] = None,
        hfov_deg: Optional[float] = None,
        near: Optional[Near] = None,
        top: int = 10,
    ) -> List[Match]:
        """Where was this picture taken? The camera looks straight down.

        Args:
            image: PIL image, path, or uint8 array of height x width x 3.
            heading_deg: clockwise from true north, of the picture's upper edge; None tries twelve headings.
            agl_m: height above ground; None tries every scale with the picture's centre.
            hfov_deg: horizontal field of view; the build's camera when None.
            near: position prior.
            top: how many answers.

        Raises:
            BuilderError: `image_invalid`, `model_unavailable`, `model_invalid`.
        """
        picture = _picture(image)
        head = self.head()
        camera = self.meta["camera"]
        hfov = float(camera["hfov_deg"] if hfov_deg is None else hfov_deg)
        headings = [30.0 * k for k in range(12)] if heading_deg is None else [float(heading_deg)]
        if agl_m is None:
            plans = [
                (scale, 1.0 / 0.9 * self._sides_m[scale] / min(picture.size)) for scale in range(len(self._sides_m))
            ]
        else:
            gsd = 2.0 * float(agl_m) * math.tan(math.radians(hfov) / 2.0) / picture.size[0]
            if not (math.isfinite(gsd) and gsd > 0):
                raise BuilderError("image_invalid", "height and field of view must be positive")
            plans = [(self.scale_for(picture.size, gsd), gsd)]
        best: Dict[int, Match] = {}
        for scale, gsd in plans:
            crops = [upright_crop(picture, heading, self._sides_m[scale] / gsd, head.window_px) for heading in headings]
            for raw in head.describe(np.stack(crops)):
                for match in self.search(raw, near=near, scales=[scale], top=top):
                    if match.row not in best or best[match.row].score < match.score:
                        best[match.row] = match
        return sorted(best.values(), key=lambda m: (-m.score, m.row))[:top]

    def scale_for(self, size_px: Tuple[int, int], gsd_m: float) -> int:
        """The largest scale of whose square the picture has three quarters (it is turned anyhow), else the least."""
        width, height = (side * gsd_m for side in size_px)
        populated = [k for k, (first, last) in enumerate(self._ranges) if last > first]
        sides = self._sides_m
        fitting = [k for k in populated if min(width, sides[k]) * min(height, sides[k]) >= 0.75 * sides[k] ** 2]
        return max(fitting) if fitting else populated[0]


def upright_crop(picture: Image.Image, heading_deg: float, side_px: float, size_px: int) -> Any:
    """The centre of a picture turned north up, a square of `side_px` of its pixels, resampled to `size_px`."""
    side = max(8, int(round(side_px)))
    # first shrink, then turn: a crop far larger than the model's input need not be turned at full size
    factor = min(1.0, 2.0 * size_px / side)
    if factor < 1.0:
        picture = picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))), 1)
        side = max(8, int(round(side * factor)))
    reach = int(math.ceil(side * 0.75)) + 2
    cx, cy = picture.width / 2.0, picture.height / 2.0
    left, top, right, bottom = (int(round(v)) for v in (cx - reach, cy - reach, cx + reach, cy + reach))
    # the enumeration is older than its home: Pillow 9.0 has the constant in the module alone
    bilinear: Any = getattr(Image, "Resampling", Image).BILINEAR
    # PIL turns counter-clockwise for positive angles; a picture taken on heading h is turned clockwise by h
    turned = picture.convert("RGBA").crop((left, top, right, bottom)).rotate(-heading_deg, resample=bilinear)
    start = reach - side // 2
    return resample(np.asarray(turned.crop((start, start, start + side, start + side))), size_px)[0]


def _picture(image: Any) -> Image.Image:
    try:
        if isinstance(image, (str, Path)):
            with Image.open(image, formats=("JPEG", "PNG", "WEBP", "TIFF")) as opened:
                opened.load()
                return opened.convert("RGB")
        if isinstance(image, Image.Image):
            return image.convert("RGB")
        array = np.asarray(image)
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and min(array.shape[:2]) >= 16:
            return Image.fromarray(np.ascontiguousarray(array))
    except Exception as error:  # decoders raise nearly anything on damaged input
        raise BuilderError("image_invalid", "the picture cannot be read: %s" % type(error).__name__) from error
    raise BuilderError("image_invalid", "the picture must be uint8, height x width x 3, at least 16 pixels a side")


def replay_probes(index: Index) -> Dict[str, Any]:
    """Describe the index's reference pictures again and search with them; what an airborne program does before arming.

    Returns:
        `probes`: how many; `cos_min`: least similarity with the stored descriptors; `rows_agree`: how many find their
        own row again.
    """
    try:
        pictures = np.load(index.path / "probes.npy", allow_pickle=False)
        expected = np.load(index.path / "probe_vectors.npy", allow_pickle=False)
        rows = np.load(index.path / "probe_rows.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BuilderError("index_invalid", "the index %s has no sound reference pictures" % index.path) from error
    found = index.head().describe(pictures)
    cosines = (found * expected).sum(axis=1)
    agree = 0
    for vector, row in zip(found, rows):
        best = index.search(vector, top=1, scales=[int(index.rows_meta[int(row)]["scale"])])
        # equal windows (two clear fields) may stand for each other
        agree += bool(best) and (best[0].row == int(row) or best[0].score > 0.999)
    return {"probes": len(rows), "cos_min": round(min(1.0, float(cosines.min())), 4), "rows_agree": agree}


def open_index(path: Union[str, Path], *, verify: bool = False) -> Index:
    """Open an index folder.

    Args:
        path: the folder.
        verify: hold every file against its hash first.

    Raises:
        BuilderError: `index_invalid`.
    """
    if verify:
        verify_files(Path(path))
    return Index(Path(path))
