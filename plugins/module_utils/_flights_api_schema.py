# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shape of the flights API's answer, checked by pydantic. Import it only where an answer is at hand.

Unknown members are allowed, so that an API may say more than this client asks.
"""

from __future__ import annotations

from typing import Any, List, Literal, Optional

from ._errors import FlightsApiSchemaError

__all__ = ["FlightDocument", "MissionContent", "Position", "parse_flight_document"]

try:
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
except ImportError as error:
    _MISSING = str(error)
else:
    _MISSING = ""

# Ansible's tools import every file, also where nothing but Ansible is installed.
if not _MISSING:

    class Position(BaseModel):
        """A position in degrees; `alt_m` above mean sea level for an origin, above the take-off for a waypoint."""

        model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)

        lat_deg: float = Field(ge=-90, le=90)
        lon_deg: float = Field(ge=-180, le=180)
        alt_m: Optional[float] = None

    class MissionContent(BaseModel):
        """A mission file as the planner wrote it; `format` is a hint, the content is recognised by itself."""

        model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

        format: Optional[str] = None
        encoding: Literal["utf-8", "base64"] = "utf-8"
        content: str = Field(min_length=1)

    class FlightDocument(BaseModel):
        """One flight: a mission file or a list of waypoints."""

        model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

        id: str = Field(min_length=1, max_length=200)
        name: Optional[str] = Field(default=None, max_length=500)
        revision: Optional[str] = Field(default=None, max_length=200)
        mission: Optional[MissionContent] = None
        waypoints: Optional[List[Position]] = Field(default=None, max_length=100_000)
        takeoff_origin: Optional[Position] = None

        @model_validator(mode="after")
        def _one_route(self) -> FlightDocument:
            if (self.mission is None) == (self.waypoints is None):
                raise ValueError("exactly one of `mission` and `waypoints` is needed")
            return self


def parse_flight_document(body: Any) -> FlightDocument:
    """The checked document. Raises FlightsApiSchemaError that names the first wrong member."""
    if _MISSING:
        raise FlightsApiSchemaError(
            f"the flights API client needs pydantic: {_MISSING}", remediation="Install pydantic on this workstation."
        )
    try:
        return FlightDocument.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the document"
        raise FlightsApiSchemaError(
            f"the flights API's answer: {where}: {first['msg']}", details={"json_path": where}
        ) from None
