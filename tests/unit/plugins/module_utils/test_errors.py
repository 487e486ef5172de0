# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _errors
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    BuildLockHeldError,
    CacheBuildError,
    ExitCode,
    FailurePhase,
    error_from_dict,
    error_types,
)

ROOT = Path(__file__).parents[4]

EXPECTED = {
    "FlightNotFoundError": 90,
    "FlightsApiAuthError": 91,
    "FlightsApiUnreachableError": 92,
    "FlightsApiSchemaError": 93,
    "FlightFileError": 94,
    "FlightRouteError": 95,
    "AreaTooLargeError": 23,
    "BuildLockHeldError": 50,
    "DownloadError": 20,
    "TilePlacementError": 20,
    "TileSourceError": 20,
    "TileProviderTermsError": 24,
    "CoverageIncompleteError": 22,
    "CompanionUnreachableError": 30,
    "CompanionNotReadyError": 30,
    "CompanionNotTrustedError": 31,
    "SyncError": 32,
    "RemoteBuildError": 21,
    "BuildReportParseError": 21,
    "CacheVerifyError": 33,
    "CacheActivateError": 33,
    "FleetPartialError": 40,
    "VehicleIdMismatchError": 31,
    "VehicleNotLandedError": 60,
    "LandingSpoolError": 61,
    "TileUploadError": 62,
    "TileUploadRejectedError": 62,
    "PositionHintError": 63,
    "HintNotAcknowledgedError": 64,
    "SettingsError": 2,
    "BuildCancelledError": 130,
}


@pytest.mark.parametrize(("name", "code"), EXPECTED.items())
def test_each_failure_class_maps_to_its_exit_code(name: str, code: int) -> None:
    assert error_types()[name].code == code


def test_the_tree_is_public_and_each_leaf_says_what_to_do() -> None:
    for name, cls in error_types().items():
        assert name in _errors.__all__
        assert cls.remediation.endswith("."), name


def test_the_readme_table_is_the_enum() -> None:
    table = (ROOT / "README.md").read_text()
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert rows == {int(code) for code in ExitCode}


@pytest.mark.parametrize("cls", error_types().values())
def test_an_error_survives_the_way_across_processes(cls: type[CacheBuildError]) -> None:
    error = cls("it broke", remediation="Mend it.", phase=FailurePhase.SYNC, details={"host": "a"})
    again = error_from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(again) is cls
    assert again.to_dict() == error.to_dict()


def test_a_name_outside_the_tree_is_no_recognised_error() -> None:
    assert error_from_dict({"type": "KeyError", "message": "x"}) is None


def test_phase_aware_remediation() -> None:
    assert "Wait" in BuildLockHeldError("x").remediation
    assert BuildLockHeldError("x").phase is FailurePhase.LOCK


@pytest.mark.parametrize("quoted", ["\x1b]0;title\x07", "a\nFAILED everything", "\r\x1b[2K", "\u202egnp.exe", "\u2028"])
def test_what_an_error_quotes_steers_no_terminal_and_forges_no_line(quoted: str) -> None:
    error = CacheBuildError(f"the companion said '{quoted}'", remediation=f"Ask {quoted} again.")
    assert error.message.isprintable()
    assert error.remediation.isprintable()
    assert str(error) == error.message == error_from_dict(error.to_dict()).message
    assert CacheBuildError("Übergröße: 10 °C, größer als erwartet").message == "Übergröße: 10 °C, größer als erwartet"
