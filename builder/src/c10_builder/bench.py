# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""``c10-builder bench``: how often real photos are found on a real map, beside baselines in the same run.

The map is built by the ordinary build; every model, baselines included, sees the same windows and photos. A hit
is a window whose centre lies within one window side of the photo's true centre. Chance is the share of searched
windows that would be hits. Each photo is looked up as its table says, and nine times with heading and scale off by a
little either way: sets of some dozens of photos say little, and the mean of the nine says it more steadily. So does
the mean over several grids of windows.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from ._build import Build
from ._describe import described
from ._errors import BuilderError
from ._geo import WORLD_M, Polygons, ground_distance_m, lonlat_of, mercator_of, mercator_stretch
from ._head import Head
from ._index import Index, Near, upright_crop
from ._lite0 import Lite0Vlad, generalised_mean
from ._pmtiles import PmtilesReader
from ._request import BuildRequest, Camera, Settings, TakeOff
from ._screen import scan, screen
from ._throughput import throughput
from ._vlad import unit_rows
from ._voice import Voice
from ._windows import make_plan

__all__ = ["Photo", "bench", "read_photos", "wilson"]

_RANKS = (1, 5, 10)
#: What the nine looks of a photo are off by: degrees of heading, share of scale. The first is as the table says.
_HEADING_ERROR_DEG, _SCALE_ERROR = 8.0, 0.1
_LOOKS = sorted(
    ((turn, scale) for turn in (-1, 0, 1) for scale in (-1, 0, 1)), key=lambda look: abs(look[0]) + abs(look[1])
)
_HFOV_DEG = 65.0
#: Window sizes as shares of what the photos see. Where the windows happen to lie decides about one photo in ten: the
#: mean over several grids of them says more than any single one.
_GRIDS = (1.0, 0.97, 1.03, 0.985, 1.015)
_BASELINE_PX = 224


@dataclass(frozen=True)
class Photo:
    """A photo with its truth: heading of its upper edge, metres a pixel on the ground, centre."""

    path: Path
    heading_deg: float
    gsd_m: float
    lat_deg: float
    lon_deg: float


def read_photos(table: Path) -> List[Photo]:
    """From a CSV of file, heading_deg, gsd_m, lat_deg, lon_deg; files are relative to the table."""
    try:
        with open(table, newline="", encoding="utf-8") as stream:
            return [
                Photo(
                    table.parent / row["file"], float(row["heading_deg"]), float(row["gsd_m"]),
                    float(row["lat_deg"]), float(row["lon_deg"]),
                )
                for row in csv.DictReader(stream)
            ]  # fmt: skip
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BuilderError("bad_request", "the table of photos %s is not usable: %r" % (table, error)) from error


def wilson(hits: float, count: int, z: float = 1.96) -> Tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson, JASA 1927)."""
    if not count:
        return 0.0, 1.0
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - reach), min(1.0, middle + reach)


class Thumbnail(Head):
    """Baseline: the picture shrunk to 16 x 16 greys, mean removed."""

    id, sha256, dim, window_px = "thumbnail", "0" * 64, 256, _BASELINE_PX

    def describe(self, pictures: Any) -> Any:
        """See `Head.describe`."""
        small = [
            np.asarray(Image.fromarray(p).convert("L").resize((16, 16), 4), dtype=np.float32).ravel() for p in pictures
        ]
        rows = np.stack(small)
        return unit_rows(rows - rows.mean(axis=1, keepdims=True)).astype(np.float32)


class Gem(Head):
    """Baseline: generalised mean (p = 3) of the same backbone's features (Radenovic et al., TPAMI 2019)."""

    id, sha256, dim, window_px = "lite0-gem", "0" * 64, 112, _BASELINE_PX

    def __init__(self, threads: int) -> None:
        self._features = Lite0Vlad().features
        self._pool = ThreadPoolExecutor(max_workers=threads)

    def describe(self, pictures: Any) -> Any:
        """See `Head.describe`."""
        means = self._pool.map(lambda picture: generalised_mean(self._features(picture)), pictures)
        return np.stack(list(means)).astype(np.float32)


