# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The closed tree of recognised failures, and their exit codes.

    CacheBuildError
    ├── FlightResolveError        FlightNotFoundError, FlightsApiAuthError, FlightsApiUnreachableError,
    │                             FlightsApiSchemaError, FlightFileError, FlightRouteError
    ├── AreaError                 AreaTooLargeError
    ├── BuildLockHeldError
    ├── DownloadError             TileSourceError, TilePlacementError, TileProviderTermsError, CoverageIncompleteError
    ├── CompanionError            CompanionUnreachableError, CompanionNotReadyError, CompanionNotTrustedError,
    │                             VehicleIdMismatchError, VehicleNotLandedError
    ├── SyncError
    ├── RemoteBuildError          BuildReportParseError
    ├── CacheVerifyError
    ├── CacheActivateError
    ├── LandingSpoolError
    ├── TileUploadError           TileUploadRejectedError
    ├── PositionHintError         HintNotAcknowledgedError
    ├── FleetPartialError
    ├── SettingsError
    └── BuildCancelledError

The domain raises these; doors (modules, action plugins, the command line) report them. Across a
process boundary an error travels as `to_dict()` and is recognised by its class name alone.
Anything outside the tree is a bug and propagates raw.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Type

__all__ = [
    "AreaError",
    "AreaTooLargeError",
    "BuildCancelledError",
    "BuildLockHeldError",
    "BuildReportParseError",
    "CacheActivateError",
    "CacheBuildError",
    "CacheVerifyError",
    "CompanionError",
    "CompanionNotReadyError",
    "CompanionNotTrustedError",
    "CompanionUnreachableError",
    "CoverageIncompleteError",
    "DownloadError",
    "ExitCode",
    "FailurePhase",
    "FleetPartialError",
    "FlightFileError",
    "FlightNotFoundError",
    "FlightResolveError",
    "FlightRouteError",
    "FlightsApiAuthError",
    "FlightsApiSchemaError",
    "FlightsApiUnreachableError",
    "HintNotAcknowledgedError",
    "LandingSpoolError",
    "PositionHintError",
    "RemoteBuildError",
    "SettingsError",
    "SyncError",
    "TilePlacementError",
    "TileProviderTermsError",
    "TileSourceError",
    "TileUploadError",
    "TileUploadRejectedError",
    "VehicleIdMismatchError",
    "VehicleNotLandedError",
    "error_from_dict",
    "error_types",
]


class ExitCode(enum.IntEnum):
    """Exit codes of `operator-tool`; the table of the README is held against this enum by a test."""

    SUCCESS = 0
    UNEXPECTED = 1
    USAGE = 2
    DOWNLOAD_FAILED = 20
    REMOTE_BUILD_FAILED = 21
    COVERAGE_INCOMPLETE = 22
    AREA_TOO_LARGE = 23
    PROVIDER_TERMS = 24
    COMPANION_NOT_READY = 30
    COMPANION_NOT_TRUSTED = 31
    SYNC_FAILED = 32
    VERIFY_OR_ACTIVATE_FAILED = 33
    SOME_COMPANIONS_FAILED = 40
    LOCK_HELD = 50
    VEHICLE_NOT_LANDED = 60
    LANDING_SPOOL_REFUSED = 61
    TILE_UPLOAD_FAILED = 62
    HINT_REFUSED = 63
    HINT_NOT_ACKNOWLEDGED = 64
    FLIGHT_NOT_FOUND = 90
    FLIGHTS_API_AUTH = 91
    FLIGHTS_API_UNREACHABLE = 92
    FLIGHTS_API_NONSENSE = 93
    FLIGHT_FILE_INVALID = 94
    FLIGHT_WITHOUT_ROUTE = 95
    CANCELLED = 130


class FailurePhase(str, enum.Enum):
    """The phase in which a run ended; the order is the order of the work."""

    FLIGHT_RESOLVE = "flight_resolve"
    AREA = "area"
    LOCK = "lock"
    DOWNLOAD = "download"
    COMPANION_BRINGUP = "companion_bringup"
    SYNC = "sync"
    BUILD = "build"
    VERIFY = "verify"
    ACTIVATE = "activate"
    GROUND_CHECK = "ground_check"
    FETCH = "fetch"
    UPLOAD = "upload"
    COLLECT = "collect"
    HINT = "hint"


def _on_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


