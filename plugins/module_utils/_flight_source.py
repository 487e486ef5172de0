# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a flight comes from: a file, the flights API, or a folder of flight files."""

from __future__ import annotations

import os
import re
from typing import Optional

from ._config import PreflightConfig, read_secret
from ._errors import CacheActivateError, FlightNotFoundError, FlightResolveError, SettingsError
from ._flight import Flight, FlightResolveSource
from ._flight_file import read_flight_file
from ._flights_api import fetch_flight, flight_is_unchanged

__all__ = ["check_flight_unchanged", "resolve_flight"]

FLIGHT_ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"


def resolve_flight(
    config: PreflightConfig, *, flight_id: Optional[str] = None, flight_file: Optional[str] = None
) -> Flight:
    """The flight that the operator means.

    Raises:
        FlightResolveError: its subclasses say whether it was not found, refused, unreachable, broken or routeless.
        SettingsError: neither or both were given, or an id has nowhere to resolve.
    """
    if bool(flight_id) == bool(flight_file):
        raise SettingsError("give either a flight id or a flight file", remediation="Use --flight-id or --flight-file.")
    if flight_file:
        return read_flight_file(flight_file)
    flight_id = str(flight_id)
    if not re.fullmatch(FLIGHT_ID_PATTERN, flight_id):
        raise FlightNotFoundError(f"{flight_id!r} is not a flight id: letters, digits, dot, dash and underscore only")
    if config.flights_api_base_url:
        return fetch_flight(
            config.flights_api_base_url,
            flight_id,
            token=read_secret(config, "flights_api_auth_token"),
            timeout_s=config.flights_api_timeout_s,
            allow_plain_http=config.allow_plain_http,
        )
    if config.flights_dir:
        return _from_folder(config.flights_dir, flight_id)
    raise SettingsError(
        f"there is nowhere to look up flight {flight_id}: neither flights_api_base_url nor flights_dir is set",
        remediation="Set one of them, or give the mission file with --flight-file.",
    )


def check_flight_unchanged(flight: Flight, config: PreflightConfig) -> Optional[str]:
    """Ask the flights API once more, just before activation; returns a warning where it does not answer now.

    Raises:
        CacheActivateError: the flight has another revision than the one that the cache was built for.
    """
    if flight.source is not FlightResolveSource.FLIGHTS_API or not flight.revision or not config.flights_api_base_url:
        return None
    try:
        unchanged = flight_is_unchanged(
            config.flights_api_base_url,
            flight.flight_id,
            flight.revision,
            token=read_secret(config, "flights_api_auth_token"),
            timeout_s=config.flights_api_timeout_s,
            allow_plain_http=config.allow_plain_http,
        )
    except FlightResolveError as exc:
        return f"could not check once more that flight {flight.flight_id} is unchanged: {exc.message}"
    if not unchanged:
        raise CacheActivateError(
            f"flight {flight.flight_id} was changed in the flights API while its cache was built",
            remediation="Run again: the new route is resolved, and tiles that are there already are not fetched again.",
        )
    return None


def _from_folder(folder: str, flight_id: str) -> Flight:
    try:
        names = sorted(name for name in os.listdir(folder) if os.path.splitext(name)[0] == flight_id)
    except OSError as exc:
        raise FlightNotFoundError(f"cannot look for flight {flight_id} in {folder}: {exc.strerror}") from None
    if not names:
        raise FlightNotFoundError(f"there is no flight {flight_id} in {folder}")
    if len(names) > 1:
        raise FlightNotFoundError(
            f"flight {flight_id} is ambiguous in {folder}: {', '.join(names)}",
            remediation="Rename all but one of them.",
        )
    return read_flight_file(os.path.join(folder, names[0]))
