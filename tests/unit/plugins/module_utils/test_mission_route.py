# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is flown, what is ignored and why, and where the vehicle takes off."""

from __future__ import annotations

import json
import time

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import FlightFileError
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import (
    FlightResolveSource,
    RouteKind,
    TakeoffRule,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_file import read_flight_bytes
from ansible_collections.gps_denied.preflight.plugins.module_utils._mavlink_commands import COMMANDS, Role, command_of

HOME = (16, 0, (0, 0, 0, 0), 47.0, 8.0, 400)
A, B, C = (47.001, 8.001), (47.002, 8.002), (47.003, 8.003)


def wpl(*items, home=HOME):
    """A flight of items `(command, frame, params, lat, lon, alt)`; line 2 is home, line 3 the first of them."""
    lines = ["QGC WPL 110" if home else "QGC WPL 120"]
    for number, (command, frame, params, lat, lon, alt) in enumerate(([home] if home else []) + list(items)):
        lines.append("\t".join(map(str, (number, 0, frame, command, *params, lat, lon, alt, 1))))
    return read_flight_bytes("\n".join(lines).encode(), flight_id="f", source=FlightResolveSource.FILE)


def fly(command, position, *params, frame=3, alt=50):
    return (command, frame, (*params, 0, 0, 0, 0)[:4], *position, alt)


def plan(*items, **more):
    body = {"fileType": "Plan", "version": 1, "mission": {"version": 2, "items": list(items)}, **more}
    return read_flight_bytes(json.dumps(body).encode(), flight_id="f", source=FlightResolveSource.FILE)


def parts(flight, why):
    return [part for part in flight.parts if part.why == why]


def points(part):
    return [(vertex.position.lat, vertex.position.lon) for vertex in part.vertices]


def reasons(flight):
    return {item.source: item.reason for item in flight.ignored}


@pytest.mark.parametrize("command", sorted(n for n, c in COMMANDS.items() if c.role is Role.FLOWN and n != 5000))
def test_commands_that_are_flown_to_are_vertices(command):
    flight = wpl(fly(16, A), fly(command, B))
    assert [vertex.command for vertex in flight.waypoints] == [16, command]


@pytest.mark.parametrize("command", sorted(n for n, c in COMMANDS.items() if c.role is not Role.FLOWN))
def test_other_commands_are_never_vertices_and_say_why(command):
    flight = wpl(fly(16, A), fly(command, (1.0, 60.0), 1.0))
    assert [vertex.command for vertex in flight.waypoints] == [16]
    assert "line 4" in reasons(flight)
    route = [position for part in parts(flight, "route") + parts(flight, "departure") for position in points(part)]
    assert (1.0, 60.0) not in route


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (203, Role.NOT_A_POSITION),
        (201, Role.LOOKED_AT),
        (24, Role.LOCAL),
        (20, Role.NONE),
        (42123, Role.NONE),
        (16, Role.FLOWN),
    ],
)
def test_the_table_knows_the_traps(command, role):
    assert command_of(command).role is role


def test_an_unknown_command_is_no_position_and_warns_with_its_line():
    flight = wpl(fly(16, A), fly(7777, B))
    assert len(flight.waypoints) == 1
    assert any("line 4: command 7777 is unknown" in warning for warning in flight.warnings)


@pytest.mark.parametrize("frame", [1, 4, 7, 8, 9, 12, 20, 21])
def test_local_frames_are_metres(frame):
    flight = wpl(fly(16, A), fly(16, (10, 20), frame=frame))
    assert len(flight.waypoints) == 1
    assert "metres, not degrees" in reasons(flight)["line 4"]


@pytest.mark.parametrize("frame", [0, 2, 3, 5, 6, 10, 11])
def test_frames_of_the_globe_are_degrees(frame):
    assert points(parts(wpl(fly(16, A), fly(16, B, frame=frame)), "route")[0])[1] == B


def test_an_unknown_frame_is_ignored_with_a_warning():
    flight = wpl(fly(16, A), fly(16, B, frame=99))
    assert len(flight.waypoints) == 1
    assert any("frame 99 is unknown" in warning for warning in flight.warnings)


def test_zero_zero_is_the_current_position_but_one_zero_is_a_place():
    flight = wpl(fly(16, A), fly(19, (0, 0), 10, 0, 75), fly(16, (0, 8.0)))
    assert [(v.position.lat, v.position.lon) for v in flight.waypoints] == [A, (0, 8.0)]
    assert "current position" in reasons(flight)["line 4"]
    (loiter,) = parts(flight, "loiter")
    assert (points(loiter), loiter.half_width_m) == ([A], 75)


@pytest.mark.parametrize("unset", ["nan", 2147483647, -2147483648.0])
def test_unset_positions_are_the_current_position(unset):
    assert len(wpl(fly(16, A), fly(16, (unset, unset))).waypoints) == 1