class CacheBuildError(Exception):
    """Base of every recognised failure.

    `message` says what, where and why in one sentence; `remediation` says the next step.
    `details` holds plain JSON values for the report (file, line, host, tiles, …), never a secret.
    Both texts may quote a file, a server or a companion: what would steer a terminal or forge a line becomes a space.
    """

    code: ClassVar[ExitCode] = ExitCode.UNEXPECTED
    phase: Optional[FailurePhase] = None
    retryable: ClassVar[bool] = False
    remediation: str = "Read the report and the log of this run, then run again."

    def __init__(
        self,
        message: str,
        *,
        remediation: Optional[str] = None,
        phase: Optional[FailurePhase] = None,
        details: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self.message = _on_one_line(message)
        super().__init__(self.message)
        self.details: Dict[str, Any] = dict(details or {})
        if remediation is not None:
            self.remediation = _on_one_line(remediation)
        if phase is not None:
            self.phase = phase

    def to_dict(self) -> Dict[str, Any]:
        """Plain data that `error_from_dict` turns back into the same error."""
        return {
            "type": type(self).__name__,
            "code": int(self.code),
            "phase": self.phase.value if self.phase else None,
            "retryable": self.retryable,
            "message": self.message,
            "remediation": self.remediation,
            "details": self.details,
        }


class SettingsError(CacheBuildError):
    """A setting is missing, contradicts another, or cannot be read."""

    code = ExitCode.USAGE
    remediation = "Correct the setting (flag, GPS_DENIED_… variable, or operator-tool.toml)."


class FlightResolveError(CacheBuildError):
    """The flight could not be resolved; subclasses carry the codes 90-95."""

    phase = FailurePhase.FLIGHT_RESOLVE


class FlightNotFoundError(FlightResolveError):
    code = ExitCode.FLIGHT_NOT_FOUND
    remediation = "Check the flight's id, or give the mission file with --flight-file."


class FlightsApiAuthError(FlightResolveError):
    code = ExitCode.FLIGHTS_API_AUTH
    remediation = "Renew the flights API token (--flights-api-token-file) and run again."


class FlightsApiUnreachableError(FlightResolveError):
    code = ExitCode.FLIGHTS_API_UNREACHABLE
    retryable = True
    remediation = "Check the network and flights_api_base_url, or give the mission file with --flight-file."


class FlightsApiSchemaError(FlightResolveError):
    code = ExitCode.FLIGHTS_API_NONSENSE
    remediation = "The flights API does not speak the documented contract: tell its operator, or use --flight-file."


class FlightFileError(FlightResolveError):
    code = ExitCode.FLIGHT_FILE_INVALID
    remediation = "Open the file in the planner that wrote it, save it again, and run again."


class FlightRouteError(FlightResolveError):
    code = ExitCode.FLIGHT_WITHOUT_ROUTE
    remediation = "Add waypoints with positions to the mission."


class AreaError(CacheBuildError):
    """The route gives no area that the map can cover."""

    code = ExitCode.FLIGHT_WITHOUT_ROUTE
    phase = FailurePhase.AREA
    remediation = "Correct the mission's positions; `operator-tool flight show FILE` lists them."


class AreaTooLargeError(AreaError):
    code = ExitCode.AREA_TOO_LARGE
    remediation = "Look for a stray vertex with `operator-tool flight show FILE`, or raise the limit knowingly."


class BuildLockHeldError(CacheBuildError):
    code = ExitCode.LOCK_HELD
    phase = FailurePhase.LOCK
    retryable = True
    remediation = "Wait for the other run to end, or stop it."


class DownloadError(CacheBuildError):
    code = ExitCode.DOWNLOAD_FAILED
    phase = FailurePhase.DOWNLOAD
    retryable = True
    remediation = "Check the tile source and run again: what was downloaded is kept."


class TileSourceError(DownloadError):
    """The tile source is missing, broken, refuses, or is not what its profile says."""

    retryable = False


class TilePlacementError(DownloadError):
    """The tiles show other places than those they are named for: rows flipped, or shifted."""

    retryable = False


class TileProviderTermsError(DownloadError):
    code = ExitCode.PROVIDER_TERMS
    retryable = False
    remediation = "Choose a provider whose terms allow offline use."


class CoverageIncompleteError(DownloadError):
    code = ExitCode.COVERAGE_INCOMPLETE
    retryable = False
    remediation = "Choose another source or zoom, or accept the holes knowingly with the coverage tolerance."


class CompanionError(CacheBuildError):
    phase = FailurePhase.COMPANION_BRINGUP


class CompanionUnreachableError(CompanionError):
    code = ExitCode.COMPANION_NOT_READY
    retryable = True
    remediation = "Check power, cable and address of the companion, then run again."


class CompanionNotReadyError(CompanionError):
    code = ExitCode.COMPANION_NOT_READY
    remediation = "Run the provision_companion playbook, or free the named resource."


class CompanionNotTrustedError(CompanionError):
    code = ExitCode.COMPANION_NOT_TRUSTED
    remediation = "Compare the fingerprint with the companion's label or console; never accept it blindly."


class VehicleIdMismatchError(CompanionNotTrustedError):
    """The companion was enrolled as another vehicle than the one that is meant."""

    remediation = "Check the address and the vehicle id: the companion answers for another vehicle."


class SyncError(CacheBuildError):
    code = ExitCode.SYNC_FAILED
    phase = FailurePhase.SYNC
    retryable = True
    remediation = "Run again: what has arrived is kept."


class RemoteBuildError(CacheBuildError):
    code = ExitCode.REMOTE_BUILD_FAILED
    phase = FailurePhase.BUILD
    remediation = "Read the builder's message in the report; the current cache is untouched."


class BuildReportParseError(RemoteBuildError):
    """The builder's last word is missing, not unique, not of this run, or not a report."""


class CacheVerifyError(CacheBuildError):
    code = ExitCode.VERIFY_OR_ACTIVATE_FAILED
    phase = FailurePhase.VERIFY
    remediation = "Run again to build a fresh generation; the current cache is untouched."


class CacheActivateError(CacheBuildError):
    code = ExitCode.VERIFY_OR_ACTIVATE_FAILED
    phase = FailurePhase.ACTIVATE
    remediation = "Mend the named cause on the companion and run again; the current cache is untouched."


class VehicleNotLandedError(CompanionError):
    """The vehicle is armed, in the air, or nothing says for certain that it is not."""

    code = ExitCode.VEHICLE_NOT_LANDED
    phase = FailurePhase.GROUND_CHECK
    retryable = True
    remediation = "Land and disarm, keep the flight software running, then run again."


class LandingSpoolError(CacheBuildError):
    """A recording on the companion is not what its manifest says; the others went their way."""

    code = ExitCode.LANDING_SPOOL_REFUSED
    phase = FailurePhase.FETCH
    remediation = "Look at the named recordings on the companion: they are left as they are, and nothing is removed."


class TileUploadError(CacheBuildError):
    code = ExitCode.TILE_UPLOAD_FAILED
    phase = FailurePhase.UPLOAD
    retryable = True
    remediation = "Check the network and the provider, then run again: what was accepted is not sent again."


class TileUploadRejectedError(TileUploadError):
    """The provider looked at the tiles, or at the credentials, and said no."""

    retryable = False
    remediation = "Read the provider's reasons in the report; the recordings stay on the companion."


class PositionHintError(CacheBuildError):
    """The hint is impossible, outside the cache, stale, or not signed as this vehicle wants it."""

    code = ExitCode.HINT_REFUSED
    phase = FailurePhase.HINT
    remediation = "Correct the position or the radius and give the hint again."


class HintNotAcknowledgedError(PositionHintError):
    """The hint lies on the companion, and the flight software has not answered."""

    code = ExitCode.HINT_NOT_ACKNOWLEDGED
    retryable = True
    remediation = "Check that the flight software runs and reads hints; a new hint replaces this one."


class FleetPartialError(CacheBuildError):
    code = ExitCode.SOME_COMPANIONS_FAILED
    remediation = "Mend the failed companions and run again: the others need nothing."


class BuildCancelledError(CacheBuildError):
    code = ExitCode.CANCELLED
    retryable = True
    remediation = "Run again: the work continues where it was."


def error_types() -> Dict[str, Type[CacheBuildError]]:
    """Every class of the tree by name."""
    found: Dict[str, Type[CacheBuildError]] = {}
    pending: List[Type[CacheBuildError]] = [CacheBuildError]
    while pending:
        cls = pending.pop()
        found[cls.__name__] = cls
        pending.extend(cls.__subclasses__())
    return found


def error_from_dict(data: Mapping[str, Any]) -> Optional[CacheBuildError]:
    """The error that `to_dict` described, or None where the name is not in the tree."""
    cls = error_types().get(str(data.get("type")))
    if cls is None:
        return None
    phase = data.get("phase")
    return cls(
        str(data.get("message", "")),
        remediation=data.get("remediation"),
        phase=FailurePhase(phase) if phase else None,
        details=data.get("details"),
    )
