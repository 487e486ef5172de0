# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The area is held against pyproj's geodesics and mercantile's grid, which its own code does not use."""

from __future__ import annotations

import math
from dataclasses import replace

import mercantile
import numpy as np
import pytest
import shapely
from ansible_collections.gps_denied.preflight.plugins.module_utils._area import build_area, distance_m, tiles_for_area
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import AreaError, AreaTooLargeError, ExitCode
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
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import Geod

WGS84 = Geod(ellps="WGS84")


def flight(*rings_or_lines, kind=RouteKind.LINE, half_width_m=0.0, origin=None):
    """A flight of parts given as lists of (latitude, longitude)."""
    parts = tuple(
        RoutePart(
            kind,
            tuple(Waypoint(LonLat(lon=lon, lat=lat), source=f"item {index}") for index, (lat, lon) in enumerate(part)),
            half_width_m,
        )
        for part in rings_or_lines
    )
    lat, lon = origin or rings_or_lines[0][0]
    return Flight(
        flight_id="f",
        name=None,
        source=FlightResolveSource.FILE,
        format="test",
        waypoints=parts[0].vertices,
        parts=parts,
        takeoff_origin=TakeoffOrigin(lat, lon, None, TakeoffRule.FIRST_WAYPOINT),
    )


def moved(lat, lon, bearing_deg, metres):
    lon2, lat2, _back = WGS84.fwd(lon, lat, bearing_deg, metres)
    return lat2, lon2


def tile_of(lat, lon, zoom):
    around = (lon + 180) % 360 - 180  # a hair west of -180 is 180.0 in floating point, which is column -180's
    # mercantile rounds the last 3.6e-12 degrees before 180 up, to a column that there is not
    tile = mercantile.tile(-180.0 if around >= 180 else min(around, 180 - 4e-12), lat, zoom)
    return (zoom, tile.x, tile.y)


_ROUTES = st.tuples(
    st.floats(-80, 80),
    st.floats(-180, 180),
    st.lists(st.tuples(st.floats(0, 360), st.floats(0, 9_000)), min_size=1, max_size=6),
    st.floats(0, 1_500),
)


@settings(max_examples=60, deadline=None)
@given(_ROUTES, st.integers(10, 17))
@example((0.0, 180.0, [(0.0, 0.0)], 1e-07), 10)
def test_every_point_of_the_buffered_route_lies_in_a_tile(route, zoom):
    lat, lon, legs, buffer_m = route
    vertices = [(lat, lon)]
    for bearing, metres in legs:
        vertices.append(moved(*vertices[-1], bearing, metres))
    area = build_area(flight(vertices), buffer_m=buffer_m, takeoff_radius_m=0)
    tiles = tiles_for_area(area, [zoom], max_tiles=10**9)
    for (lat_a, lon_a), (lat_b, lon_b) in zip(vertices, vertices[1:]):
        bearing, _back, length = WGS84.inv(lon_a, lat_a, lon_b, lat_b)
        for share in (0, 0.25, 0.5, 0.8, 1):
            point = moved(lat_a, lon_a, bearing, length * share)
            for around in range(0, 360, 30):
                assert tile_of(*moved(*point, around, buffer_m * 0.9999), zoom) in tiles


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-75, 75),
    st.floats(-180, 180),
    st.floats(0, 360),
    st.floats(5_000, 95_000),
)
def test_a_long_leg_covers_the_geodesic_and_the_line_on_the_map(lat, lon, bearing, metres):
    end = moved(lat, lon, bearing, metres)
    area = build_area(flight([(lat, lon), end]), buffer_m=50, takeoff_radius_m=0)
    tiles = tiles_for_area(area, [14], max_tiles=10**9)
    x_a, x_b = lon, lon + (end[1] - lon + 180) % 360 - 180
    y_a, y_b = (math.asinh(math.tan(math.radians(value))) for value in (lat, end[0]))
    for step in range(41):
        share = step / 40
        on_map = math.degrees(math.atan(math.sinh(y_a + (y_b - y_a) * share))), x_a + (x_b - x_a) * share
        for point in (moved(lat, lon, bearing, metres * share), on_map):
            for around in (0, 90, 180, 270):
                assert tile_of(*moved(*point, around, 49), 14) in tiles