def test_a_take_off_without_a_position_climbs_at_home_and_the_first_leg_starts_there():
    flight = wpl(fly(22, (0, 0)), fly(16, A))
    assert points(parts(flight, "route")[0]) == [(47.0, 8.0), A]


@pytest.mark.parametrize(
    ("command", "params", "radius_m"),
    [
        (17, (0, 0, -120), 120),
        (18, (2, 0, 60), 60),
        (19, (9, 0, 0), 80),
        (31, (0, 90, 0), 90),
        (31, (0, 0, 90), 80),
        (34, (45, 0, 0), 45),
    ],
)
def test_loiter_radii_widen_the_footprint(command, params, radius_m):
    (loiter,) = parts(wpl(fly(16, A), fly(command, B, *params)), "loiter")
    assert loiter.half_width_m == radius_m
    assert loiter.kind is RouteKind.POINT


def test_an_absurd_radius_is_cut_with_a_warning():
    flight = wpl(fly(16, A), fly(18, B, 1, 0, 1e6))
    assert parts(flight, "loiter")[0].half_width_m == 20_000
    assert any("radius 1,000,000 m" in warning for warning in flight.warnings)


def test_return_to_launch_covers_the_legs_home_and_to_every_rally_point():
    rally = ((5100, 0, (0, 0, 0, 0), *position, 40) for position in (C, (47.004, 8.0)))
    flight = wpl(fly(16, A), fly(16, B), fly(20, (0, 0)), fly(189, (0, 0)), fly(16, C), fly(21, A), *rally)
    assert [points(part) for part in parts(flight, "return_to_launch")] == [[B, (47.0, 8.0)]]
    legs = [points(part) for part in parts(flight, "rally")]
    assert [B, C] in legs
    assert [B, (47.004, 8.0)] in legs
    assert [points(part) for part in parts(flight, "route")] == [[A, B], [C, A]]


def test_a_jump_covers_its_leg_and_a_missing_target_warns():
    flight = wpl(fly(16, A), fly(16, B), fly(16, C), fly(177, (0, 0), 1, -1), fly(177, (0, 0), 99, 2))
    assert [points(part) for part in parts(flight, "jump")] == [[C, A]]
    assert any("line 7: jumps to item 99, which does not exist" in warning for warning in flight.warnings)


def test_ten_thousand_jumps_cost_no_more_than_as_many_waypoints():
    start = time.process_time()
    flight = wpl(*[fly(16, (47 + i * 1e-6, 8.0)) if i % 2 else fly(177, (0, 0), 2, 1) for i in range(10_000)])
    assert len(parts(flight, "jump")) > 4_000
    assert time.process_time() - start < 4


def test_returns_times_rally_points_are_bounded():
    items = [item for i in range(400) for item in (fly(16, (47 + i * 1e-6, 8.0)), fly(20, (0, 0)))]
    rally = [(5100, 0, (0, 0, 0, 0), 47.0, 8 + i * 1e-6, 40) for i in range(400)]
    with pytest.raises(FlightFileError, match="returns 400 times and has 400 rally points"):
        wpl(*items, *rally)


def test_splines_and_arcs_are_widened():
    (curve,) = parts(wpl(fly(16, A), fly(82, B)), "curve")
    assert points(curve) == [A, B]
    assert 60 < curve.half_width_m < 80


def test_the_departure_leg_is_covered():
    assert [points(part) for part in parts(wpl(fly(16, A)), "departure")] == [[(47.0, 8.0), A]]


def test_the_order_of_the_origin():
    assert wpl(fly(22, A)).takeoff_origin.rule is TakeoffRule.PLANNED_HOME
    assert wpl(fly(22, A)).takeoff_origin.alt_m == 400
    assert wpl(fly(16, B), fly(22, A), home=None).takeoff_origin.rule is TakeoffRule.TAKEOFF_ITEM
    first = wpl(fly(16, B), fly(16, A), home=None).takeoff_origin
    assert (first.rule, first.lat_deg, first.alt_m) == (TakeoffRule.FIRST_WAYPOINT, B[0], None)
    zero = wpl(fly(16, B), home=(16, 0, (0, 0, 0, 0), 0, 0, 0))
    assert zero.takeoff_origin.rule is TakeoffRule.FIRST_WAYPOINT
    assert reasons(zero)["line 2"] == "home that is not set"


@pytest.mark.parametrize("first", [(22, 0, (0, 0, 0, 0), *C, 400), (16, 3, (0, 0, 0, 0), *C, 400)])
def test_item_zero_is_home_only_as_a_waypoint_in_the_global_frame(first):
    assert len(wpl(fly(16, A), home=first).waypoints) == 2


def test_a_home_far_from_the_mission_warns():
    flight = wpl(fly(16, (47.2, 8.0)), fly(16, (47.3, 8.0)))
    assert any("22.2 km from the nearest waypoint" in warning for warning in flight.warnings)


