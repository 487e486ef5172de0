# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The build request: parsed, checked, frozen."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple

from ._errors import BuilderError

__all__ = ["BuildRequest", "Camera", "Settings", "TakeOff"]

_MAX_REQUEST_BYTES = 64 * 1024 * 1024
_RING_POINTS_MAX = 200_000


def _bad(message: str, hint: str = "") -> BuilderError:
    return BuilderError("bad_request", message, hint=hint)


def _number(value: Any, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _bad("%s must be a number, not %r" % (name, value))
    if not low <= value <= high:
        raise _bad("%s is %r; it must lie between %g and %g" % (name, value, low, high))
    return float(value)


def _text(data: Mapping[str, Any], name: str, *, optional: bool = False) -> str:
    value = data.get(name)
    if value is None and optional:
        return ""
    if not isinstance(value, str) or not value or "\0" in value or len(value) > 4096:
        raise _bad("%s must be a text of 1 to 4096 characters" % name)
    return value


@dataclass(frozen=True)
class TakeOff:
    """Where the flight begins; degrees and metres."""

    lat_deg: float
    lon_deg: float
    alt_m: float


@dataclass(frozen=True)
class Camera:
    """The camera and the heights above ground it will look down from."""

    hfov_deg: float
    agl_min_m: float
    agl_max_m: float
    width_px: int
    height_px: int

    def footprint_m(self, agl_m: float) -> float:
        """Width of the ground seen, W = 2 h tan(HFOV / 2), in metres."""
        return 2.0 * agl_m * math.tan(math.radians(self.hfov_deg) / 2.0)


@dataclass(frozen=True)
class Settings:
    """Knobs with their defaults; an unknown name in the request is refused, so that a typing error is not a default.

    Attributes:
        threads: threads for describing; 0 means all cores, at most 4.
        max_windows: more than this many rows is refused (`area_too_large`).
        dims: descriptor length after PCA.
        stride_ratio: distance of windows as a share of their side.
        min_valid_ratio: share of a window that must be imagery for it to be described.
        min_covered_ratio: share of the area's tiles that must be there and readable.
        max_corrupt_ratio: share of undecodable tiles beyond which the build fails.
        require_takeoff: fail when the take-off point has no readable imagery.
        provider: `cpu`, or a faster execution provider to try first (`cuda`, `tensorrt`).
        ladder_below, ladder_above: extra steps of sqrt(2) below and above the camera's footprints.
    """

    threads: int = 0
    max_windows: int = 1_000_000
    dims: int = 128
    stride_ratio: float = 0.5
    min_valid_ratio: float = 0.6
    min_covered_ratio: float = 0.5
    max_corrupt_ratio: float = 0.02
    require_takeoff: bool = True
    provider: str = "cpu"
    ladder_below: int = 1
    ladder_above: int = 1

    _LIMITS: ClassVar[Dict[str, Tuple[float, float]]] = {
        "threads": (0, 64),
        "max_windows": (1, 20_000_000),
        "dims": (8, 1024),
        "stride_ratio": (0.1, 1.0),
        "min_valid_ratio": (0.05, 1.0),
        "min_covered_ratio": (0.0, 1.0),
        "max_corrupt_ratio": (0.0, 1.0),
        "ladder_below": (0, 6),
        "ladder_above": (0, 6),
    }

    @staticmethod
    def parse(data: Any) -> Settings:
        """From the request's `settings`."""
        if data is None:
            return Settings()
        if not isinstance(data, dict):
            raise _bad("settings must be an object")
        values: Dict[str, Any] = {}
        for name, value in data.items():
            if value is None:
                continue
            if name == "require_takeoff":
                if not isinstance(value, bool):
                    raise _bad("settings.require_takeoff must be true or false")
                values[name] = value
            elif name == "provider":
                if value not in ("cpu", "cuda", "tensorrt"):
                    raise _bad("settings.provider must be cpu, cuda or tensorrt, not %r" % (value,))
                values[name] = value
            elif name in Settings._LIMITS:
                low, high = Settings._LIMITS[name]
                number = _number(value, "settings." + name, low, high)
                if isinstance(low, int):
                    if number != int(number):
                        raise _bad("settings.%s must be a whole number, not %r" % (name, value))
                    number = int(number)
                values[name] = number
            else:
                raise _bad("settings.%s is not a setting of this builder" % name)
        return Settings(**values)

    def content(self) -> Dict[str, Any]:
        """The settings that change the artefacts' bytes, for identities."""
        return {
            "dims": self.dims,
            "stride_ratio": self.stride_ratio,
            "min_valid_ratio": self.min_valid_ratio,
            "ladder": [self.ladder_below, self.ladder_above],
        }


@dataclass(frozen=True)
class BuildRequest:
    """What to build, from which archive, for which area, camera and model."""

    run_id: str
    nonce: str
    flight_id: str
    archive_path: Path
    archive_sha256: str
    output_dir: Path
    work_dir: Path
    descriptor_cache_dir: Optional[Path]
    previous_index_dir: Optional[Path]
    area_kind: str
    buffer_m: float
    bbox: Tuple[float, float, float, float]
    polygons: Tuple[Any, ...]
    takeoff: TakeOff
    camera: Camera
    model_id: str
    settings: Settings = field(default_factory=Settings)

    @staticmethod
    def read(path: Path) -> BuildRequest:
        """Read and check a request file.

        Raises:
            BuilderError: `bad_request`.
        """
        try:
            with open(path, "rb") as stream:
                raw = stream.read(_MAX_REQUEST_BYTES + 1)
        except OSError as error:
            raise _bad("the request file %s cannot be read: %s" % (path, error.strerror)) from error
        if len(raw) > _MAX_REQUEST_BYTES:
            raise _bad("the request file %s is larger than 64 MiB" % path)
        try:
            data = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise _bad("the request file %s is not JSON: %s" % (path, error)) from error
        return BuildRequest.parse(data)

    @staticmethod
    def parse(data: Any) -> BuildRequest:
        """From the decoded JSON."""
        if not isinstance(data, dict):
            raise _bad("the request must be a JSON object")
        if data.get("schema_version") != 1:
            raise _bad("the request's schema_version is %r; this builder knows 1" % (data.get("schema_version"),))
        sha256 = _text(data, "archive_sha256").lower()
        if not re.match(r"^[0-9a-f]{64}$", sha256):
            raise _bad("archive_sha256 must be 64 hexadecimal digits")
        polygons, bbox, kind, buffer_m = _area(data.get("area"))
        model = data.get("model") or {}
        if isinstance(model, str):
            model = {"id": model}
        if not isinstance(model, dict):
            raise _bad("model must be an object with an id")
        cache, previous = (
            _text(data, "descriptor_cache_dir", optional=True),
            _text(data, "previous_index_dir", optional=True),
        )
        return BuildRequest(
            run_id=_text(data, "run_id"),
            nonce=_text(data, "nonce"),
            flight_id=_text(data, "flight_id"),
            archive_path=Path(_text(data, "archive_path")),
            archive_sha256=sha256,
            output_dir=Path(_text(data, "output_dir")),
            work_dir=Path(_text(data, "work_dir")),
            descriptor_cache_dir=Path(cache) if cache else None,
            previous_index_dir=Path(previous) if previous else None,
            area_kind=kind,
            buffer_m=buffer_m,
            bbox=bbox,
            polygons=polygons,
            takeoff=_takeoff(data.get("takeoff_origin")),
            camera=_camera(data.get("camera")),
            model_id=_text(model, "id", optional=True) or "auto",
            settings=Settings.parse(data.get("settings")),
        )


def _takeoff(data: Any) -> TakeOff:
    if not isinstance(data, dict):
        raise _bad("takeoff_origin must be an object with lat_deg, lon_deg and alt_m")
    return TakeOff(
        lat_deg=_number(data.get("lat_deg"), "takeoff_origin.lat_deg", -85.05, 85.05),
        lon_deg=_number(data.get("lon_deg"), "takeoff_origin.lon_deg", -180, 180),
        alt_m=_number(
            data.get("alt_m") if data.get("alt_m") is not None else 0.0, "takeoff_origin.alt_m", -1000, 20000
        ),
    )


def _camera(data: Any) -> Camera:
    if not isinstance(data, dict):
        raise _bad("camera must be an object with hfov_deg, agl_m, width_px and height_px")
    agl = data.get("agl_m")
    if not isinstance(agl, list):
        agl = [agl, agl]
    if len(agl) != 2:
        raise _bad("camera.agl_m must be one height or [lowest, highest]")
    low, high = (_number(value, "camera.agl_m", 2, 10000) for value in agl)
    if low > high:
        raise _bad("camera.agl_m is [%g, %g]; the lowest height comes first" % (low, high))
    return Camera(
        hfov_deg=_number(data.get("hfov_deg"), "camera.hfov_deg", 5, 150),
        agl_min_m=low,
        agl_max_m=high,
        width_px=int(_number(data.get("width_px"), "camera.width_px", 16, 100000)),
        height_px=int(_number(data.get("height_px"), "camera.height_px", 16, 100000)),
    )


def _area(data: Any) -> Tuple[Tuple[Any, ...], Tuple[float, float, float, float], str, float]:
    if not isinstance(data, dict):
        raise _bad("area must be an object with kind, buffer_m, bbox and geojson")
    raw = data.get("bbox")
    if not isinstance(raw, list) or len(raw) != 4:
        raise _bad("area.bbox must be [west, south, east, north]")
    west, east = (_number(raw[i], "area.bbox", -180, 180) for i in (0, 2))
    south, north = (_number(raw[i], "area.bbox", -85.06, 85.06) for i in (1, 3))
    if west >= east or south >= north:
        raise _bad("area.bbox is empty or crosses the antimeridian: %r" % (raw,))
    shape = data.get("geojson")
    if shape is None:
        box = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        return (((box,),)), (west, south, east, north), str(data.get("kind") or "bbox"), 0.0
    if isinstance(shape, dict) and shape.get("type") == "Feature":
        shape = shape.get("geometry")
    if not isinstance(shape, dict) or shape.get("type") not in ("MultiPolygon", "Polygon"):
        raise _bad("area.geojson must be a MultiPolygon")
    polygons: Any = shape.get("coordinates")
    if shape["type"] == "Polygon":
        polygons = [polygons]
    checked: List[Any] = []
    points_seen = 0
    try:
        for polygon in polygons:
            rings = []
            for ring in polygon:
                points_seen += len(ring)
                if len(ring) < 4 or points_seen > _RING_POINTS_MAX:
                    raise _bad("area.geojson has a ring of fewer than 4 points, or over %d in all" % _RING_POINTS_MAX)
                rings.append(
                    [
                        [_number(p[0], "area longitude", -180.001, 180.001), _number(p[1], "area latitude", -90, 90)]
                        for p in ring
                    ]
                )
            checked.append(rings)
    except (TypeError, IndexError, KeyError) as error:
        raise _bad("area.geojson is not a MultiPolygon of [longitude, latitude] points") from error
    if not any(checked):
        raise BuilderError("area_empty", "the area has no polygon", hint="resolve the flight again")
    buffer_m = data.get("buffer_m")
    return (
        tuple(checked),
        (west, south, east, north),
        str(data.get("kind") or "polygon"),
        0.0 if buffer_m is None else _number(buffer_m, "area.buffer_m", 0, 1e6),
    )