class _Flat:
    """A baseline's index: raw float rows, searched exactly; the shape of `Index` as far as `_score` needs it."""

    def __init__(self, like: Index, raw: Any, kept: Any) -> None:
        self.rows_meta, self._raw, self._like = like.rows_meta, raw[kept], like

    def rank(self, descriptor: Any, near: Optional[Near], scale: int) -> Any:
        first, last = self._like.meta["scales"][scale]["rows"]
        rows = np.arange(first, last)
        if near is not None:
            mx, my = mercator_of(lon_deg=near.lon_deg, lat_deg=near.lat_deg)
            part = self.rows_meta[first:last]
            reach = near.radius_m * mercator_stretch(near.lat_deg)
            rows = rows[np.hypot(part["mx_m"] - mx, part["my_m"] - my) <= reach]
        return rows[np.argsort(-(self._raw[rows] @ descriptor), kind="stable")]


def _ranked(index: Any, descriptor: Any, near: Optional[Near], scale: int) -> Any:
    if isinstance(index, _Flat):
        return index.rank(descriptor, near, scale)
    return np.array(
        [m.row for m in index.search(descriptor, near=near, scales=[scale], top=len(index))], dtype=np.int64
    )


def _priors(photos: Sequence[Photo], radius_m: float) -> List[Near]:
    """A prior for each photo, its centre off by up to half the radius; the same for every model."""
    found = []
    for k, photo in enumerate(photos):
        rng = np.random.RandomState(k)
        angle, away = rng.rand() * 2 * math.pi, radius_m / 2 * math.sqrt(rng.rand())
        stretch = mercator_stretch(photo.lat_deg)
        mx, my = mercator_of(lon_deg=photo.lon_deg, lat_deg=photo.lat_deg)
        lon, lat = lonlat_of(mx + away * stretch * math.cos(angle), my + away * stretch * math.sin(angle))
        found.append(Near(lat_deg=lat, lon_deg=lon, radius_m=radius_m))
    return found


def _request(
    archive: Path, photos: Sequence[Photo], model: str, folder: Path, settings: Settings, size: float
) -> BuildRequest:
    """A request over the whole map, for a camera that sees `size` times what the photos see."""
    with PmtilesReader(archive) as reader:
        places = [(e.z, e.x, e.y) for e in reader.entries()]
    zoom = max(z for z, _x, _y in places)
    columns, lines = [x for z, x, _y in places if z == zoom], [y for z, _x, y in places if z == zoom]
    unit = WORLD_M / (1 << zoom)
    west, north = lonlat_of((min(columns) + 0.01) * unit, (min(lines) + 0.01) * unit)
    east, south = lonlat_of((max(columns) + 0.99) * unit, (max(lines) + 0.99) * unit)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    # a square of the photo's shorter side: the largest that fits whatever the heading
    sides = []
    for photo in photos:
        with Image.open(photo.path) as image:
            sides.append(size * math.sqrt(image.size[0] * image.size[1] / 1.34) * photo.gsd_m)
    low, high = (float(np.percentile(sides, q)) for q in (10, 90))
    per_m = 2 * math.tan(math.radians(_HFOV_DEG) / 2)
    return BuildRequest(
        run_id="bench", nonce="bench", flight_id="bench", archive_path=archive,
        archive_sha256=hashlib.sha256(archive.read_bytes()).hexdigest(), output_dir=folder / "index",
        work_dir=folder / "work", descriptor_cache_dir=None, previous_index_dir=None, area_kind="bbox",
        buffer_m=0.0, bbox=(west, south, east, north), polygons=((ring,),),
        takeoff=TakeOff(lat_deg=(south + north) / 2, lon_deg=(west + east) / 2, alt_m=0.0),
        camera=Camera(_HFOV_DEG, low / per_m, high / per_m, 1280, 960), model_id=model, settings=settings,
    )  # fmt: skip


