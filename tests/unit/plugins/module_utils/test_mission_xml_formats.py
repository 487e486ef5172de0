# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is particular to DJI WPML, MultiWii XML, KML, GPX and GeoJSON."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import FlightFileError, FlightRouteError
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import (
    FlightResolveSource,
    RouteKind,
    TakeoffRule,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_file import read_flight_bytes


def read(content):
    if isinstance(content, dict):
        content = json.dumps(content)
    data = content if isinstance(content, bytes) else content.encode()
    return read_flight_bytes(data, flight_id="f", source=FlightResolveSource.FILE)


def points(part):
    return [(vertex.position.lat, vertex.position.lon) for vertex in part.vertices]


def wpml(*folders, config="", version="1.0.6"):
    body = "".join(
        f"<Folder><wpml:waylineId>{number}</wpml:waylineId>{folder}</Folder>" for number, folder in enumerate(folders)
    )
    return (
        f'<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:wpml="http://www.dji.com/wpmz/{version}"><Document>'
        f"<wpml:missionConfig>{config}</wpml:missionConfig>{body}</Document></kml>"
    )


def stop(lat, lon, more="", height="40"):
    return (
        f"<Placemark><Point><coordinates> {lon},{lat} </coordinates></Point>"
        f"<wpml:executeHeight>{height}</wpml:executeHeight>{more}</Placemark>"
    )


def kmz(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"wpmz/{name}", content)
    return stream.getvalue()


LINE = stop(47, 8) + stop(47.01, 8.01)
HOME = "<wpml:takeOffRefPoint>47.001,8.001,430</wpml:takeOffRefPoint>"
SURVEY = (
    "<Placemark><Polygon><outerBoundaryIs><LinearRing><coordinates>8,47,0 8.01,47,0 8.01,47.01,0 8,47,0</coordinates>"
    "</LinearRing></outerBoundaryIs></Polygon></Placemark>"
)


@pytest.mark.parametrize("version", ["1.0.2", "1.0.6"])
def test_each_wayline_is_a_line_of_its_own(version):
    flight = read(wpml(LINE, stop(47.02, 8.02) + stop(47.03, 8.03), version=version))
    assert flight.format == "dji-wpml"
    lines = [points(part) for part in flight.parts if part.why == "route"]
    assert lines == [[(47, 8), (47.01, 8.01)], [(47.02, 8.02), (47.03, 8.03)]]
    assert flight.waypoints[0].alt_m == 40


def test_the_reference_point_is_latitude_first_and_home_is_where_the_flight_ends():
    flight = read(wpml(LINE, config=HOME + "<wpml:finishAction>goHome</wpml:finishAction>"))
    origin = flight.takeoff_origin
    assert (origin.lat_deg, origin.lon_deg, origin.rule) == (47.001, 8.001, TakeoffRule.PLANNED_HOME)
    assert [points(part) for part in flight.parts if part.why == "return_to_launch"] == [
        [(47.01, 8.01), (47.001, 8.001)]
    ]


@pytest.mark.parametrize("reference", ["0.0,0.0,0.0", "47.0", ""])
def test_a_reference_point_that_is_unset_is_no_home(reference):
    flight = read(wpml(LINE, config=f"<wpml:takeOffRefPoint>{reference}</wpml:takeOffRefPoint>"))
    assert flight.takeoff_origin.rule is TakeoffRule.FIRST_WAYPOINT


def test_points_of_interest_and_placemarks_without_points_are_ignored_with_their_reason():
    poi = "<wpml:x><wpml:waypointPoiPoint>47.5,8.5,0</wpml:waypointPoiPoint></wpml:x>"
    flight = read(wpml(stop(47, 8, poi, height="high") + "<Placemark/>"))
    assert len(flight.waypoints) == 1
    assert flight.waypoints[0].alt_m is None
    assert {item.reason for item in flight.ignored} == {
        "point of interest: looked at, not flown to",
        "placemark without a point",
    }


def test_the_waylines_are_flown_and_the_template_gives_the_home():
    template = wpml(stop(47.5, 8.5), config=HOME)
    flight = read(kmz(**{"template.kml": template, "waylines.wpml": wpml(LINE)}))
    assert len(flight.waypoints) == 2
    assert flight.takeoff_origin.lat_deg == 47.001
    assert "wpmz/template.kml" in {item.source for item in flight.ignored}


@pytest.mark.parametrize("template", ["", wpml()])
def test_an_empty_template_does_not_matter(template):
    assert len(read(kmz(**{"template.kml": template, "waylines.wpml": wpml(LINE)})).waypoints) == 2


@pytest.mark.parametrize("waylines", ["", wpml()])
def test_a_template_alone_gives_its_polygon(waylines):
    flight = read(kmz(**{"template.kml": wpml(SURVEY, config=HOME), "waylines.wpml": waylines}))
    assert [(part.kind, part.why) for part in flight.parts] == [(RouteKind.POLYGON, "survey")]
    assert flight.takeoff_origin.lat_deg == 47.001


def test_a_wayline_without_a_latitude_names_its_place():
    with pytest.raises(FlightFileError, match=r"wayline 0, waypoint 0\): latitude ''"):
        read(wpml(stop("", "8").replace("8,", "8")))


def multiwii(*items, home=""):
    body = "".join(
        f'<missionitem no="{number}" action="{action}" lat="{lat}" lon="{lon}" alt="30" '
        f'parameter1="{first}" flag="{flag}"/>'
        for number, (action, lat, lon, first, flag) in enumerate(items, start=1)
    )
    return f"<mission>{home}{body}</mission>"


def test_multiwii_actions_and_its_home():
    flight = read(
        multiwii(
            ("WAYPOINT", 47, 8, 0, 0),
            ("POSHOLD_TIME", 47.01, 8.01, 20, 0),
            ("SET_HEAD", 0, 0, 90, 0),
            ("WAYPOINT", 0, 0, 0, 72),
            ("JUMP", 0, 0, 1, 0),
            ("RTH", 0, 0, 0, 165),
            ("LAND", 47.2, 8.2, 0, 0),
            home='<mwp home-x="8.001" home-y="47.001"/>',
        )
    )
    assert [points(part) for part in flight.parts if part.why == "route"] == [
        [(47, 8), (47.01, 8.01), (47.001, 8.001)],
        [(47.2, 8.2)],
    ]
    assert [points(part) for part in flight.parts if part.why == "jump"] == [[(47.001, 8.001), (47, 8)]]
    assert flight.takeoff_origin.rule is TakeoffRule.PLANNED_HOME


def test_multiwii_warns_of_what_it_cannot_know():
    flight = read(multiwii(("WAYPOINT", 47, 8, 0, 0), ("DANCE", 1, 1, 0, 0), ("WAYPOINT", 0, 0, 0, 72)))
    assert len(flight.waypoints) == 1
    assert any("'DANCE' is unknown" in warning for warning in flight.warnings)
    assert any("flies to home, which the file does not state" in warning for warning in flight.warnings)
    unset = read(multiwii(("WAYPOINT", 47, 8, 0, 0), home='<mwp home-x="0" home-y="0"/>'))
    assert unset.takeoff_origin.rule is TakeoffRule.FIRST_WAYPOINT
    with pytest.raises(FlightFileError, match="line 1: lat is '1e99'"):
        read(multiwii(("WAYPOINT", "1e99", 8, 0, 0)))


def kml(body):
    return f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{body}</Document></kml>'


def test_kml_links_and_overlays_are_named_and_never_followed():
    line = "<Placemark><LineString><coordinates>8,47 8.01,47</coordinates></LineString></Placemark>"
    link = "<NetworkLink><Link><href>http://192.0.2.1/x.kml</href></Link></NetworkLink>"
    flight = read(
        kml(line + link + "<GroundOverlay/><Placemark><Point><coordinates>9,48</coordinates></Point></Placemark>")
    )
    assert points(flight.parts[0]) == [(47, 8), (47, 8.01)]
    assert [item.reason.split(":")[0] for item in flight.ignored] == [
        "NetworkLink",
        "GroundOverlay",
        "point beside lines or polygons",
    ]


@pytest.mark.parametrize("ring", ["8,47 8.01,47 8,47", "8,47 8.01,47"])
def test_a_polygon_of_two_corners_is_none(ring):
    with pytest.raises(FlightRouteError):
        read(kml(f"<Placemark><LinearRing><coordinates>{ring}</coordinates></LinearRing></Placemark>"))


def test_altitudes_that_are_none_are_left_out():
    flight = read(kml("<LineString><coordinates>8,47,high 8.01,47,1e9 8.02,47,9</coordinates></LineString>"))
    assert [vertex.alt_m for vertex in flight.waypoints] == [None, None, 9]


def gpx(body):
    return f'<gpx version="1.1"><metadata><name>Round</name></metadata>{body}</gpx>'


def test_gpx_segments_are_separate_lines_and_the_route_wins():
    segments = "".join(
        f'<trkseg><trkpt lat="47" lon="{lon}"><ele>{height}</ele></trkpt><trkpt lat="47.01" lon="{lon}"/></trkseg>'
        for lon, height in ((8, "5"), (9, "tall"), (10, "1e9"))
    )
    flight = read(gpx(f"<trk>{segments}</trk>"))
    assert [points(part) for part in flight.parts] == [[(47, lon), (47.01, lon)] for lon in (8, 9, 10)]
    assert [vertex.alt_m for vertex in flight.waypoints] == [5, None, None, None, None, None]
    assert flight.name == "Round"
    both = read(gpx(f'<trk>{segments}</trk><rte><rtept lat="1" lon="2"/></rte><wpt lat="3" lon="4"/><rte/>'))
    assert [points(part) for part in both.parts] == [[(1, 2)]]
    assert len(both.ignored) == 5


def test_geojson_polygons_are_covered_and_holes_too():
    ring = [[8, 47], [8.01, 47], [8.01, 47.01], [8, 47]]
    shape = {"type": "MultiPolygon", "coordinates": [[ring, ring]]}
    collection = {
        "type": "GeometryCollection",
        "geometries": [shape, {"type": "MultiLineString", "coordinates": [ring]}],
    }
    features = [{"type": "Feature", "geometry": collection}, {"type": "Feature", "geometry": None}]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    flight = read({"type": "FeatureCollection", "name": "aoi", "crs": crs, "features": features})
    assert [part.kind for part in flight.parts if part.why != "departure"] == [RouteKind.POLYGON, RouteKind.LINE]
    assert flight.name == "aoi"
    assert [item.source for item in flight.ignored] == ["features[1]"]


def test_a_geojson_position_of_one_number_is_named():
    with pytest.raises(FlightFileError, match=r"coordinates\[1\] is not a position \[longitude, latitude\]"):
        read({"type": "LineString", "coordinates": [[8, 47], [8]]})
