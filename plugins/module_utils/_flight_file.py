# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flights from mission files, recognised by what they hold and not by their name."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple, Union

from ._errors import FlightFileError, FlightResolveError
from ._flight import Flight, FlightResolveSource, TakeoffOrigin
from ._flight_archive import gunzip, is_gzip, is_zip, read_members
from ._flight_text import decode_text
from ._mission import Mission
from ._mission_geojson import is_geojson, read_geojson
from ._mission_gpx import read_gpx
from ._mission_json import JsonAt, load_json
from ._mission_kml import KML_ROOTS, read_kml
from ._mission_legacy import is_legacy_mission, read_legacy_mission
from ._mission_multiwii import MULTIWII_ROOTS, read_multiwii
from ._mission_plan import read_plan
from ._mission_points import is_fence_text, is_rally_text, read_fence_text, read_rally_text
from ._mission_route import flight_from_mission
from ._mission_wpl import is_wpl, read_wpl
from ._mission_wpml import has_waylines, is_wpml, read_wpml, take_off_reference
from ._mission_xml import load_xml, local_name

__all__ = ["MAX_FILE_BYTES", "mission_from_bytes", "read_flight_bytes", "read_flight_file"]

MAX_FILE_BYTES = 8 * 1024 * 1024
"""Largest mission file that is read: the largest real ones have about 100 KB."""

MAX_ARCHIVE_BYTES = 64 * 1024 * 1024
"""Largest archive that is read: a KMZ may carry pictures beside its mission."""


def read_flight_file(
    path: Union[str, Path], *, origin: Optional[TakeoffOrigin] = None, flight_id: Optional[str] = None
) -> Flight:
    """The flight of a mission file.

    Args:
        path: the file; any known format under any name.
        origin: the operator's own take-off origin, stronger than the file's.
        flight_id: name of the flight; default is the file's name without its last extension.

    Raises:
        FlightFileError: missing, unreadable, or not a mission; the message names file and line or JSON path.
        FlightRouteError: a mission without a position to fly to.
    """
    path = Path(path)
    data = _read(path)
    try:
        return read_flight_bytes(
            data, flight_id=flight_id or path.stem, source=FlightResolveSource.FILE, origin=origin, name=path.name
        )
    except FlightResolveError as error:
        error.message = f"{path}: {error.message}"
        error.args = (error.message,)
        error.details.setdefault("file", str(path))
        raise


def read_flight_bytes(
    data: bytes,
    *,
    flight_id: str,
    source: FlightResolveSource,
    origin: Optional[TakeoffOrigin] = None,
    revision: Optional[str] = None,
    name: Optional[str] = None,
) -> Flight:
    """The flight of a mission file's bytes; raises as `read_flight_file`, without the file's name."""
    limit = MAX_ARCHIVE_BYTES if is_zip(data) else MAX_FILE_BYTES
    if len(data) > limit:
        raise FlightFileError(f"has {len(data):,} bytes, over the limit of {limit:,}")
    mission = mission_from_bytes(data)
    return flight_from_mission(
        mission,
        flight_id=flight_id,
        source=source,
        revision=revision or hashlib.sha256(data).hexdigest(),
        origin=origin,
        name=mission.name or name,
    )