@settings(max_examples=30, deadline=None)
@given(_ROUTES)
def test_the_area_is_hardly_wider_than_asked(route):
    lat, lon, legs, buffer_m = route
    vertices = [(lat, lon)]
    for bearing, metres in legs:
        vertices.append(moved(*vertices[-1], bearing, metres))
    area = build_area(flight(vertices), buffer_m=buffer_m, takeoff_radius_m=0)
    # Independent distance: from the outline's corners to the densified route, by pyproj's geodesics.
    route_points = []
    for (lat_a, lon_a), (lat_b, lon_b) in zip(vertices, vertices[1:]):
        bearing, _back, length = WGS84.inv(lon_a, lat_a, lon_b, lat_b)
        steps = max(2, int(length / 25))
        route_points += [moved(lat_a, lon_a, bearing, length * i / steps) for i in range(steps + 1)]
    lats, lons = (np.array(column) for column in zip(*route_points))
    corners = shapely.get_coordinates(shapely.from_wkb(area.geometry_wkb))
    corners = corners[np.abs(np.abs(corners[:, 0]) - 180) > 1e-6][:: max(1, len(corners) // 40)]
    widest = max(buffer_m, 1.0)
    for corner_lon, corner_lat in corners:
        _a, _b, metres = WGS84.inv(np.full(len(lats), corner_lon), np.full(len(lats), corner_lat), lons, lats)
        assert metres.min() <= widest * 1.02 + 15


def test_the_grid_has_exactly_the_tiles_that_shapely_sees_touching():
    area = build_area(
        flight([(47.0, 8.0), (47.02, 8.05), (46.99, 8.03)], [(47.05, 8.1), (47.06, 8.1)]),
        buffer_m=120,
        takeoff_radius_m=700,
    )
    shape = shapely.from_wkb(area.geometry_wkb)
    for zoom in (12, 15, 16, 17):
        box = mercantile.tiles(*shape.bounds, zooms=zoom)
        expected = {(t.z, t.x, t.y) for t in box if shape.intersects(shapely.box(*mercantile.bounds(t)))}
        found = {tuple(tile) for tile in tiles_for_area(area, [zoom])}
        # A tile that is only touched at the rounding of its border may be taken by one and not the other.
        assert all(
            shape.distance(shapely.box(*mercantile.bounds(mercantile.Tile(x, y, z)))) < 1e-9 for z, x, y in found
        )
        assert expected <= found


@pytest.mark.parametrize("hole", [False, True])
def test_disjoint_parts_and_rings_with_open_insides(hole):
    ring = [moved(47, 8, bearing, 3000) for bearing in range(0, 360, 10)]
    kind = RouteKind.LINE if hole else RouteKind.POLYGON
    area = build_area(flight(ring + ring[:1] if hole else ring, kind=kind), buffer_m=100, takeoff_radius_m=0)
    tiles = tiles_for_area(area, [17])
    assert (tile_of(47, 8, 17) in tiles) is not hole
    assert tile_of(*ring[5], 17) in tiles
    expected_km2 = math.pi * (3.1**2 - 2.9**2) if hole else math.pi * 3.1**2
    assert area.area_km2 == pytest.approx(expected_km2, rel=0.05)


def test_a_ring_that_crosses_itself_is_filled_whole():
    bowtie = [(47.0, 8.0), (47.02, 8.03), (47.02, 8.0), (47.0, 8.03)]
    tiles = tiles_for_area(build_area(flight(bowtie, kind=RouteKind.POLYGON), buffer_m=10, takeoff_radius_m=0), [17])
    assert tile_of(47.015, 8.015, 17) in tiles
    assert tile_of(47.005, 8.015, 17) in tiles


def test_the_antimeridian_is_two_parts_and_few_tiles():
    area = build_area(flight([(-17.0, 179.99), (-17.0, -179.99), (-17.002, 179.995)]), buffer_m=300)
    assert area.bbox.crosses_antimeridian
    assert area.bbox.west > 179.9
    assert area.bbox.east < -179.9
    parts = area.to_geojson()["coordinates"]
    assert len(parts) == 2
    assert all(-180 <= lon <= 180 for part in parts for ring in part for lon, _lat in ring)
    tiles = tiles_for_area(area, [15])
    columns = {tile.x for tile in tiles}
    assert {0, (1 << 15) - 1} <= columns
    assert len(tiles) < 60
    assert area.area_km2 < 5


@pytest.mark.parametrize("kind", ["corridor", "bbox", "polygon"])
def test_each_kind_holds_the_one_before(kind):
    route = flight([(47.0, 8.0), (47.05, 8.0), (47.05, 8.1)])
    corridor = tiles_for_area(build_area(route), [15])
    area = build_area(route, kind=kind)
    tiles = tiles_for_area(area, [15])
    assert set(corridor) <= set(tiles)
    assert area.kind == kind
    assert (len(tiles) > len(corridor)) is (kind != "corridor")


def test_a_single_point_is_a_disc_of_its_buffer():
    area = build_area(flight([(60.0, 10.0)], kind=RouteKind.POINT), buffer_m=1000, takeoff_radius_m=0)
    assert area.area_km2 == pytest.approx(math.pi, rel=0.02)
    assert area.area_km2 > math.pi * 0.999
    assert area.bbox.north - area.bbox.south == pytest.approx(2000 / 111_412, rel=0.01)


def test_the_take_off_disc_is_covered_where_the_route_does_not_lead():
    away = flight([(47.0, 8.0), (47.0, 8.01)], origin=(47.2, 8.0))
    assert tile_of(*moved(47.2, 8.0, 90, 690), 16) in tiles_for_area(build_area(away, takeoff_radius_m=700), [16])
    assert tile_of(47.2, 8.0, 16) not in tiles_for_area(build_area(away, takeoff_radius_m=0), [16])


def test_half_width_widens_a_part():
    wide = build_area(flight([(47.0, 8.0), (47.0, 8.1)], half_width_m=800), buffer_m=200, takeoff_radius_m=0)
    assert tile_of(*moved(47.0, 8.05, 0, 990), 17) in tiles_for_area(wide, [17])


@pytest.mark.parametrize("lat", [85.051, -85.051, 85.0512, 89.99, -90])
def test_near_a_pole_there_is_no_tile_and_nothing_is_clipped(lat):
    with pytest.raises(AreaError, match=r"item \d .*where Web Mercator has no tile"):
        build_area(flight([(lat, 10.0), (lat, 10.001)]))


def test_a_leg_over_the_limit_names_the_stray_vertex():
    with pytest.raises(AreaTooLargeError, match=r"look at item 2 \(0\.000000, 0\.000000\)") as caught:
        build_area(flight([(-35.36, 149.16), (-35.37, 149.17), (0.0, 0.0), (-35.36, 149.17)]))
    assert caught.value.code == ExitCode.AREA_TOO_LARGE
    assert caught.value.details["max_leg_m"] == 100_000


def test_a_part_that_no_leg_joins_is_stray_too_where_it_is_that_far_away():
    home = flight([(-35.36, 149.16), (-35.37, 149.17)])
    stray = replace(home.waypoints[0], position=LonLat(lon=0.5, lat=0.5), source="item 9")
    far = replace(home, parts=(*home.parts, RoutePart(RouteKind.POINT, (stray,))))
    with pytest.raises(
        AreaTooLargeError, match=r"item 9 \(0\.500000, 0\.500000\) lies 1[0-9],\d{3}\.\d km from the rest"
    ):
        build_area(far)
    near = replace(stray, position=LonLat(lon=149.9, lat=-35.36))
    assert build_area(replace(home, parts=(*home.parts, RoutePart(RouteKind.POINT, (near,))))).area_km2 > 0


def test_too_many_tiles_are_known_before_they_are_counted_and_name_the_outermost_vertex():
    spread = flight([(47.0, 8.0), (47.01, 8.0), (47.0, 8.01), (47.6, 8.6)])
    area = build_area(spread, kind="bbox")
    with pytest.raises(
        AreaTooLargeError, match=r"at least [\d,]+ tiles.*limit of 1,000; the outermost vertex is item 3"
    ):
        tiles_for_area(area, [17], max_tiles=1000)
    with pytest.raises(AreaTooLargeError, match="over the limit"):
        tiles_for_area(build_area(spread), [24], max_tiles=100_000)


def test_a_whole_globe_is_too_large():
    belt = [(0.0, lon) for lon in range(-180, 190, 60)]
    with pytest.raises(AreaTooLargeError, match="around the whole globe"):
        build_area(flight([(lat, (lon + 180) % 360 - 180) for lat, lon in belt]), max_leg_m=1e9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "circle"}, "not one of corridor"),
        ({"buffer_m": -1}, "buffer_m is -1"),
        ({"buffer_m": math.nan}, "buffer_m is nan"),
        ({"takeoff_radius_m": math.inf}, "takeoff_radius_m is inf"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(AreaError, match=message):
        build_area(flight([(47.0, 8.0)], kind=RouteKind.POINT), **options)


@pytest.mark.parametrize("zooms", [[], [25], [-1]])
def test_impossible_zooms_are_refused(zooms):
    area = build_area(flight([(47.0, 8.0)], kind=RouteKind.POINT))
    with pytest.raises(AreaError, match="zoom"):
        tiles_for_area(area, zooms)


@given(st.floats(-89, 89), st.floats(-180, 180), st.floats(-89, 89), st.floats(-180, 180))
def test_distances_agree_with_the_geodesic(lat_a, lon_a, lat_b, lon_b):
    _there, _back, expected = WGS84.inv(lon_a, lat_a, lon_b, lat_b)
    assert distance_m(LonLat(lon_a, lat_a), LonLat(lon_b, lat_b)) == pytest.approx(expected, rel=0.006, abs=0.01)


def test_the_area_on_the_ellipsoid_agrees_with_pyproj():
    area = build_area(flight([(64.0, 20.0), (64.3, 20.5)]), kind="polygon", buffer_m=3000)
    expected, _perimeter = WGS84.geometry_area_perimeter(shapely.from_wkb(area.geometry_wkb))
    assert area.area_km2 == pytest.approx(abs(expected) / 1e6, rel=1e-3)


def test_the_same_flight_gives_the_same_bytes():
    one, other = (build_area(flight([(47.0, 8.0), (47.3, 8.4)], [(47.1, 8.0), (47.1, 8.2)])) for _ in range(2))
    assert one == other
    assert one.mercator_wkb == other.mercator_wkb