def test_an_impossible_home_is_an_error():
    with pytest.raises(FlightFileError, match="line 2: home 147"):
        wpl(fly(16, A), home=(16, 0, (0, 0, 0, 0), 147.0, 8.0, 0))


def simple(command, lat, lon, number=1):
    return {
        "type": "SimpleItem",
        "command": command,
        "frame": 3,
        "doJumpId": number,
        "params": [0, 0, 0, None, lat, lon, 9],
    }


def test_a_survey_is_its_transects_and_its_polygon():
    ring = [[47.0, 8.0], [47.01, 8.0], [47.01, 8.01]]
    style = {"Items": [simple(16, *A), simple(206, 0, 0), simple(16, *B)], "TurnAroundDistance": 30}
    flight = plan(
        {"type": "ComplexItem", "complexItemType": "survey", "polygon": ring, "TransectStyleComplexItem": style}
    )
    assert points(parts(flight, "route")[0]) == [A, B]
    (survey,) = parts(flight, "survey")
    assert (survey.kind, points(survey), survey.half_width_m) == (RouteKind.POLYGON, [tuple(p) for p in ring], 30)


def test_a_survey_without_items_flies_what_the_planner_drew():
    style = {"VisualTransectPoints": [list(A), list(B)], "TurnAroundDistance": 0}
    flight = plan({"complexItemType": "survey", "polygon": [], "TransectStyleComplexItem": style})
    assert points(parts(flight, "route")[0]) == [A, B]


def test_a_corridor_is_as_wide_as_it_says():
    item = {"complexItemType": "CorridorScan", "polyline": [list(A), list(B)], "CorridorWidth": 100}
    (scan,) = parts(plan({**item, "TransectStyleComplexItem": {"TurnAroundDistance": 12}}), "corridor_scan")
    assert (scan.kind, scan.half_width_m) == (RouteKind.LINE, 62)


def test_a_structure_is_circled_at_the_cameras_distance():
    item = {
        "complexItemType": "StructureScan",
        "polygon": [list(A), list(B), list(C)],
        "CameraCalc": {"DistanceToSurface": 25},
    }
    (scan,) = parts(plan(item), "structure_scan")
    assert (scan.kind, scan.half_width_m) == (RouteKind.POLYGON, 25)


@pytest.mark.parametrize("approach", ["landingApproachCoordinate", "loiterCoordinate"])
@pytest.mark.parametrize("kind", ["fwLandingPattern", "vtolLandingPattern"])
def test_a_landing_pattern_is_its_approach_its_circle_and_its_touchdown(kind, approach):
    item = {"complexItemType": kind, approach: [*B, 50], "loiterRadius": 120, "landCoordinate": [*C, 0]}
    flight = plan(simple(16, *A), item)
    assert points(parts(flight, "route")[0]) == [A, B, C]
    assert parts(flight, "loiter")[0].half_width_m == 120


def test_an_unknown_complex_item_warns_that_it_is_not_covered():
    flight = plan(simple(16, *A), {"type": "ComplexItem", "complexItemType": "Spiral"})
    assert any("'Spiral' is unknown: its area is not covered" in warning for warning in flight.warnings)


def test_fences_limit_and_are_not_flown_but_their_return_point_is_covered():
    fence = {
        "circles": [{"circle": {"center": [47.5, 8.5], "radius": 100}, "inclusion": True}],
        "polygons": [{"polygon": [[47.5, 8.5], [47.6, 8.5], [47.6, 8.6]], "inclusion": False}],
        "breachReturn": [*C, 50],
    }
    flight = plan(simple(16, *A), geoFence=fence)
    assert [part.why for part in flight.parts] == ["fence_return", "route"]
    assert reasons(flight)["geoFence.circles[0]"].startswith("fence (inclusion)")
    assert reasons(flight)["geoFence.polygons[0]"].startswith("fence (exclusion)")


def test_a_plan_of_only_a_fence_covers_its_inside():
    fence = {"polygons": [{"polygon": [list(A), list(B), list(C)], "inclusion": True}]}
    flight = plan(geoFence=fence)
    assert [part.why for part in flight.parts] == ["fence"]
    assert any("the area inside the fence is covered" in warning for warning in flight.warnings)


def test_rally_points_of_a_plan_are_covered():
    flight = plan(simple(16, *A), simple(20, 0, 0), rallyPoints={"points": [[*B, 50]], "version": 2})
    assert [A, B] in [points(part) for part in parts(flight, "rally")]


def test_equal_geometry_has_an_equal_fingerprint_whatever_the_format():
    one = wpl(fly(16, A), fly(16, B), home=None)
    other = plan(
        {**simple(16, *A), "params": [0, 0, 0, None, *A, 50]}, {**simple(16, *B), "params": [0, 0, 0, None, *B, 50]}
    )
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != wpl(fly(16, A), fly(16, C), home=None).fingerprint
