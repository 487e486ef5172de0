# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The build: preflight, scan, screen, plan, engine, describe, fit and pack, gate, publish."""

from __future__ import annotations

import hashlib
import math
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from . import _gates
from ._cache import DescriptorCache
from ._describe import described
from ._errors import BuilderError
from ._follow import LINES_NAME, hold
from ._geo import WORLD_M, Polygons, lonlat_of, mercator_of, mercator_stretch
from ._hard import hard_places, hard_recall
from ._heads import Head, open_head
from ._identity import decoder_version, identities, package_of, write_binding
from ._index import META_DTYPE, NEAR_BLOCK_ROWS, Index, replay_probes, verify_files
from ._localise import localisability, map_files, thirds
from ._pack import Rows, fit_pca, project, project_all, quantise
from ._pmtiles import PmtilesReader
from ._publish import canonical, discard, file_table, publish, save_array, storage_error, write_file
from ._report import empty_report
from ._request import BuildRequest
from ._screen import Screened, TileCache, scan, screen
from ._session import Runtime
from ._verdicts import Verdicts
from ._version import CODE_VERSION, INDEX_SCHEMA, __version__
from ._voice import Voice
from ._windows import Plan, Window, cut_window, make_plan, tiles_of_area

__all__ = ["Build"]

_BLOCK_ROWS = 4096
#: Above this many rows the cost of int8 is not measured: it needs every row as float.
_FLOAT_CHECK_ROWS = 50_000
_DISK_RESERVE_BYTES = 64 * 1024 * 1024