def bench(
    archive: Path,
    table: Path,
    *,
    models: Sequence[str],
    prior_m: float,
    settings: Settings,
    voice: Voice,
    grids: int = 1,
    loop_s: float = 2.0,
) -> Dict[str, Any]:
    """Build the map with each model and look every photo up; see the module.

    Args:
        archive: the map, PMTiles.
        table: the photos; see `read_photos`.
        models: what `open_head` takes.
        prior_m: radius of the position prior.
        settings: of the builds; the ladder of window sizes is left out.
        voice: where the builds' protocol lines go.
        grids: how many grids of windows to average over, one to five.
        loop_s: how long the bare loop that throughput is held against runs at each batch size.
    """
    photos = read_photos(table)
    if not photos:
        raise BuilderError("bad_request", "the table of photos %s is empty" % table)
    priors = _priors(photos, prior_m)
    threads = settings.threads or min(4, os.cpu_count() or 1)
    settings = replace(settings, threads=threads, require_takeoff=False, ladder_below=0, ladder_above=0)
    rounds: List[List[Dict[str, Any]]] = []
    with tempfile.TemporaryDirectory(prefix="c10-bench-") as text:
        for size in _GRIDS[:grids]:
            requests = [
                _request(archive, photos, model, Path(text, str(size), str(number)), settings, size)
                for number, model in enumerate(models)
            ]
            rounds.append(_one_grid(archive, requests, photos, priors, voice))
        speed = throughput(archive, requests[-1], threads=threads, loop_s=loop_s)
    rows = [_averaged(same, len(photos)) for same in zip(*rounds)]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    return {
        "photos": len(photos),
        "prior_m": prior_m,
        "hit": "centre within one window side",
        "grids": len(rounds),
        "jitter": {"heading_deg": _HEADING_ERROR_DEG, "scale": _SCALE_ERROR, "looks": len(_LOOKS)},
        "rows": rows,
        "throughput": speed,
        "peak_rss_mb": round(peak_mb, 1),
    }


def _one_grid(
    archive: Path,
    requests: Sequence[BuildRequest],
    photos: Sequence[Photo],
    priors: Sequence[Near],
    voice: Voice,
) -> List[Dict[str, Any]]:
    """A row for each model without and with a prior, the baselines last."""
    rows: List[Dict[str, Any]] = []
    base: Optional[Index] = None
    for request in requests:
        request.work_dir.mkdir(parents=True)
        build = Build(request, voice)
        report = build.run()
        build.close()
        index = Index(request.output_dir)
        if base is None or index.meta["model"]["window_px"] == _BASELINE_PX:
            base = index
        count = max(1, report["windows"]["planned"])
        facts = {
            "windows": len(index),
            "windows_per_s": round(count / max(1e-3, report["timing_s"]["describe"]), 1),
            "index_bytes": report["artifacts"]["bytes"],
            "content_id": report["content_id"],
            "int8_delta_r1": report["quality"]["int8_delta_r1"],
            "hard_r1": report["quality"]["hard_r1"],
            "self_r1": report["quality"]["self_r1"],
            "ambiguous_ratio": report["quality"]["ambiguous_ratio"],
        }
        rows.extend(_score(request.model_id, index, index.head(), index, photos, priors, facts))
    if base is None:
        raise BuilderError("bad_request", "no model to bench")
    rows.extend(_baselines(archive, requests[-1], base, photos, priors))
    return rows


def _averaged(rows: Sequence[Dict[str, Any]], photos: int) -> Dict[str, Any]:
    """The first grid's row, with the shares found averaged over all grids."""
    row = dict(rows[0])
    for key in ["chance_r1", *("r%d%s" % (n, kind) for n in _RANKS for kind in ("", "_jittered"))]:
        row[key] = round(float(np.mean([each[key] for each in rows])), 3)
    row["r1_interval"] = [round(v, 3) for v in wilson(row["r1"] * photos, photos)]
    thirds = [each["r1_by_localisability_third"] for each in rows]
    row["r1_by_localisability_third"] = [round(float(np.mean(values)), 3) for values in zip(*thirds)]
    return row


