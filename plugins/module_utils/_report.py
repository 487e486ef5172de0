# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`CacheBuildReport`: what a run did, and how it ended.

Every key is always present, null where unknown. The JSON Schema under `docs/schemas/` is made from these
dataclasses; `report_from_dict` reads a report back and refuses one of another schema version.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Dict, Mapping, Optional, Tuple, Type, TypeVar, Union, get_args, get_origin, get_type_hints

from ._errors import SettingsError

__all__ = [
    "SCHEMA_VERSION",
    "AreaReport",
    "CacheBuildOutcome",
    "CacheBuildReport",
    "CacheReport",
    "CompanionReport",
    "DownloadBatchReport",
    "FlightResolveReport",
    "RemoteBuildOutcome",
    "RemoteBuildReport",
    "SyncReport",
    "from_plain",
    "report_from_dict",
    "to_plain",
]

SCHEMA_VERSION = 1

T = TypeVar("T")


class CacheBuildOutcome(str, enum.Enum):
    """How a run, or one companion's part of it, ended; `checked` is a dry run that foretells a build."""

    SUCCESS = "success"
    IDEMPOTENT_NO_OP = "idempotent_no_op"
    CHECKED = "checked"
    FAILURE = "failure"


class RemoteBuildOutcome(str, enum.Enum):
    """How the builder ended, in its own word."""

    SUCCESS = "success"
    IDEMPOTENT_NO_OP = "idempotent_no_op"
    FAILURE = "failure"


@dataclass(frozen=True)
class AreaReport:
    """The area that needs tiles."""

    kind: str
    area_km2: float
    buffer_m: float


@dataclass(frozen=True)
class FlightResolveReport:
    """The flight as it was resolved.

    `takeoff_origin` is {lat_deg, lon_deg, alt_m, rule}, `bbox` [west, south, east, north].
    """

    source: str
    flight_id: str
    name: Optional[str]
    format: str
    waypoint_count: int
    takeoff_origin: Mapping[str, Any]
    bbox: Optional[Tuple[float, ...]]
    area: Optional[AreaReport]
    fingerprint: str
    warnings: Tuple[str, ...] = ()


@dataclass(frozen=True)
class DownloadBatchReport:
    """What the download phase did; counts are tiles.

    requested = downloaded + reused + revalidated + missing + failed + placeholder. `route_holes` are the stretches of
    the flown lines over `failed_tiles`: {part, why, from_km, to_km, zooms}, kilometres from the start of that part.
    `placement` says whether the tiles were seen to lie where they are said to ({verdict, …}), `imagery` of which dates
    they are ({tiles, dated, oldest, newest, …}).
    """

    source_id: str
    zooms: Tuple[int, ...]
    requested: int
    downloaded: int
    reused: int
    revalidated: int
    missing: int
    failed: int
    placeholder: int
    bytes: int
    elapsed_s: float
    failed_tiles: Tuple[Mapping[str, Any], ...] = ()
    route_holes: Tuple[Mapping[str, Any], ...] = ()
    placement: Optional[Mapping[str, Any]] = None
    imagery: Optional[Mapping[str, Any]] = None
    warnings: Tuple[str, ...] = ()

    @property
    def present(self) -> int:
        return self.downloaded + self.reused + self.revalidated

    @property
    def coverage_ratio(self) -> float:
        return self.present / self.requested if self.requested else 0.0


@dataclass(frozen=True)
class SyncReport:
    """What travelled to one companion."""

    bytes_sent: int
    bytes_total: int
    elapsed_s: float


