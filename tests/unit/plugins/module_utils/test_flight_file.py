# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Formats by their content, and what is refused with its reason, fast and in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    ExitCode,
    FlightFileError,
    FlightRouteError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import (
    FlightResolveSource,
    TakeoffOrigin,
    TakeoffRule,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_file import (
    read_flight_bytes,
    read_flight_file,
)

ROOT = Path(__file__).parents[4]

WPL = (
    "QGC WPL 110\n"
    "0\t1\t0\t16\t0\t0\t0\t0\t47.3977\t8.5456\t488\t1\n"
    "1\t0\t3\t22\t0\t0\t0\t0\t0\t0\t50\t1\n"
    "2\t0\t3\t16\t0\t0\t0\t0\t47.3988\t8.5470\t50\t1\n"
    "3\t0\t3\t16\t0\t0\t0\t0\t47.3999\t8.5480\t50\t1\n"
)
PLAN = {
    "fileType": "Plan",
    "version": 1,
    "mission": {
        "version": 2,
        "plannedHomePosition": [47.3977, 8.5456, 488],
        "items": [
            {"type": "SimpleItem", "command": 16, "frame": 3, "params": [0, 0, 0, None, 47.3988, 8.547, 50]},
            {"type": "SimpleItem", "command": 16, "frame": 3, "params": [0, 0, 0, None, 47.3999, 8.548, 50]},
        ],
    },
}
KML = (
    '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><name>Field</name><Placemark><LineString>'
    "<coordinates>8.547,47.3988,50 8.548,47.3999,50</coordinates></LineString></Placemark></Document></kml>"
)
WAYPOINTS = [(47.3988, 8.547), (47.3999, 8.548)]


def read(data, **options):
    if not isinstance(data, bytes):
        data = (data if isinstance(data, str) else json.dumps(data)).encode()
    return read_flight_bytes(data, flight_id="f", source=FlightResolveSource.FILE, **options)


def positions(flight):
    return [(vertex.position.lat, vertex.position.lon) for vertex in flight.waypoints]


def archive(members, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members:
            target.writestr(name, content, **options)
    return stream.getvalue()


GPX = '<gpx version="1.1"><{0}><{1}>{2}</{1}></{0}></gpx>'
INAV = (
    '<?xml version="1.0"?><MISSION><VERSION value="2.3"/><mwp home-x="8.5456" home-y="47.3977"/>'
    '<MISSIONITEM no="1" action="WAYPOINT" lat="47.3988" lon="8.5470" alt="50" parameter1="0" flag="0"/>'
    '<MISSIONITEM no="2" action="SET_POI" lat="47.5" lon="8.6" alt="0" flag="0"/>'
    '<MISSIONITEM no="3" action="WAYPOINT" lat="47.3999" lon="8.5480" alt="50" flag="0"/>'
    '<MISSIONITEM no="4" action="RTH" lat="0" lon="0" alt="0" flag="165"/></MISSION>'
)
SAME_ROUTE = {
    "WPL with tabs": WPL,
    "WPL with blanks and comments": "# note\n\n" + WPL.replace("\t", "  ").replace("50  1\n", "50  1  # high\n"),
    "WPL with commas": WPL.replace("\t", ","),
    "WPL with decimal commas": WPL.replace(".", ","),
    "WPL with CRLF and no last newline": WPL.replace("\n", "\r\n").rstrip(),
    "WPL with a mark of UTF-8": b"\xef\xbb\xbf" + WPL.encode(),
    "WPL in UTF-16": WPL.encode("utf-16"),
    "WPL in UTF-16 without a mark": WPL.encode("utf-16-le"),
    "WPL in a Windows code page": b"# Flug \xfcber M\xfcnchen\n" + WPL.encode(),
    "WPL packed by gzip": gzip.compress(WPL.encode()),
    "WPL 120 has no home": WPL.replace("110", "120").replace("0\t1\t0\t16\t0\t0\t0\t0\t47.3977\t8.5456\t488\t1\n", ""),
    "WPL in scaled integers": WPL.replace("47.3988", "473988000").replace("8.5470", "85470000")
    .replace("47.3999", "473999000").replace("8.5480", "85480000").replace("\t3\t16", "\t6\t16"),
    "plan": PLAN,
    "legacy mission, version 2": {**PLAN["mission"], "fileType": "Mission"},
    "legacy mission, version 1": {
        "version": "1.0",
        "plannedHomePosition": {"command": 16, "coordinate": [47.3977, 8.5456, 488]},
        "items": [
            {"command": 16, "frame": 3, "id": i, "coordinate": [lat, lon, 50]} | {f"param{n}": 0 for n in range(1, 5)}
            for i, (lat, lon) in enumerate(WAYPOINTS)
        ],
    },
    "KML": KML,
    "KML track": KML.replace("LineString", "Track").replace(
        "<coordinates>8.547,47.3988,50 8.548,47.3999,50</coordinates>",
        "<coord>8.547 47.3988 50</coord><coord>8.548 47.3999 50</coord>",
    ),
    "KMZ": archive([("doc.kml", KML), ("files/photo.jpg", b"\xff\xd8")]),
    "GPX route": GPX.format("x", "rte", "".join(f'<rtept lat="{a}" lon="{o}"/>' for a, o in WAYPOINTS)),
    "GPX track": GPX.format("trk", "trkseg", "".join(f'<trkpt lat="{a}" lon="{o}"/>' for a, o in WAYPOINTS)),
    "GPX waypoints": "<gpx>" + "".join(f'<wpt lat="{a}" lon="{o}"/>' for a, o in WAYPOINTS) + "</gpx>",
    "GeoJSON line": {"type": "LineString", "coordinates": [[o, a] for a, o in WAYPOINTS]},
    "GeoJSON feature": {
        "type": "Feature", "geometry": {"type": "LineString", "coordinates": [[o, a, 9] for a, o in WAYPOINTS]}
    },
    "GeoJSON points": {"type": "MultiPoint", "coordinates": [[o, a] for a, o in WAYPOINTS]},
    "INAV": INAV,
}  # fmt: skip


@pytest.mark.parametrize("content", SAME_ROUTE.values(), ids=SAME_ROUTE.keys())
def test_every_format_tells_the_same_route(content):
    flight = read(content)
    assert positions(flight) == pytest.approx([pytest.approx(position) for position in WAYPOINTS])


@pytest.mark.parametrize("name", ["mission.txt", "x.kml", "no-extension", "weird.plan.bak"])
def test_names_do_not_matter(tmp_path, name):
    (tmp_path / name).write_text(WPL)
    flight = read_flight_file(tmp_path / name)
    assert flight.format == "qgc-wpl"
    assert flight.flight_id == Path(name).stem
    assert flight.source is FlightResolveSource.FILE
    assert len(flight.revision) == 64


def test_the_operators_origin_is_the_strongest():
    flight = read(WPL, origin=TakeoffOrigin(47.4, 8.55, 500.0, TakeoffRule.FIRST_WAYPOINT))
    assert flight.takeoff_origin == TakeoffOrigin(47.4, 8.55, 500.0, TakeoffRule.OPTION)


def bomb() -> bytes:
    return archive([("doc.kml", b"<kml>" + b" " * (64 << 20) + b"</kml>")])


ENTITY = '<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY a "b">]><kml><name>&a;</name></kml>'
REFUSED = {
    "nothing known": ("hello", "is text of no known mission format"),
    "JSON of nothing known": ({"a": 1}, "is JSON of no known mission format"),
    "XML of nothing known": ("<svg/>", "is XML of no known mission format"),
    "a JSON list": ("[1]", "is a JSON list"),
    "broken JSON": ('{"fileType": "Plan",\n "version": }', r"line 2, column 13: not JSON"),
    "deep JSON": ('{"a":' * 100_000, "nests deeper than 64"),
    "deep JSON behind escapes": ('{"a\\"[": ' + "[" * 65 + "]" * 65 + "}", "nests deeper than 64"),
    "brackets in strings are no depth": (json.dumps({"a": "[" * 500}), "is JSON of no known"),
    "NaN": ('{"fileType": "Plan", "version": NaN}', "NaN, which is not a JSON number"),
    "a repeated key": ('{"fileType": "Plan", "fileType": "Plan"}', "repeats the key 'fileType'"),
    "a number of 5,000 digits": ('{"fileType": "Plan", "version": ' + "9" * 5000 + "}", "too many digits"),
    "a number beyond floats": ('{"fileType": "Plan", "version": 1e999}', "version is too large a number"),
    "a million values": ('{"fileType": "Plan", "x": [' + "0," * 1_600_000 + "0]}", "more than 1,500,000 values"),
    "plan of version 2": ({**PLAN, "version": 2}, "version is 2"),
    "plan without a mission": ({"fileType": "Plan", "version": 1}, "mission is missing, not an object"),
    "plan whose items are text": ({**PLAN, "mission": {"items": "x"}}, r"mission\.items is text, not a list"),
    "plan with a latitude as text": (
        json.dumps(PLAN).replace("47.3999", '"47"'),
        r"mission\.items\[1\]\.params\[4\] is text, not a number",
    ),
    "plan with a scaled latitude of 200": (
        json.dumps(PLAN).replace("47.3999", "1999999999"),
        r"mission\.items\[1\]: position",
    ),
    "plan item without a command": (
        {**PLAN, "mission": {"items": [{"type": "SimpleItem"}]}},
        r"mission\.items\[0\] has no command",
    ),
    "plan with half a command": (
        {**PLAN, "mission": {"items": [{"command": 16.5}]}},
        r"items\[0\]\.command is 16\.5, not a whole number",
    ),
    "plan with a fence radius of 1e9 m": (
        {**PLAN, "geoFence": {"circles": [{"circle": {"center": [1, 2], "radius": 1e9}}]}},
        r"geoFence\.circles\[0\]\.circle\.radius",
    ),
    "WPL 42": (WPL.replace("110", "42"), "line 1: version 42"),
    "WPL with text for a latitude": (WPL.replace("47.3988", "north"), "line 4: lat is 'north', not a number"),
    "WPL with infinity": (WPL.replace("47.3988", "inf"), "line 4: lat is 'inf'"),
    "WPL with underscores": (WPL.replace("47.3988", "4_7"), "line 4: lat is '4_7'"),
    "WPL with a missing field": (WPL.replace("47.3999\t8.5480\t50\t1", "47.3999\t8.5480"), "line 5: has 10 fields"),
    "WPL with a scaled latitude of 195": (WPL.replace("\t47.3988", "\t1950000000"), "line 4: position"),
    "fence with rubbish": ("47.1 8.1\nrubbish\n", "line 2: 'rubbish' is not a pair"),
    "fence beyond a pole": ("97.1 8.1\n", "line 1: 97.1, 8.1 is not"),
    "rally with rubbish": ("RALLY 47.1\n", "line 1: 'RALLY 47.1' is not `RALLY latitude"),
    "zero bytes": (b"\0\0\0\0", "not"),
    "KML with an entity": (ENTITY, "declares a DTD"),
    "KML with an external entity": (
        '<!DOCTYPE kml SYSTEM "file:///etc/passwd"><kml/>',
        "declares a DTD",
    ),
    "billion laughs": (
        "<!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>]><kml>&b;</kml>",
        "declares a DTD",
    ),
    "XML that ends early": ("<kml>\n<Document>", r"line 2, column \d+: not well-formed XML"),
    "deep XML": ("<kml>" + "<a>" * 100, "line 1: the XML nests deeper than 64"),
    "XML of a million elements": ("<kml>" + "<a/>" * 1_000_000, "more than 200,000 elements"),
    "XML in an unknown encoding": ('<?xml version="1.0" encoding="klingon"?><kml/>', "encoding|not well-formed"),
    "KML with one number": (KML.replace("8.548,47.3999,50", "8.548"), r"line 1, tuple 2: '8\.548' is not"),
    "GPX without a longitude": ('<gpx><wpt lat="1"/></gpx>', "line 1: latitude '1', longitude ''"),
    "GeoJSON with swapped numbers": ({"type": "Point", "coordinates": [8, 147]}, r"coordinates is not a position"),
    "GeoJSON in another system": (
        {"type": "Point", "coordinates": [8, 47], "crs": {"properties": {"name": "EPSG:2056"}}},
        "only WGS 84",
    ),
    "GeoJSON of an unknown type": ({"type": "Feature", "geometry": {"type": "Curve"}}, "'Curve', which GeoJSON"),
    "INAV with a latitude as text": (INAV.replace("47.3988", "north"), "line 1: lat is 'north'"),
    "archive of nothing": (archive([("a.txt", "x")]), r"without a \.kml or \.wpml"),
    "archive without members": (archive([]), r"without a \.kml"),
    "broken archive": (archive([("doc.kml", KML)])[:-30], "broken archive"),
    "a name that leaves the archive": (archive([("../doc.kml", KML)]), r"leaves it: '\.\./doc\.kml'"),
    "an absolute name": (archive([("/doc.kml", KML)]), "leaves it"),
    "a name with a drive": (archive([("C:/doc.kml", KML)]), "leaves it"),
    "20,000 members": (archive([(f"{i}.txt", "") for i in range(20_000)]), "20,000 members, over the limit"),
    "a zip bomb": (bomb(), "unpacks to more than"),
    "a gzip bomb": (gzip.compress(b" " * (64 << 20)), "unpacks to more than"),
    "a gzip file cut short": (gzip.compress(WPL.encode() * 9)[:-12], "ends too early|broken"),
    "gzip in gzip": (gzip.compress(gzip.compress(WPL.encode())), "."),
    "broken XML in an archive": (archive([("doc.kml", "<kml>")]), r"doc\.kml: line 1"),
    "an archive of empty members": (archive([("doc.kml", " ")]), "members are empty"),
    "9 MB of text": (b"#" * (9 << 20), "over the limit of 8,388,608"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_refused_with_its_reason_in_one_line_and_soon(content, message):
    start = time.process_time()
    with pytest.raises(FlightFileError, match=message) as caught:
        read(content)
    assert time.process_time() - start < 2
    assert "\n" not in caught.value.message
    assert caught.value.code is ExitCode.FLIGHT_FILE_INVALID


@pytest.mark.parametrize(
    "content",
    [
        "QGC WPL 110\n",
        {**PLAN, "mission": {"items": []}},
        "<kml/>",
        "<gpx/>",
        "<mission/>",
        {"type": "FeatureCollection"},
    ],
)
def test_a_mission_without_a_position_has_no_route(content):
    with pytest.raises(FlightRouteError, match="no position to fly to") as caught:
        read(content)
    assert caught.value.code is ExitCode.FLIGHT_WITHOUT_ROUTE


def test_a_file_that_is_none_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").write_bytes(b" \n")
    (tmp_path / "secret").write_text(WPL)
    (tmp_path / "secret").chmod(0)
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1 << 30)
    wanted = {
        "absent": "does not exist",
        "fifo": "is not a regular file",
        ".": "is not a regular file|Is a directory",
        "empty": "is empty",
        "huge": "has 1,073,741,824 bytes",
    }
    if os.geteuid() != 0:
        wanted["secret"] = "Permission denied"
    for name, message in wanted.items():
        with pytest.raises(FlightFileError, match=message) as caught:
            read_flight_file(tmp_path / name)
        assert str(tmp_path / name) in caught.value.message
    with pytest.raises(FlightFileError, match="is not a regular file"):
        read_flight_file("/dev/zero")
    with pytest.raises(FlightFileError, match="zero byte"):
        read_flight_file("a\0b")


def test_errors_name_the_file_and_the_place(tmp_path):
    path = tmp_path / "broken.waypoints"
    path.write_text(WPL.replace("47.3988", "north"))
    with pytest.raises(FlightFileError, match=r"broken\.waypoints: line 4: lat is 'north'") as caught:
        read_flight_file(path)
    assert caught.value.details == {"line": 4, "file": str(path)}
    assert str(caught.value) == caught.value.message


# VmHWM and not ru_maxrss, which a child takes over from the process that it was forked from.
MEMORY = """
import sys
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import FlightResolveError
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_file import read_flight_file
try:
    read_flight_file(sys.argv[1])
except FlightResolveError:
    pass
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")))
"""
WORST = {
    "lists": b'{"fileType":"Plan","x":[' + b"[]," * 740_000 + b"0]}",
    "objects": b'{"fileType":"Plan","x":[' + b"{}," * 740_000 + b"0]}",
    "numbers": b'{"fileType":"Plan","x":[' + b"1.5," * 1_490_000 + b"0]}",
    "strings": b'{"fileType":"Plan","x":[' + b'"ab",' * 1_490_000 + b"0]}",
    "elements": b"<kml>" + b'<a b="c">d</a>' * 199_000 + b"</kml>",
    "lines": b"QGC WPL 110\n" + b"1 0 3 16 0 0 0 0 47 8 5 1\n" * 110_000,
    "tuples": b"<kml><LineString><coordinates>" + b"8,47 " * 1_600_000 + b"</coordinates></LineString></kml>",
    "fence": b"47.1 8.1\n" * 900_000,
    "positions": b'{"type":"LineString","coordinates":[' + b"[8,47]," * 490_000 + b"[8,47]]}",
    "zip": bomb(),
}


@pytest.mark.parametrize("content", WORST.values(), ids=WORST.keys())
def test_the_worst_files_stay_within_time_and_memory(tmp_path, content):
    path = tmp_path / "mission"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)],
        # A child that is traced for coverage would measure the tracer.
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
            "PYTHONPATH": str(ROOT / "dev"),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert int(done.stdout) < 256
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 4