def _baselines(
    archive: Path, request: BuildRequest, like: Index, photos: Sequence[Photo], priors: Sequence[Near]
) -> List[Dict[str, Any]]:
    rows: List[Dict[str, Any]] = []
    with PmtilesReader(archive) as reader:
        screened = screen(reader, scan(reader, progress=lambda *_: None), progress=lambda *_: None)
        plan, _notes = make_plan(
            Polygons.of_lonlat(request.polygons), screened, request.camera, request.settings, window_px=_BASELINE_PX
        )
        for head in (Gem(request.settings.threads), Thumbnail()):
            which = range(len(plan.windows))
            raw, shares = np.zeros((len(which), head.dim), dtype=np.float32), np.zeros(len(which))
            for first, part, share in described(reader, screened, plan, head, which, min_valid_ratio=0.6):
                raw[first : first + len(part)], shares[first : first + len(part)] = part, share
            kept = np.flatnonzero(shares >= 0.6)
            if len(kept) != len(like):
                raise BuilderError(
                    "internal", "the baseline saw other windows than the index; bench a model of 224 px as well"
                )
            rows.extend(_score(head.id, _Flat(like, raw, kept), head, like, photos, priors, {"windows": len(like)}))
    return rows


def _score(
    name: str,
    index: Any,
    head: Head,
    like: Index,
    photos: Sequence[Photo],
    priors: Sequence[Near],
    facts: Dict[str, Any],
) -> List[Dict[str, Any]]:
    queries: List[Tuple[int, Any]] = []
    for photo in photos:
        with Image.open(photo.path) as opened:
            image = opened.convert("RGBA")
        scale = like.scale_for(image.size, photo.gsd_m)
        side_px = like.sides_m[scale] / photo.gsd_m
        crops = [
            upright_crop(
                image,
                photo.heading_deg + turn * _HEADING_ERROR_DEG,
                side_px * (1 + step * _SCALE_ERROR),
                head.window_px,
            )
            for turn, step in _LOOKS
        ]
        queries.append((scale, head.describe(np.stack(crops))))
    out = []
    for prior in (False, True):
        hits, jittered = dict.fromkeys(_RANKS, 0), dict.fromkeys(_RANKS, 0)
        chance, times, far = 0.0, [], []
        ranks_by_place: List[Tuple[float, float]] = []
        for photo, near, (scale, looks) in zip(photos, priors, queries):
            within = near if prior else None
            started = time.perf_counter()
            if isinstance(index, Index):
                # what a flight asks for; the whole order below is for the figures alone
                index.search(looks[0], near=within, scales=[scale], top=10)
            else:
                _ranked(index, looks[0], within, scale)
            times.append(time.perf_counter() - started)
            mx, my = mercator_of(lon_deg=photo.lon_deg, lat_deg=photo.lat_deg)
            first_hits = 0
            for k, descriptor in enumerate(looks):
                order = _ranked(index, descriptor, within, scale)
                part = like.rows_meta[order]
                distance = ground_distance_m(part["mx_m"], part["my_m"], mx, my, photo.lat_deg)
                good = distance <= like.sides_m[scale]
                for n in _RANKS:
                    jittered[n] += bool(good[:n].any())
                first_hits += bool(good[:1].any())
                if k == 0:
                    chance += float(good.mean()) if len(good) else 0.0
                    far.append(float(distance[0]) if len(distance) else float("nan"))
                    for n in _RANKS:
                        hits[n] += bool(good[:n].any())
                    nearest = like.rows_meta[order[int(np.argmin(distance))]] if len(distance) else None
            if nearest is not None:
                ranks_by_place.append((float(nearest["localisability"]), first_hits / len(looks)))
        count = len(photos)
        row: Dict[str, Any] = {"model": name, "prior": prior, "chance_r1": round(chance / count, 3)}
        for n in _RANKS:
            row["r%d" % n] = round(hits[n] / count, 3)
            row["r%d_jittered" % n] = round(jittered[n] / count / len(_LOOKS), 3)
        row["median_error_m"] = round(float(np.nanmedian(far)), 1)
        row["query_ms_p50"], row["query_ms_p95"] = (round(1e3 * float(np.percentile(times, q)), 2) for q in (50, 95))
        ranks_by_place.sort(key=lambda pair: pair[0])
        third = max(1, len(ranks_by_place) // 3)
        row["r1_by_localisability_third"] = [
            round(float(np.mean([hit for _value, hit in part])), 3)
            for part in (ranks_by_place[:third], ranks_by_place[third:-third], ranks_by_place[-third:])
            if part
        ]
        out.append(dict(row, **facts))
    return out