@dataclass(frozen=True)
class RemoteBuildReport:
    """The builder's last word; the inner objects are as the builder's reference describes them."""

    outcome: RemoteBuildOutcome
    failure: Optional[Mapping[str, Any]] = None
    flight_id: Optional[str] = None
    package_id: Optional[str] = None
    content_id: Optional[str] = None
    rebind_only: Optional[bool] = None
    tiles: Optional[Mapping[str, Any]] = None
    coverage: Optional[Mapping[str, Any]] = None
    windows: Optional[Mapping[str, Any]] = None
    model: Optional[Mapping[str, Any]] = None
    provider: Optional[Mapping[str, Any]] = None
    quality: Optional[Mapping[str, Any]] = None
    artifacts: Optional[Mapping[str, Any]] = None
    timing_s: Optional[Mapping[str, Any]] = None
    resources: Optional[Mapping[str, Any]] = None
    warnings: Tuple[Any, ...] = ()
    versions: Optional[Mapping[str, Any]] = None


@dataclass(frozen=True)
class CacheReport:
    """The cache that is active on a companion after the run."""

    content_id: str
    generation: str
    activated: bool


@dataclass(frozen=True)
class CompanionReport:
    """One companion's part of the run."""

    host: str
    outcome: CacheBuildOutcome
    failure_phase: Optional[str] = None
    failure_exception_type: Optional[str] = None
    failure_message: Optional[str] = None
    remediation: Optional[str] = None
    exit_code: int = 0
    sync: Optional[SyncReport] = None
    build: Optional[RemoteBuildReport] = None
    cache: Optional[CacheReport] = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()


@dataclass(frozen=True)
class CacheBuildReport:
    """The whole run."""

    schema_version: int
    run_id: str
    outcome: CacheBuildOutcome
    failure_phase: Optional[str]
    failure_exception_type: Optional[str]
    failure_message: Optional[str]
    remediation: Optional[str]
    exit_code: int
    flight: Optional[FlightResolveReport]
    download: Optional[DownloadBatchReport]
    companions: Tuple[CompanionReport, ...]
    timings_s: Mapping[str, float]
    warnings: Tuple[str, ...]
    versions: Mapping[str, str]

    def to_dict(self) -> Dict[str, Any]:
        """Plain JSON values, `schema_version` first."""
        return dict(to_plain(self))


def to_plain(value: Any) -> Any:
    """Dataclasses, enums and tuples as plain JSON values, in the order of the fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def from_plain(cls: Type[T], data: Any) -> T:
    """The dataclass `cls` out of plain JSON values; unknown keys are left out, a wrong shape is a `ValueError`."""
    return _convert(cls, data, cls.__name__)  # type: ignore[no-any-return]


_NONE_TYPE = type(None)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Union:
        inner = [item for item in args if item is not _NONE_TYPE]
        return None if value is None else _convert(inner[0], value, where)
    if isinstance(hint, type) and is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is not an object")
        hints = get_type_hints(hint)
        known = {item.name for item in fields(hint)}
        try:
            return hint(**{str(k): _convert(hints[str(k)], v, f"{where}.{k}") for k, v in value.items() if k in known})
        except TypeError as exc:
            raise ValueError(f"{where}: {exc}") from None
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where} is not a list")
        return tuple(_convert(args[0], item, where) for item in value)
    if hint in (int, float, str, bool):
        return _scalar(hint, value, where)
    if origin is not None and not isinstance(value, Mapping):
        raise ValueError(f"{where} is not an object")
    return value


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{where} is not of type {hint.__name__}")
    return value


def report_from_dict(data: Any) -> CacheBuildReport:
    """The report that `to_dict` wrote.

    Raises:
        SettingsError: it is of another schema, or no report at all.
    """
    version = data.get("schema_version") if isinstance(data, Mapping) else None
    if version is None:
        raise SettingsError(
            "this is no report: it has no schema version", remediation="Give the report of a build, or the id of a run."
        )
    if version != SCHEMA_VERSION:
        raise SettingsError(
            f"this report has schema version {version!r}, and this release reads version {SCHEMA_VERSION}",
            remediation="Read it with the release that wrote it, or run again.",
        )
    try:
        return from_plain(CacheBuildReport, data)
    except ValueError as exc:
        raise SettingsError(
            f"this is not a CacheBuildReport: {exc}", remediation="Run again for a new report."
        ) from None
