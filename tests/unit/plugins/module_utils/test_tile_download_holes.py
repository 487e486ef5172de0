# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import (
    Flight,
    FlightResolveSource,
    RouteKind,
    RoutePart,
    TakeoffOrigin,
    TakeoffRule,
    Waypoint,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._geo import LonLat
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import to_plain
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download_holes import (
    describe_stretches,
    route_stretches,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import tile_at, tile_bounds


def flight(*positions: tuple[float, float]) -> Flight:
    vertices = tuple(Waypoint(LonLat(lon=lon, lat=lat)) for lon, lat in positions)
    return Flight(
        flight_id="f",
        name=None,
        source=FlightResolveSource.FILE,
        format="made",
        waypoints=vertices,
        parts=(RoutePart(RouteKind.LINE, vertices), RoutePart(RouteKind.POLYGON, vertices, why="survey")),
        takeoff_origin=TakeoffOrigin(positions[0][1], positions[0][0], None, TakeoffRule.FIRST_WAYPOINT),
    )


def hole(lon: float, lat: float, zoom: int) -> dict[str, object]:
    tile = tile_at(LonLat(lon=lon, lat=lat), zoom)
    return {"z": tile.z, "x": tile.x, "y": tile.y, "reason": "missing"}


def test_a_hole_under_the_route_is_a_stretch_of_a_tile() -> None:
    route = flight((10.0, 50.0), (10.2, 50.0))
    middle = hole(10.1, 50.0, 16)
    (stretch,) = route_stretches(route, [middle])
    box = tile_bounds(tile_at(LonLat(lon=10.1, lat=50.0), 16))
    km_per_degree = 111.319 * 0.6428
    assert abs(stretch.from_km - (box.west - 10.0) * km_per_degree) < 0.25
    assert abs(stretch.to_km - (box.east - 10.0) * km_per_degree) < 0.25
    assert (stretch.part, stretch.why, stretch.zooms) == (0, "route", (16,))
    assert describe_stretches(to_plain([stretch])).startswith("km 6.9")


def test_stretches_apart_stay_apart_and_zooms_join() -> None:
    route = flight((10.0, 50.0), (10.1, 50.0), (10.1, 50.1))
    found = route_stretches(route, [hole(10.02, 50.0, 16), hole(10.02, 50.0, 17), hole(10.1, 50.08, 16)])
    assert len(found) == 2
    assert found[0].zooms == (16, 17)
    assert found[0].to_km < found[1].from_km
    assert "; " in describe_stretches(to_plain(found))
    assert describe_stretches(to_plain(found), limit=1).endswith("; and 1 more")


def test_holes_beside_the_route_and_none_at_all_are_no_stretch() -> None:
    route = flight((10.0, 50.0), (10.1, 50.0))
    assert route_stretches(route, [hole(10.05, 51.0, 16)]) == ()
    assert route_stretches(route, []) == ()
    assert describe_stretches([]) == ""


def test_the_antimeridian_and_one_point_are_no_trouble() -> None:
    over = flight((179.99, 0.1), (-179.99, 0.1))
    assert len(route_stretches(over, [hole(-179.999, 0.1, 16), hole(179.999, 0.1, 16)])) == 1
    assert len(route_stretches(flight((10.0, 50.0)), [hole(10.0, 50.0, 18)])) == 1


def test_a_short_stretch_is_a_place() -> None:
    stretch = {"part": 0, "why": "return_to_launch", "from_km": 1.2301, "to_km": 1.2304, "zooms": [18]}
    assert describe_stretches([stretch]) == "km 1.23 of the return to launch (zoom 18)"