class Build:
    """One build. `run` returns normally on success; `report` is filled as far as things went either way."""

    def __init__(self, request: BuildRequest, voice: Voice) -> None:
        self.request = request
        self.voice = voice
        self.report = empty_report(request.run_id, request.nonce)
        self.report["flight_id"] = request.flight_id
        self._started_at = time.monotonic()
        self._phase_at: Tuple[str, float] = ("preflight", self._started_at)
        self._staged = request.output_dir.parent / (".%s.c10-partial" % request.output_dir.name)
        self._lock_stream: Any = None

    # -- frame ------------------------------------------------------------------------------------------------------

    def run(self) -> Dict[str, Any]:
        """Build.

        Raises:
            BuilderError: every failure that has a name.
        """
        try:
            self._run()
        except MemoryError as error:
            raise BuilderError(
                "out_of_memory", "memory ran out", hint="stop other programs, or split the area"
            ) from error
        except OSError as error:
            raise storage_error(error, Path(error.filename or self.request.work_dir)) from error
        finally:
            discard(self._staged)
            self._finish()
        return self.report

    def close(self) -> None:
        """Let go of the work folder; after the report, so that who follows the build sees it."""
        if self._lock_stream is not None:
            self._lock_stream.close()

    def _phase(self, name: str) -> None:
        now = time.monotonic()
        previous, since = self._phase_at
        timing = self.report["timing_s"]
        timing[previous] = round(timing.get(previous, 0.0) + now - since, 3)
        self._phase_at = (name, now)
        self.voice.phase(name)

    def _finish(self) -> None:
        now = time.monotonic()
        timing = self.report["timing_s"]
        timing[self._phase_at[0]] = round(timing.get(self._phase_at[0], 0.0) + now - self._phase_at[1], 3)
        timing["total"] = round(now - self._started_at, 3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.report["resources"]["peak_rss_mb"] = round(
            peak / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0), 1
        )
        self.report["warnings"] = self.voice.warnings

    def _run(self) -> None:
        request = self.request
        self.voice.phase("preflight")
        self._preflight()
        self._phase("scan")
        with PmtilesReader(request.archive_path) as archive:
            self._check_archive()
            known = Verdicts(
                request.descriptor_cache_dir or request.work_dir,
                key="%s|%s" % (CODE_VERSION, decoder_version()),
                archive_sha256=request.archive_sha256,
            )

            def progress(done: int, total: int) -> None:
                self.voice.progress(done, total, "tiles")

            tiles = scan(archive, hashes=known.hashes, progress=progress)
            self._phase("screen")
            screened = screen(archive, tiles, known=known.verdicts, progress=progress)
            known.save()
            self._phase("engine")
            head = self._engine()
            self._phase("plan")
            area = Polygons.of_lonlat(request.polygons)
            plan, notes = make_plan(area, screened, request.camera, request.settings, window_px=head.window_px)
            for code, text in notes:
                self.voice.warn(code, text)
            self._coverage(area, screened, plan)
            digests, content_id, package_id = identities(request, plan, screened, head)
            self.report["content_id"], self.report["package_id"] = content_id, package_id
            if self._settled(content_id, package_id):
                return
            self._phase("describe")
            raw, shares = self._describe(archive, screened, plan, head, digests)
            self._phase("fit")
            self._stage(area, plan, screened, head, raw, shares, content_id, package_id)
            self._phase("gate")
            self._gate(archive, screened, plan, raw, shares, content_id)
        self._phase("publish")
        self._check_archive()
        publish(self._staged, request.output_dir)
        self._artifacts(request.output_dir)
        self.report["outcome"] = "success"

    # -- phases -----------------------------------------------------------------------------------------------------

    def _preflight(self) -> None:
        request = self.request
        for folder in (request.work_dir, request.output_dir.parent):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise storage_error(error, folder) from error
        self._lock_stream = hold(request.work_dir)
        self.voice.record(request.work_dir / LINES_NAME)
        free = min(shutil.disk_usage(str(folder)).free for folder in (request.work_dir, request.output_dir.parent))
        if free < _DISK_RESERVE_BYTES:
            raise BuilderError(
                "disk_full",
                "only %d MB are free on the companion" % (free // 1_000_000),
                hint="free at least 64 MB",
                retryable=True,
            )
        discard(self._staged)

    def _check_archive(self) -> None:
        digest = hashlib.sha256()
        with open(self.request.archive_path, "rb") as stream:
            for part in iter(lambda: stream.read(1 << 20), b""):
                digest.update(part)
        if digest.hexdigest() != self.request.archive_sha256:
            raise BuilderError(
                "archive_changed" if self.report["content_id"] else "archive_hash_mismatch",
                "the tile archive %s is not the one the request names" % self.request.archive_path,
                hint="send the archive again",
                retryable=True,
            )

    def _engine(self) -> Head:
        settings = self.request.settings
        threads = settings.threads or min(4, os.cpu_count() or 1)
        keep = self.request.descriptor_cache_dir or self.request.work_dir
        head = open_head(self.request.model_id, Runtime(threads, settings.provider, keep / "engines"))
        if head.provider["fallback_reason"]:
            self.voice.warn("provider_fallback", "%(requested)s is not used: %(fallback_reason)s" % head.provider)
        self.report["model"] = {"id": head.id, "sha256": head.sha256}
        self.report["provider"] = dict(head.provider)
        self._parity_cos_min = head.parity_cos_min
        self.report["resources"]["threads"] = threads
        return head

    def _coverage(self, area: Polygons, screened: Screened, plan: Plan) -> None:
        tiles = self.report["tiles"]
        for zoom in sorted({scale.zoom for scale in plan.scales}):
            for x, y in tiles_of_area(area, zoom):
                tiles["in_area"] += 1
                tile = screened.tiles.get((zoom, x, y))
                verdict = "missing" if tile is None else screened.verdicts[tile.sha256].split(":")[0]
                tiles[verdict] += 1
                if tile is not None:
                    tiles["bytes"] += tile.length
                    if verdict == "corrupt":
                        self.voice.warn(
                            "tile_corrupt", "tile %d/%d/%d: %s" % (zoom, x, y, screened.verdicts[tile.sha256])
                        )
        covered = (tiles["ok"] + tiles["blank"]) / max(1, tiles["in_area"])
        takeoff = self.request.takeoff
        mx, my = mercator_of(lon_deg=takeoff.lon_deg, lat_deg=takeoff.lat_deg)
        corrupt_there = takeoff_ok = False
        for zoom in sorted({scale.zoom for scale in plan.scales}):
            key = (zoom, int(mx / WORLD_M * (1 << zoom)), int(my / WORLD_M * (1 << zoom)))
            takeoff_ok = takeoff_ok or screened.usable(key) is not None
            tile = screened.tiles.get(key)
            corrupt_there = corrupt_there or (tile is not None and screened.verdicts[tile.sha256].startswith("corrupt"))
        stretch = mercator_stretch(self._latitude(area))
        self.report["coverage"].update(
            area_km2=round(area.area_m2 / stretch**2 / 1e6, 4),
            covered_ratio=round(covered, 4),
            takeoff_covered=takeoff_ok,
        )
        settings = self.request.settings
        if tiles["missing"]:
            self.voice.warn(
                "tiles_missing", "%d of the area's %d tiles are missing" % (tiles["missing"], tiles["in_area"])
            )
        if tiles["placeholder"]:
            self.voice.warn("tiles_placeholder", "%d tiles show the provider's placeholder" % tiles["placeholder"])
        if corrupt_there or tiles["corrupt"] > settings.max_corrupt_ratio * tiles["in_area"]:
            raise BuilderError(
                "tiles_corrupt",
                "%d of the area's %d tiles cannot be decoded%s"
                % (tiles["corrupt"], tiles["in_area"], ", one of them at the take-off point" if corrupt_there else ""),
                hint="download those tiles again",
            )
        if covered < settings.min_covered_ratio:
            raise BuilderError(
                "coverage_too_low",
                "readable tiles cover only %.0f %% of the area" % (100 * covered),
                hint="complete the download, or lower settings.min_covered_ratio",
            )
        if not takeoff_ok:
            text = "the take-off point %.6f, %.6f has no readable imagery" % (takeoff.lat_deg, takeoff.lon_deg)
            if settings.require_takeoff:
                raise BuilderError("takeoff_not_covered", text, hint="check the take-off point and the area's buffer")
            self.voice.warn("takeoff_not_covered", text)

    @staticmethod
    def _latitude(area: Polygons) -> float:
        x0, y0, x1, y1 = area.bounds
        return lonlat_of((x0 + x1) / 2, (y0 + y1) / 2)[1]

    @staticmethod
    def _windows_latitude(plan: Plan) -> float:
        """Latitude of the windows' middle: from the windows, not the area, so that the content is theirs alone."""
        bounds = np.array([window.bounds(plan.tile_px) for window in plan.windows])
        return lonlat_of(0.0, float(bounds[:, 1].min() + bounds[:, 3].max()) / 2)[1]

    def _settled(self, content_id: str, package_id: str) -> bool:
        """Whether an earlier index already is this one; it is then used again, with a new binding where need be."""
        request = self.request
        if request.output_dir.exists():
            try:
                meta = verify_files(request.output_dir)
            except BuilderError as error:
                raise BuilderError(
                    "output_exists",
                    "the output folder %s exists and is no sound index" % request.output_dir,
                    hint=error.message,
                ) from error
            if meta.get("content_id") == content_id and package_of(request.output_dir) == package_id:
                self._reuse_report(request.output_dir, "idempotent_no_op")
                return True
            raise BuilderError("output_exists", "the output folder %s holds another index" % request.output_dir)
        previous = request.previous_index_dir
        if previous is None or not (previous / "index.json").exists():
            return False
        try:
            meta = verify_files(previous)
        except BuilderError as error:
            self.voice.warn("previous_index_unusable", error.message)
            return False
        if meta.get("content_id") != content_id:
            return False
        self._phase("publish")
        same = package_of(previous) == package_id
        self._staged.mkdir()
        for name in sorted(meta["files"]):
            write_file(self._staged / name, (previous / name).read_bytes())
        write_file(self._staged / "index.json", (previous / "index.json").read_bytes())
        write_binding(request, self._staged, content_id, package_id)
        verify_files(self._staged)
        publish(self._staged, request.output_dir)
        self.report["rebind_only"] = not same
        self._reuse_report(request.output_dir, "idempotent_no_op" if same else "success")
        return True

    def _reuse_report(self, folder: Path, outcome: str) -> None:
        meta = Index(folder).meta
        self.report["quality"].update(meta.get("quality", {}))
        self.report["coverage"].update(meta.get("coverage", {}))
        rows = int(meta["rows"])
        self.report["windows"] = {
            "planned": int(meta["planned"]),
            "described": 0,
            "reused": rows,
            "excluded": int(meta["planned"]) - rows,
        }
        self._artifacts(folder)
        self.report["outcome"] = outcome

    def _describe(
        self, archive: PmtilesReader, screened: Screened, plan: Plan, head: Head, digests: List[bytes]
    ) -> Tuple[Any, Any]:
        count = len(plan.windows)
        raw = np.lib.format.open_memmap(
            str(self.request.work_dir / "raw.npy"), mode="w+", dtype=np.float32, shape=(count, head.dim)
        )
        shares = np.zeros(count, dtype=np.float32)
        folder = self.request.descriptor_cache_dir or self.request.work_dir / "descriptors"
        store = DescriptorCache(folder, model_sha256=head.sha256, dim=head.dim)
        try:
            todo: List[int] = []
            for k, digest in enumerate(digests):
                if digest in store:
                    raw[k], shares[k] = store.get(digest)
                else:
                    todo.append(k)
            self.report["windows"].update(planned=count)
            reused = count - len(todo)
            self.voice.progress(reused, count, "windows")
            for first, pictures, part in described(
                archive, screened, plan, head, todo, min_valid_ratio=self.request.settings.min_valid_ratio
            ):
                ks = todo[first : first + len(part)]
                store.add([(digests[k], float(share), row) for k, share, row in zip(ks, part, pictures)])
                raw[ks], shares[ks] = pictures, part
                self.voice.progress(reused + first + len(part), count, "windows")
            self._fresh = np.zeros(count, dtype=bool)
            self._fresh[todo] = True
        finally:
            store.close()
        return raw, shares

    def _stage(
        self,
        area: Polygons,
        plan: Plan,
        screened: Screened,
        head: Head,
        raw: Any,
        shares: Any,
        content_id: str,
        package_id: str,
    ) -> None:
        settings = self.request.settings
        # a window without a single feature (a roof of cloud, one clean field) has no descriptor to be found by
        featured = shares >= settings.min_valid_ratio
        for start in range(0, len(raw), _BLOCK_ROWS):
            featured[start : start + _BLOCK_ROWS] &= np.any(raw[start : start + _BLOCK_ROWS], axis=1)
        kept = np.flatnonzero(featured)
        windows = self.report["windows"]
        windows["excluded"] = len(shares) - len(kept)
        windows["described"] = int(self._fresh[kept].sum())
        windows["reused"] = len(kept) - windows["described"]
        if len(kept) < 2:
            raise BuilderError(
                "nothing_to_describe",
                "of %d windows only %d hold enough imagery to be described" % (len(shares), len(kept)),
                hint="the map is empty, black or too coarse here; check the tile source",
            )
        self._kept = kept
        compact = Rows(raw, kept)
        figures, findings = _gates.degeneracy(compact)
        self.report["quality"].update(figures)
        self._act_on(findings)
        basis = fit_pca(compact, settings.dims)
        if len(kept) < settings.dims:
            self.voice.warn(
                "pca_few_rows",
                "%d windows give %d axes instead of %d; nothing is lost" % (len(kept), basis.shape[1], settings.dims),
            )
        coded = np.empty((len(kept), basis.shape[1]), dtype=np.int8)
        facts = np.zeros(len(kept), dtype=META_DTYPE)
        for start, part in project_all(compact, basis):
            stop = start + len(part)
            coded[start:stop], facts["inv_length"][start:stop] = quantise(part)
        latitude = self._windows_latitude(plan)
        for row, k in enumerate(kept):
            window = plan.windows[k]
            x0, y0, x1, y1 = window.bounds(plan.tile_px)
            facts[row]["mx_m"], facts[row]["my_m"] = (x0 + x1) / 2, (y0 + y1) / 2
            facts[row]["side_m"] = window.scale.side_m
            facts[row]["scale"] = window.scale.index
            facts[row]["valid"] = int(round(float(shares[k]) * 255))
            facts[row]["localisability"] = np.nan
        ranges = [
            (int(np.searchsorted(facts["scale"], k)), int(np.searchsorted(facts["scale"], k, "right")))
            for k in range(len(plan.scales))
        ]
        stretch = mercator_stretch(latitude)
        facts["localisability"], look_alike, neighbour = localisability(coded, facts, ranges, stretch=stretch)
        blocks = np.array(
            [
                [part["mx_m"].min(), part["my_m"].min(), part["mx_m"].max(), part["my_m"].max()]
                for part in (facts[s : s + NEAR_BLOCK_ROWS] for s in range(0, len(facts), NEAR_BLOCK_ROWS))
            ]
        )
        self._staged.mkdir()
        for name, data in head.files.items():
            write_file(self._staged / name, data)
        save_array(self._staged / "rows.npy", coded)
        save_array(self._staged / "meta.npy", facts)
        save_array(self._staged / "blocks.npy", blocks)
        save_array(self._staged / "pca_basis.npy", basis)
        self._write_localisability(plan, facts, look_alike, neighbour, ranges)
        coverage = self._describable(area, plan, kept)
        self.report["coverage"]["describable_ratio"] = coverage
        self._meta: Dict[str, Any] = {
            "schema_version": INDEX_SCHEMA,
            "builder": __version__,
            "code_version": CODE_VERSION,
            "content_id": content_id,
            "model": {"id": head.id, "sha256": head.sha256, "window_px": head.window_px, "dim": head.dim},
            "decoder": decoder_version(),
            "latitude_deg": latitude,
            "camera": {
                "hfov_deg": self.request.camera.hfov_deg,
                "agl_m": [self.request.camera.agl_min_m, self.request.camera.agl_max_m],
                "width_px": self.request.camera.width_px,
                "height_px": self.request.camera.height_px,
            },
            "rows": len(kept),
            "planned": len(shares),
            "dims": int(basis.shape[1]),
            "tile_px": plan.tile_px,
            "scales": [
                {
                    "side_m": scale.side_m,
                    "zoom": scale.zoom,
                    "side_px": scale.side_px,
                    "stride_px": scale.stride_px,
                    "gsd_m": scale.gsd_m,
                    "rows": list(ranges[scale.index]),
                }
                for scale in plan.scales
            ],
            "settings": self.request.settings.content(),
            "localisability": self._localisability,
            "calibration": {},
        }
        self._package_id = package_id
        self._seal()

    def _write_localisability(
        self, plan: Plan, facts: Any, look_alike: Any, neighbour: Any, ranges: List[Tuple[int, int]]
    ) -> None:
        """The map of the middle scale, and what it says about the whole."""
        populated = [k for k, (first, last) in enumerate(ranges) if last > first]
        middle = populated[len(populated) // 2]
        scale = plan.scales[middle]
        unit = WORLD_M / (plan.tile_px << scale.zoom)
        raster, place, zones = map_files(facts, ranges[middle], stride_m=scale.stride_px * unit)
        write_file(self._staged / "localisability.png", raster)
        write_file(self._staged / "localisability.geojson", canonical(zones))
        values = facts["localisability"][slice(*ranges[middle])]
        # a place is ambiguous when something farther away looks more like it than any window overlapping it
        both = np.isfinite(look_alike[slice(*ranges[middle])]) & np.isfinite(neighbour[slice(*ranges[middle])])
        wins = (look_alike > neighbour)[slice(*ranges[middle])][both]
        ambiguous = float(wins.mean()) if len(wins) else None
        self._localisability: Dict[str, Any] = {"scale": middle, "levels": thirds(values), "raster": place}
        self._look_alike = look_alike[np.isfinite(look_alike)]
        if ambiguous is not None:
            self.report["quality"]["ambiguous_ratio"] = round(ambiguous, 4)
            self.report["coverage"]["localisable_ratio"] = round(1 - ambiguous, 4)
            if ambiguous > 0.2:
                self.voice.warn(
                    "ambiguous",
                    "%.0f %% of the map has a look-alike elsewhere on it; see localisability.geojson"
                    % (100 * ambiguous),
                )

    def _seal(self) -> None:
        """Write index.json over the files as they are, and the binding over index.json."""
        self._meta["files"] = file_table(self._staged)
        write_file(self._staged / "index.json", canonical(self._meta))
        write_binding(self.request, self._staged, self._meta["content_id"], self._package_id)

    def _describable(self, area: Polygons, plan: Plan, kept: Any) -> float:
        """Share of the area's smallest-scale cells that have a described window."""
        for scale in plan.scales:
            planned = sum(1 for window in plan.windows if window.scale.index == scale.index)
            if planned:
                described = sum(1 for k in kept if plan.windows[k].scale.index == scale.index)
                return round(described / planned, 4)
        return 0.0

    def _gate(
        self, archive: PmtilesReader, screened: Screened, plan: Plan, raw: Any, shares: Any, content_id: str
    ) -> None:
        """Gates on the artefacts as opened again from disk."""
        index = Index(self._staged)
        self._georeference(index, plan)
        rows = _gates.evenly(len(index), 48)
        cache = TileCache(archive, screened)
        size = index.meta["model"]["window_px"]
        pictures = [cut_window(plan.windows[self._kept[row]], cache, plan.tile_px, size)[0] for row in rows]
        figures, findings, copies = _gates.self_retrieval(
            index, pictures, rows, latitude_deg=index.meta["latitude_deg"], seed=int(content_id[:7], 16)
        )
        self.report["quality"].update(figures)
        if len(index) < _gates.GATE_ROWS_MIN:
            self.voice.warn(
                "gates_not_binding", "%d windows are too few for the quality gates to refuse a build" % len(index)
            )
        self._act_on(findings)
        self._calibrate(index, raw, rows, pictures, copies)
        hard = hard_recall(index, plan, self._kept, cache, seed=int(content_id[:7], 16), places=hard_places(len(index)))
        self.report["quality"]["hard_r1"] = None if math.isnan(hard) else round(hard, 4)
        self._meta["quality"] = {key: value for key, value in self.report["quality"].items() if value is not None}
        self._meta["coverage"] = {
            key: self.report["coverage"][key] for key in ("describable_ratio", "localisable_ratio")
        }
        del self._meta["files"]
        self._seal()
        verify_files(self._staged)

    def _calibrate(self, index: Index, raw: Any, rows: Any, pictures: List[Any], descriptors: Any) -> None:
        """What a score means on this map, what int8 costs, and the probes an airborne program replays before arming."""
        head = index.head()
        genuine, agree, agree_float = [], 0, 0
        basis = np.load(self._staged / "pca_basis.npy", allow_pickle=False)
        exact: Any = None
        if len(index) <= _FLOAT_CHECK_ROWS:
            exact = np.concatenate([part for _start, part in project_all(Rows(raw, self._kept), basis)])
        queries = project(descriptors, basis)
        for query, descriptor, row in zip(queries, descriptors, rows):
            facts = index.rows_meta[int(row)]
            first, last = index.meta["scales"][int(facts["scale"])]["rows"]
            best = index.search(descriptor, top=1, scales=[int(facts["scale"])])[0]
            near = float(facts["side_m"]) * mercator_stretch(index.meta["latitude_deg"])
            hit = self._apart(index, best.row, int(row)) <= near
            agree += hit
            if hit:
                genuine.append(best.score)
            if exact is not None:
                pick = first + int(np.argmax(exact[first:last] @ query))
                agree_float += self._apart(index, pick, int(row)) <= near
        if exact is not None:
            self.report["quality"]["int8_delta_r1"] = round((agree - agree_float) / len(rows), 4)
        impostor = self._look_alike if len(self._look_alike) else np.zeros(1, dtype=np.float32)
        good = np.array(genuine if genuine else [0.0])
        self._meta["calibration"] = {
            "look_alike_p50": round(float(np.percentile(impostor, 50)), 4),
            "look_alike_p99": round(float(np.percentile(impostor, 99)), 4),
            "copy_p05": round(float(np.percentile(good, 5)), 4),
            "copy_p50": round(float(np.percentile(good, 50)), 4),
            "copies": len(genuine),
        }
        picks = _gates.evenly(len(rows), 8)
        probes = np.stack([pictures[k] for k in picks])
        save_array(self._staged / "probes.npy", probes)
        save_array(self._staged / "probe_vectors.npy", head.describe(probes))
        save_array(self._staged / "probe_rows.npy", rows[picks].astype(np.int64))
        figures = replay_probes(Index(self._staged))
        self.report["quality"]["parity_cos_min"] = min(figures["cos_min"], round(self._parity_cos_min, 4))
        if figures["cos_min"] < 0.999 or figures["rows_agree"] < figures["probes"]:
            raise BuilderError(
                "descriptors_degenerate", "the reference pictures do not give the stored descriptors again"
            )

    @staticmethod
    def _apart(index: Index, one: int, other: int) -> float:
        a, b = index.rows_meta[one], index.rows_meta[other]
        return float(np.hypot(a["mx_m"] - b["mx_m"], a["my_m"] - b["my_m"]))

    def _georeference(self, index: Index, plan: Plan) -> None:
        """Degrees and back must land on the same pixel to a tenth."""
        for row in _gates.evenly(len(index), 32):
            window: Window = plan.windows[self._kept[row]]
            facts = index.rows_meta[row]
            lon, lat = lonlat_of(float(facts["mx_m"]), float(facts["my_m"]))
            mx, my = mercator_of(lon_deg=lon, lat_deg=lat)
            unit = WORLD_M / (plan.tile_px << window.scale.zoom)
            half = window.scale.side_px / 2
            if max(abs(mx / unit - window.x_px - half), abs(my / unit - window.y_px - half)) >= 0.1:
                raise BuilderError("georeference_failed", "row %d does not lie where its window was cut" % row)

    def _act_on(self, findings: List[Any]) -> None:
        for finding in findings:
            if finding.fatal:
                raise BuilderError(
                    finding.code, finding.text, hint="another model or sharper imagery is needed for this area"
                )
            self.voice.warn(finding.code, finding.text)

    def _artifacts(self, folder: Path) -> None:
        files = [path for path in folder.iterdir() if path.is_file()]
        self.report["artifacts"] = {
            "bytes": sum(path.stat().st_size for path in files),
            "files": len(files),
            "manifest_sha256": hashlib.sha256((folder / "index.json").read_bytes()).hexdigest(),
        }
