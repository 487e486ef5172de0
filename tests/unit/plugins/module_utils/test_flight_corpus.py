# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every real mission file and what is expected of it: a table, tests/data/missions_expected.tsv.

Files under an open licence lie in tests/data/missions; the others are read where the shared data is at hand.
"""

from __future__ import annotations

import csv
import os
import random
import re
import time
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._area import build_area, tiles_for_area
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    AreaError,
    CacheBuildError,
    ExitCode,
    FlightFileError,
    FlightRouteError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import FlightResolveSource
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_file import (
    read_flight_bytes,
    read_flight_file,
)

ROOT = Path(__file__).parents[4]
OPEN = ROOT / "tests" / "data" / "missions"
SHARED = Path(os.environ.get("GPS_DENIED_SHARED_DATA", ROOT.parent / "shared" / "data")) / "missions"
MUTATIONS = 2_000
SOAK_MUTATIONS = 100_000


def open_name(file: str) -> str:
    return file.rpartition("__")[2].replace("qgroundcontrol_sample_", "")


def rows() -> list[dict[str, str]]:
    with (ROOT / "tests" / "data" / "missions_expected.tsv").open(newline="") as table:
        return list(csv.DictReader(table, delimiter="\t"))


def path_of(row: dict[str, str]) -> Path:
    return OPEN / open_name(row["file"]) if row["licence"] == "open" else SHARED / row["file"]


AT_HAND = [row for row in rows() if path_of(row).exists()]


def observed(path: Path) -> dict[str, str]:
    """What the reader says of the file, in the table's columns."""
    try:
        flight = read_flight_file(path)
    except (FlightFileError, FlightRouteError) as error:
        return {"error": str(int(error.code)), "message": error.message.removeprefix(f"{path}: ")}
    lats = [vertex.position.lat for part in flight.parts for vertex in part.vertices]
    lons = [vertex.position.lon for part in flight.parts for vertex in part.vertices]
    origin = flight.takeoff_origin
    return {
        "format": flight.format,
        "waypoints": str(len(flight.waypoints)),
        "rule": origin.rule.value,
        "origin_lat": f"{origin.lat_deg:.6f}",
        "origin_lon": f"{origin.lon_deg:.6f}",
        "ignored": str(len(flight.ignored)),
        "warnings": str(len(flight.warnings)),
        "parts": " ".join(sorted({part.why for part in flight.parts})),
        "south": f"{min(lats):.6f}",
        "west": f"{min(lons):.6f}",
        "north": f"{max(lats):.6f}",
        "east": f"{max(lons):.6f}",
    }


def test_the_files_under_an_open_licence_are_all_here_and_noticed():
    notice = (ROOT / "tests" / "data" / "NOTICE.md").read_text()
    opened = {open_name(row["file"]) for row in rows() if row["licence"] == "open"}
    assert {path.name for path in OPEN.iterdir()} == opened
    assert all(f"`missions/{name}`" in notice for name in opened)


@pytest.mark.parametrize("row", AT_HAND, ids=[row["file"] for row in AT_HAND])
def test_a_real_file_gives_what_the_table_says(row):
    found = observed(path_of(row))
    assert found == {name: row[name] for name in found}
    if "error" not in found:
        assert row["error"] == ""


@pytest.mark.parametrize("row", AT_HAND, ids=[row["file"] for row in AT_HAND])
def test_counting_by_hand_agrees_for_text_missions(row):
    """A count that shares nothing with the reader: lines of navigation commands whose position is not 0, 0."""
    text = path_of(row).read_bytes().decode("latin-1")
    if not text.startswith("QGC WPL") or row["error"]:
        return
    lines = [line.split() for line in text.splitlines()[1:] if line.strip() and not line.startswith("#")]
    flown = {"16", "17", "18", "19", "21", "22", "31", "82", "84", "85", "94"}
    counted = sum(1 for f in lines if f[3] in flown and (float(f[8]), float(f[9])) != (0, 0))
    home = row["rule"] == "planned_home" and lines[0][3] == "16"
    assert counted - home == int(row["waypoints"])


@pytest.mark.parametrize("row", AT_HAND, ids=[row["file"] for row in AT_HAND])
def test_a_real_file_gives_tiles_or_one_line(row):
    error, count = outcome(path_of(row).read_bytes(), [15, 17])
    if error is None:
        assert 4 < count < 20_000
    else:
        assert_one_line(error)


def outcome(data: bytes, zooms: list[int]) -> tuple[CacheBuildError | None, int]:
    """The recognised error, or how many tiles the bytes need."""
    try:
        flight = read_flight_bytes(data, flight_id="f", source=FlightResolveSource.FILE)
        return None, len(tiles_for_area(build_area(flight), zooms, max_tiles=100_000))
    except (FlightFileError, FlightRouteError, AreaError) as error:
        return error, 0


def assert_one_line(error: CacheBuildError) -> None:
    assert error.code in {ExitCode.AREA_TOO_LARGE, ExitCode.FLIGHT_FILE_INVALID, ExitCode.FLIGHT_WITHOUT_ROUTE}
    assert "\n" not in error.message
    assert 5 < len(error.message) < 600
    assert error.remediation


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """The file with a few wounds: bits, cuts, doubled and lost stretches, and tokens that break readers."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 2, 8, 64, 512)))
        wound = rng.randrange(7)
        if wound == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif wound == 1:
            del data[at:end]
        elif wound == 2:
            data[at:at] = data[at:end]
        elif wound == 3:
            data[at:end] = rng.choice(TOKENS)
        elif wound == 4:
            data[at:at] = rng.choice(TOKENS)
        elif wound == 5:
            numbers = list(re.finditer(rb"-?\d+(?:\.\d+)?", bytes(data)))
            if numbers:
                chosen = rng.choice(numbers)
                data[chosen.start() : chosen.end()] = rng.choice(NUMBERS)
        else:
            del data[at:]
        if not data:
            return b"\0"
    return bytes(data)


TOKENS = [
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"NaN", b"Infinity", b"null", b"[" * 200, b"]", b"{", b"}", b",", b'"'),
    *(b"\t", b"\r", b"<!DOCTYPE a>", b"<![CDATA[", b"&lt;", b"</", b"<a>" * 80, b"1e999", b"\xe2\x80\xa8"),
    *(b"PK\x03\x04", b"\x1f\x8b", b"-" * 50),
]
NUMBERS = [
    *(b"0", b"-1", b"91", b"1e308", b"1e999", b"nan", b"2147483647", b"9" * 400, b"-180", b"180", b"85.06", b"1e-320"),
    *(b"20", b"177", b"5001", b"5100"),
]


def fuzz(count: int, seed: int) -> None:
    rng = random.Random(seed)
    seeds = [path.read_bytes() for path in sorted(OPEN.iterdir())]
    for number in range(count):
        start = time.process_time()
        error, _count = outcome(mutated(rng.choice(seeds), rng), [14])
        if error is not None:
            assert_one_line(error)
        assert time.process_time() - start < 2, f"mutation {number} of seed {seed} took too long"


def test_mutations_give_a_flight_or_one_line():
    fuzz(MUTATIONS, 20260101)


@pytest.mark.soak
def test_many_mutations_give_a_flight_or_one_line():
    fuzz(SOAK_MUTATIONS, random.randrange(1 << 30))
