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
from typing import Any, Callable, NamedTuple, Optional, Tuple, Union

from ._errors import FlightFileError, FlightResolveError
from ._flight import Flight, FlightResolveSource, TakeoffOrigin
from ._flight_text import decode_text
from ._mission import Mission
from ._mission_json import JsonAt, load_json
from ._mission_plan import read_plan
from ._mission_route import flight_from_mission
from ._mission_wpl import is_wpl, read_wpl

__all__ = ["MAX_FILE_BYTES", "mission_from_bytes", "read_flight_bytes", "read_flight_file"]

MAX_FILE_BYTES = 8 * 1024 * 1024
"""Largest mission file that is read: the largest real ones have about 100 KB."""


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
    if len(data) > MAX_FILE_BYTES:
        raise FlightFileError(f"has {len(data):,} bytes, over the limit of {MAX_FILE_BYTES:,}")
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
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise FlightFileError(f"{path}: is not a regular file", remediation="Give a mission file.")
        if status.st_size > MAX_FILE_BYTES:
            raise FlightFileError(f"{path}: has {status.st_size:,} bytes, over the limit of {MAX_FILE_BYTES:,}")
        try:
            data = stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise FlightFileError(f"{path}: cannot be read: {os.strerror(error.errno or 0)}") from None
    if not data.strip():
        raise FlightFileError(f"{path}: is empty")
    return data


class _JsonFormat(NamedTuple):
    """One JSON format: what tells it from the others, and its reader."""

    name: str
    matches: Callable[[Any], bool]
    read: Callable[[JsonAt], Mission]


_JSON_FORMATS: Tuple[_JsonFormat, ...] = (
    _JsonFormat("qgc-plan", lambda body: body.get("fileType") == "Plan", read_plan),
)


def mission_from_bytes(data: bytes) -> Mission:
    """The mission in the bytes, by the first format that recognises itself."""
    text = decode_text(data)
    start = text.lstrip()
    if start.startswith(("{", "[")):
        document = load_json(text)
        if isinstance(document, dict):
            for known in _JSON_FORMATS:
                if known.matches(document):
                    return known.read(JsonAt(document))
        raise FlightFileError("is JSON, but of no known mission format")
    if is_wpl(text):
        return read_wpl(text)
    raise FlightFileError("is of no known mission format")