def _read(path: Path) -> bytes:
    """The bytes of a regular file of bounded size; never waits on a FIFO or a device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "does not exist" if error.errno == errno.ENOENT else os.strerror(error.errno or 0)
        raise FlightFileError(f"{path}: {reason}", remediation="Check the path of the mission file.") from None
    except ValueError:
        raise FlightFileError("the path of the mission file holds a zero byte") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FlightFileError(f"{path}: is not a regular file", remediation="Give a mission file.")
    with os.fdopen(descriptor, "rb") as stream:
        try:
            head = stream.read(4)
            limit = MAX_ARCHIVE_BYTES if is_zip(head) else MAX_FILE_BYTES
            if status.st_size > limit:
                raise FlightFileError(f"{path}: has {status.st_size:,} bytes, over the limit of {limit:,}")
            data = head + stream.read(limit + 1 - len(head))
        except OSError as error:
            raise FlightFileError(f"{path}: cannot be read: {os.strerror(error.errno or 0)}") from None
    if not data.strip():
        raise FlightFileError(f"{path}: is empty")
    return data


class _Format(NamedTuple):
    """One format: what tells it from its siblings, and its reader."""

    matches: Callable[[Any], bool]
    read: Callable[[Any], Mission]


_JSON: Tuple[_Format, ...] = (
    _Format(lambda body: body.get("fileType") == "Plan", lambda body: read_plan(JsonAt(body))),
    _Format(is_legacy_mission, lambda body: read_legacy_mission(JsonAt(body))),
    _Format(is_geojson, lambda body: read_geojson(JsonAt(body))),
)
_XML: Tuple[_Format, ...] = (
    _Format(is_wpml, read_wpml),
    _Format(lambda root: local_name(root) in KML_ROOTS, read_kml),
    _Format(lambda root: local_name(root) == "gpx", read_gpx),
    _Format(lambda root: local_name(root).lower() in MULTIWII_ROOTS, read_multiwii),
)
_TEXT: Tuple[_Format, ...] = (
    _Format(is_wpl, read_wpl),
    _Format(is_rally_text, read_rally_text),
    _Format(is_fence_text, read_fence_text),
)
_KNOWN = (
    "QGroundControl plan or mission, QGC WPL text, fence or rally text, KML, KMZ, GPX, GeoJSON, DJI WPML, MultiWii XML"
)


def mission_from_bytes(data: bytes) -> Mission:
    """The mission in the bytes, by the first format that recognises itself; a file packed by gzip is unpacked once."""
    if is_gzip(data):
        data = gunzip(data)
    if is_zip(data):
        return _from_archive(data)
    text = decode_text(data)
    start = text.lstrip()
    if start.startswith("<"):
        # The parser reads the bytes itself: the XML declaration may name another encoding.
        return _first_match(_XML, load_xml(data.lstrip()), "XML")
    if start.startswith(("{", "[")):
        document = load_json(text)
        if not isinstance(document, dict):
            raise FlightFileError("is a JSON list, and no known mission format is one")
        return _first_match(_JSON, document, "JSON")
    return _first_match(_TEXT, text, "text")


def _first_match(formats: Tuple[_Format, ...], content: Any, what: str) -> Mission:
    for known in formats:
        if known.matches(content):
            return known.read(content)
    raise FlightFileError(f"is {what} of no known mission format (known are {_KNOWN})")


def _from_archive(data: bytes) -> Mission:
    """KMZ: DJI's waylines where there are any, else its template, else the first KML."""
    members = read_members(data, (".kml", ".wpml"))
    if not members:
        raise FlightFileError("is an archive without a .kml or .wpml member")
    waylines = next((name for name in members if name.endswith("waylines.wpml")), None)
    template = next((name for name in members if name.endswith("template.kml")), None)
    template_root = _member(members, template) if template and members[template].strip() else None
    if waylines is not None and members[waylines].strip():
        root = _member(members, waylines)
        if has_waylines(root) or template_root is None:
            mission = read_wpml(root)
            if template is not None and template_root is not None:
                mission.ignore(template, "planning data: waylines.wpml is what is flown")
                mission.home = mission.home or take_off_reference(template_root)
            return mission
    chosen = template if template_root is not None else next((n for n in members if members[n].strip()), None)
    if chosen is None:
        raise FlightFileError("is an archive whose members are empty")
    mission = _first_match(_XML, template_root if template_root is not None else _member(members, chosen), "XML")
    for name in members:
        if name != chosen:
            mission.ignore(name, f"member beside {chosen}: not read")
    return mission


def _member(members: Dict[str, bytes], name: str) -> Any:
    try:
        return load_xml(members[name].lstrip())
    except FlightFileError as error:
        raise FlightFileError(f"{name[:80]}: {error.message}", details=error.details) from None
