# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tiles out of a GeoTIFF or COG in any coordinate system, reprojected to Web Mercator by GDAL (rasterio, an extra).

A tile with too little imagery is a hole, not a picture: what lies beyond the edge of an orthophoto must show in the
coverage. Where a tile has holes at all, they are transparent.

GDAL opens this one file and nothing else. A virtual raster, a file beside it or a line of its metadata may name others,
on servers too, and GDAL would fetch these by itself: whoever made the file would learn of the flight.
"""

from __future__ import annotations

import io
import logging
import math
import os
import stat
import warnings
from typing import Any, List, Optional, Tuple

from ._errors import TileSourceError
from ._tile_source_local import LocalTile, LocalTiles, check_local_path, file_identity
from ._tiles import EARTH_RADIUS_M, Tile

__all__ = ["GeotiffTiles"]

RENDERING = 1
"""Rises when the same file gives other tiles, so that the store does not keep the old ones."""
MIN_IMAGERY_RATIO = 0.5
"""A tile with less imagery than this is missing."""
OVERSAMPLED_ZOOMS = 1
MAX_DECIMATION = 64
"""Without overviews no tile is made of more than this squared times its pixels."""
QUALITY = 90
MERCATOR_HALF_M = math.pi * EARTH_RADIUS_M
MAX_MERCATOR_LAT_DEG = 85.06
CACHE_MB = 64
MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""TIFF and BigTIFF, in either byte order."""
MAX_AUX_BYTES = 16 * 1024 * 1024
ONE_FILE = "Make one GeoTIFF of it that stands alone: gdal_translate -of COG FILE OUT.tif."
_AUX_WORDS = (b"<NoDataValue", b"<SRS", b"<GeoTransform", b"<GCPList")


