# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Strict JSON for files from outside: bounded, no duplicate keys, no NaN, and errors that name a path."""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, NoReturn, Optional, Sequence, Tuple

from ._errors import FlightFileError
from ._geo import LonLat

__all__ = ["JsonAt", "load_json"]

MAX_DEPTH = 64
MAX_VALUES = 1_500_000
MAX_LIST = 100_000


def load_json(text: str) -> Any:
    """The JSON document of the text.

    Raises FlightFileError, with line and column where known, for text that is not JSON, nests deeper than
    `MAX_DEPTH`, holds more than `MAX_VALUES` values, repeats a key, or uses NaN or Infinity.
    """
    if text.count(",") + text.count("[") + text.count("{") > MAX_VALUES:
        raise FlightFileError(f"the JSON holds more than {MAX_VALUES:,} values")
    _check_depth(text)
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except json.JSONDecodeError as error:
        raise FlightFileError(
            f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}",
            details={"line": error.lineno, "column": error.colno},
        ) from None
    except RecursionError:
        raise FlightFileError(f"the JSON nests deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        # Python refuses to read integers of thousands of digits.
        raise FlightFileError("the JSON holds a number with too many digits") from None


def _check_depth(text: str) -> None:
    """Refuse depth before the parser recurses into it; quotes inside strings are skipped by the scan."""
    depth = 0
    # Strings may hold brackets; splitting at quotes leaves them in odd places once escapes are gone.
    bare = text.replace("\\\\", "").replace('\\"', "").split('"')[::2]
    for piece in bare:
        for char in piece:
            if char in "[{":
                depth += 1
                if depth > MAX_DEPTH:
                    raise FlightFileError(f"the JSON nests deeper than {MAX_DEPTH} levels")
            elif char in "]}":
                depth -= 1


def _no_duplicates(pairs: Sequence[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen = set()
        for key, _value in pairs:
            if key in seen:
                raise FlightFileError(f"the JSON repeats the key {key[:80]!r} in one object")
            seen.add(key)
    return found


def _no_constants(name: str) -> NoReturn:
    raise FlightFileError(f"the JSON holds {name}, which is not a JSON number")


class JsonAt:
    """A JSON value together with its path, so that every complaint names the place."""

    __slots__ = ("path", "value")

    def __init__(self, value: Any, path: str = "") -> None:
        self.value = value
        self.path = path

    def fail(self, why: str) -> NoReturn:
        where = self.path or "the document"
        raise FlightFileError(f"{where} {why}", details={"json_path": self.path})

    def get(self, key: str) -> JsonAt:
        """The member, as None where it is missing."""
        return JsonAt(self.dict().get(key), f"{self.path}.{key}" if self.path else key)

    def has(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    @property
    def is_none(self) -> bool:
        return self.value is None

    def dict(self) -> Dict[str, Any]:
        if not isinstance(self.value, dict):
            self.fail(f"is {_kind(self.value)}, not an object")
        found: Dict[str, Any] = self.value
        return found

    def list(self) -> List[JsonAt]:
        """The elements; none where the value is missing."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            self.fail(f"is {_kind(self.value)}, not a list")
        if len(self.value) > MAX_LIST:
            self.fail(f"has {len(self.value):,} elements, over the limit of {MAX_LIST:,}")
        return [JsonAt(value, f"{self.path}[{index}]") for index, value in enumerate(self.value)]

    def number(self, default: Optional[float] = None) -> float:
        """The number; NaN for null, which is how planners write "not set"."""
        value = self.value
        if value is None:
            return math.nan if default is None else default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fail(f"is {_kind(value)}, not a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isinf(number):
            self.fail("is too large a number")
        return number

    def integer(self, default: Optional[int] = None) -> int:
        if self.value is None and default is not None:
            return default
        number = self.number()
        if number != math.floor(number) if not math.isnan(number) else True:
            self.fail(f"is {_kind(self.value)}, not a whole number")
        return int(number)

    def text(self) -> Optional[str]:
        return self.value if isinstance(self.value, str) else None

    def lat_lon(self) -> LonLat:
        """A position written as [latitude, longitude, …]."""
        values = self.list()
        if len(values) < 2:
            self.fail("is not a position [latitude, longitude]")
        lat, lon = values[0].number(), values[1].number()
        if math.isnan(lat) or math.isnan(lon) or abs(lat) > 90 or abs(lon) > 180:
            self.fail(f"is not a position: latitude {lat}, longitude {lon}")
        return LonLat(lon=lon, lat=lat)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "missing"}
    return kinds.get(type(value), f"{value!r:.40}")
