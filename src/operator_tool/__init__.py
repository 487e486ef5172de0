# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The cockpit of `gps_denied.preflight`: prepare a drone's map cache from Python or from the command line.

Everything public is loaded on first use, so that `import operator_tool` and `--help` stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
        AreaError,
        AreaTooLargeError,
        BuildCancelledError,
        BuildLockHeldError,
        BuildReportParseError,
        CacheActivateError,
        CacheBuildError,
        CacheVerifyError,
        CompanionError,
        CompanionNotReadyError,
        CompanionNotTrustedError,
        CompanionUnreachableError,
        CoverageIncompleteError,
        DownloadError,
        ExitCode,
        FailurePhase,
        FleetPartialError,
        FlightFileError,
        FlightNotFoundError,
        FlightResolveError,
        FlightRouteError,
        FlightsApiAuthError,
        FlightsApiSchemaError,
        FlightsApiUnreachableError,
        HintNotAcknowledgedError,
        LandingSpoolError,
        PositionHintError,
        RemoteBuildError,
        SettingsError,
        SyncError,
        TilePlacementError,
        TileProviderTermsError,
        TileSourceError,
        TileUploadError,
        TileUploadRejectedError,
        VehicleIdMismatchError,
        VehicleNotLandedError,
    )
    from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import FlightResolveSource
    from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_report import (
        LandingOutcome,
        LandingReport,
    )
    from ansible_collections.gps_denied.preflight.plugins.module_utils._reloc_report import HintOutcome, HintReport
    from ansible_collections.gps_denied.preflight.plugins.module_utils._report import (
        CacheBuildOutcome,
        CacheBuildReport,
        CompanionReport,
        DownloadBatchReport,
        FlightResolveReport,
        RemoteBuildOutcome,
        RemoteBuildReport,
    )

    from ._build import BuildCacheRequest, FlightById, FlightFromFile, FlightSource, UnexpectedRunError, build_cache
    from ._field import FieldRequest, HintPlace, give_hint, upload_landing
    from ._inventory import Companion, InventoryPart

_DOMAIN = "ansible_collections.gps_denied.preflight.plugins.module_utils."
_HOMES = {
    _DOMAIN + "_config": ("PreflightConfig",),
    _DOMAIN + "_flight": ("FlightResolveSource",),
    _DOMAIN + "_landing_report": ("LandingOutcome", "LandingReport"),
    _DOMAIN + "_reloc_report": ("HintOutcome", "HintReport"),
    _DOMAIN + "_report": (
        "CacheBuildOutcome",
        "CacheBuildReport",
        "CompanionReport",
        "DownloadBatchReport",
        "FlightResolveReport",
        "RemoteBuildOutcome",
        "RemoteBuildReport",
    ),
    "operator_tool._build": (
        "BuildCacheRequest",
        "FlightById",
        "FlightFromFile",
        "FlightSource",
        "UnexpectedRunError",
        "build_cache",
    ),
    "operator_tool._field": ("FieldRequest", "HintPlace", "give_hint", "upload_landing"),
    "operator_tool._inventory": ("Companion", "InventoryPart"),
}
# What has no other home is an error.
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AreaError",
    "AreaTooLargeError",
    "BuildCacheRequest",
    "BuildCancelledError",
    "BuildLockHeldError",
    "BuildReportParseError",
    "CacheActivateError",
    "CacheBuildError",
    "CacheBuildOutcome",
    "CacheBuildReport",
    "CacheVerifyError",
    "Companion",
    "CompanionError",
    "CompanionNotReadyError",
    "CompanionNotTrustedError",
    "CompanionReport",
    "CompanionUnreachableError",
    "CoverageIncompleteError",
    "DownloadBatchReport",
    "DownloadError",
    "ExitCode",
    "FailurePhase",
    "FieldRequest",
    "FleetPartialError",
    "FlightById",
    "FlightFileError",
    "FlightFromFile",
    "FlightNotFoundError",
    "FlightResolveError",
    "FlightResolveReport",
    "FlightResolveSource",
    "FlightRouteError",
    "FlightSource",
    "FlightsApiAuthError",
    "FlightsApiSchemaError",
    "FlightsApiUnreachableError",
    "HintNotAcknowledgedError",
    "HintOutcome",
    "HintPlace",
    "HintReport",
    "InventoryPart",
    "LandingOutcome",
    "LandingReport",
    "LandingSpoolError",
    "PositionHintError",
    "PreflightConfig",
    "RemoteBuildError",
    "RemoteBuildOutcome",
    "RemoteBuildReport",
    "SettingsError",
    "SyncError",
    "TilePlacementError",
    "TileProviderTermsError",
    "TileSourceError",
    "TileUploadError",
    "TileUploadRejectedError",
    "UnexpectedRunError",
    "VehicleIdMismatchError",
    "VehicleNotLandedError",
    "build_cache",
    "give_hint",
    "upload_landing",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF.get(name, _DOMAIN + "_errors")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