class GeotiffTiles(LocalTiles):
    """An open GeoTIFF; for use in one thread.

    Args:
        path: of the file.
        tile_size_px: edge of the tiles.
        image_format: `auto` for WebP, which is small and has transparency; `png`, `webp`, or `jpg` (holes are black).

    Raises:
        TileSourceError: rasterio is not installed; the file is missing, damaged, without georeference, or no 8-bit
            picture.
    """

    def __init__(self, path: str, *, tile_size_px: int = 256, image_format: str = "auto") -> None:
        check_local_path(path)
        self.identity = [file_identity(path), "rendering", RENDERING]
        _check_file(path)
        self._rasterio = _rasterio()
        self._path, self._size_px, self._format = path, tile_size_px, image_format
        with self._env(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._dataset = self._rasterio.open(path, driver="GTiff")
            except self._rasterio.errors.RasterioError as exc:
                raise TileSourceError(f"{path} cannot be read as a GeoTIFF: {_short(exc)}") from None
            try:
                self._check_metadata()
                self._bands, self._palette = self._choose_bands()
                self._native_m = self._georeference()
            except BaseException:
                self._dataset.close()
                raise
        self.max_zoom = min(24, self._zoom_of(self._native_m) + OVERSAMPLED_ZOOMS)

    def read(self, tile: Tile) -> Optional[LocalTile]:
        """The tile, None where the file has (nearly) no imagery there."""
        import numpy as np

        side_m = 2 * MERCATOR_HALF_M / (1 << tile.z)
        west, north = tile.x * side_m - MERCATOR_HALF_M, MERCATOR_HALF_M - tile.y * side_m
        east, south = west + side_m, north - side_m
        left, bottom, right, top = self._bounds_m
        if west >= right or east <= left or south >= top or north <= bottom:
            return None
        decimation = side_m / self._size_px / self._native_m
        if decimation > MAX_DECIMATION and not self._dataset.overviews(self._bands[0]):
            raise TileSourceError(
                f"{self._path} has no overviews, and zoom {tile.z} is far below its resolution",
                remediation="Add them: gdaladdo -r average FILE 2 4 8 16 32 64, or make it a COG.",
            )
        with self._env():
            pixels, alpha = self._warp((west, south, east, north), coarse=decimation > 1.5)
        if np.count_nonzero(alpha) < MIN_IMAGERY_RATIO * alpha.size:
            return None
        return LocalTile(self._encode(pixels, alpha), None)

    def close(self) -> None:
        """Release the file."""
        self._dataset.close()

    def _env(self) -> Any:
        return self._rasterio.Env(
            GDAL_CACHEMAX=CACHE_MB, GDAL_NUM_THREADS="1", CPL_DEBUG="OFF", GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"
        )

    def _check_metadata(self) -> None:
        """Before anything asks for overviews: GDAL opens what this domain names, by any driver."""
        if self._dataset.tags(ns="OVERVIEWS"):
            raise TileSourceError(f"{self._path} names other files in its metadata", remediation=ONE_FILE)

    def _choose_bands(self) -> Tuple[List[int], Optional[Any]]:
        """Numbers of the colour bands (one for grey), and the palette where there is one."""
        dataset = self._dataset
        kinds = {kind.name: index for index, kind in enumerate(dataset.colorinterp, start=1)}
        if {"red", "green", "blue"} <= set(kinds):
            bands = [kinds["red"], kinds["green"], kinds["blue"]]
        else:
            bands = [1, 2, 3] if dataset.count >= 3 else [1]
        wrong = sorted({dataset.dtypes[band - 1] for band in bands} - {"uint8"})
        if wrong:
            raise TileSourceError(
                f"{self._path} has {wrong[0]} values, and 8-bit pictures are read",
                remediation="Convert it: gdal_translate -ot Byte -scale FILE OUT.",
            )
        if bands == [1] and "palette" in kinds:
            import numpy as np

            table = dataset.colormap(1)
            return bands, np.array([table.get(value, (0, 0, 0, 0)) for value in range(256)], dtype=np.uint8)
        return bands, None

    def _georeference(self) -> float:
        """Bounds in Web Mercator, and the size of a pixel there in metres."""
        from rasterio.warp import calculate_default_transform, transform_bounds

        dataset, where = self._dataset, f"{self._path} has no georeference"
        step = "Give it one with gdalwarp or gdal_edit, or take the file that the planner or photogrammetry wrote."
        if dataset.crs is None:
            points = " but ground control points" if dataset.gcps[0] else " (no coordinate system)"
            raise TileSourceError(where + points, remediation=step)
        if dataset.transform.is_identity:
            raise TileSourceError(f"{where} (no position)", remediation=step)
        try:
            _west, south, _east, north = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
            self._bounds_m = transform_bounds(dataset.crs, "EPSG:3857", *dataset.bounds)
            transform, _width, _height = calculate_default_transform(
                dataset.crs, "EPSG:3857", dataset.width, dataset.height, *dataset.bounds
            )
        except self._rasterio.errors.RasterioError as exc:
            raise TileSourceError(
                f"the coordinate system of {self._path} is no place on earth: {_short(exc)}", remediation=step
            ) from None
        if not all(map(math.isfinite, (*self._bounds_m, south, north))) or max(-south, north) > MAX_MERCATOR_LAT_DEG:
            raise TileSourceError(
                f"{self._path} lies at latitudes {south:.2f} to {north:.2f}, where Web Mercator has no tiles",
                remediation="Check the coordinate system of the file.",
            )
        return float(transform.a)

    def _zoom_of(self, pixel_m: float) -> int:
        """The zoom whose pixels are as fine as the file's."""
        exact = math.log2(2 * MERCATOR_HALF_M / self._size_px / pixel_m)
        return max(0, math.ceil(exact - 0.1))

    def _warp(self, box_m: Tuple[float, float, float, float], *, coarse: bool) -> Tuple[Any, Any]:
        """RGB pixels, rows by columns by 3, and where there is imagery (0 or 255)."""
        import numpy as np
        from rasterio.enums import ColorInterp, Resampling
        from rasterio.transform import from_bounds
        from rasterio.vrt import WarpedVRT

        size = self._size_px
        has_alpha = ColorInterp.alpha in self._dataset.colorinterp
        resampling = Resampling.average if coarse else Resampling.bilinear
        try:
            with WarpedVRT(
                self._dataset,
                crs="EPSG:3857",
                transform=from_bounds(*box_m, size, size),
                width=size,
                height=size,
                resampling=Resampling.nearest if self._palette is not None else resampling,
                add_alpha=not has_alpha,
                warp_mem_limit=CACHE_MB,
            ) as vrt:
                alpha_band = vrt.colorinterp.index(ColorInterp.alpha) + 1
                read = vrt.read([*self._bands, alpha_band])
            alpha = np.where(read[-1] >= 128, np.uint8(255), np.uint8(0))
        except self._rasterio.errors.RasterioError as exc:
            raise TileSourceError(
                f"the tile source {self._path} is damaged: {_short(exc)}", remediation="Copy or make the file again."
            ) from None
        if self._palette is not None:
            colours = self._palette[read[0]]
            return np.ascontiguousarray(colours[..., :3]), alpha & colours[..., 3]
        colours = read[:-1] if len(read) == 4 else np.repeat(read[:1], 3, axis=0)
        return np.ascontiguousarray(np.moveaxis(colours, 0, -1)), alpha

    def _encode(self, pixels: Any, alpha: Any) -> bytes:
        import numpy as np
        import PIL.Image

        out, whole = io.BytesIO(), bool(alpha.all())
        if not whole:
            pixels = pixels * (alpha > 0)[..., None]
        if self._format == "jpg":
            PIL.Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY)
            return out.getvalue()
        image = PIL.Image.fromarray(pixels if whole else np.dstack((pixels, alpha)))
        if self._format == "png":
            image.save(out, "PNG")
        else:
            image.save(out, "WEBP", quality=QUALITY, method=4)
        return out.getvalue()


def _check_file(path: str) -> None:
    """One whole TIFF: neither a pointer to other files, nor changed by one that lies beside it."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise TileSourceError(f"the tile source {path} is not a file")
    if not (magic := _beginning(path, 4)).startswith(MAGICS):
        why = "it is text that may point to other files" if magic.lstrip()[:1] in (b"<", b"{") else "it is no TIFF"
        raise TileSourceError(f"{path} cannot be read as a GeoTIFF: {why}", remediation=ONE_FILE)
    for beside, words in ((path + ".msk", ()), (path + ".aux.xml", _AUX_WORDS)):
        if os.path.lexists(beside) and (not words or any(word in _beginning(beside, MAX_AUX_BYTES) for word in words)):
            raise TileSourceError(
                f"{beside} changes what {os.path.basename(path)} shows, and only the GeoTIFF itself is read",
                remediation=ONE_FILE,
            )


def _beginning(path: str, size_bytes: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(size_bytes)
    except OSError as exc:
        raise TileSourceError(f"cannot open the tile source {path}: {exc.strerror}") from None


def _rasterio() -> Any:
    try:
        import rasterio
        import rasterio.errors
    except ImportError:
        raise TileSourceError(
            "GeoTIFF files need rasterio, which is not installed",
            remediation="Install the extra: pip install 'gps-denied-preflight[geotiff]'.",
        ) from None
    # Its warnings would end up in the middle of the operator's screen; errors are raised anyhow.
    logging.getLogger("rasterio").addHandler(logging.NullHandler())
    return rasterio


def _short(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200] or type(exc).__name__
