# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Strict XML for files from outside: no DTD, no entities, bounded, and every element knows its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Optional
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from ._errors import FlightFileError
from ._geo import LonLat

if TYPE_CHECKING:
    from typing import Dict

__all__ = ["children", "find", "line_of", "load_xml", "local_name", "lon_lat", "text_of"]

MAX_DEPTH = 64
MAX_ELEMENTS = 200_000
_LINE = "\0line"


def load_xml(data: bytes) -> Element:
    """The root element of the document.

    Raises FlightFileError, with the line where known, for text that is not XML, declares a DTD or an entity,
    nests deeper than `MAX_DEPTH` or holds more than `MAX_ELEMENTS` elements.
    """
    try:
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import DefusedXMLParser
    except ImportError:
        raise FlightFileError(
            "is XML, and the library that reads it safely is missing",
            remediation="Install defusedxml on this workstation.",
        ) from None

    builder = _Builder()
    parser: Any = DefusedXMLParser(target=builder, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    builder.expat = parser.parser
    try:
        parser.feed(data)
        root: Element = parser.close()
    except DefusedXmlException as error:
        what = {"DTDForbidden": "a DTD", "EntitiesForbidden": "an entity"}.get(type(error).__name__, "a reference")
        raise FlightFileError(f"the XML declares {what}: refused, since it can read files or fill the memory") from None
    except ParseError as error:
        line, column = error.position
        raise FlightFileError(f"line {line}, column {column}: not well-formed XML", details={"line": line}) from None
    except (LookupError, ValueError):
        raise FlightFileError("the XML is in an encoding that cannot be read") from None
    return root


class _Builder(TreeBuilder):
    """Builds the tree, counts, and writes down lines."""

    def __init__(self) -> None:
        super().__init__()
        self.expat: Any = None
        self._depth = 0
        self._count = 0

    def start(self, tag: str, attrs: Dict[str, str]) -> Element:
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH:
            raise FlightFileError(f"line {self._line()}: the XML nests deeper than {MAX_DEPTH} levels")
        if self._count > MAX_ELEMENTS:
            raise FlightFileError(f"line {self._line()}: the XML holds more than {MAX_ELEMENTS:,} elements")
        return super().start(tag, {**attrs, _LINE: str(self._line())})

    def end(self, tag: str) -> Element:
        self._depth -= 1
        return super().end(tag)

    def _line(self) -> int:
        return int(self.expat.CurrentLineNumber)


def line_of(element: Element) -> str:
    """The element's line, as errors and reports name it."""
    return f"line {element.get(_LINE, '?')}"


def local_name(element: Element) -> str:
    """The element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def children(element: Element, *names: str) -> Iterator[Element]:
    """Children of any of the local names."""
    return (child for child in element if local_name(child) in names)


def find(element: Element, name: str) -> Optional[Element]:
    """First descendant of the local name."""
    return next((found for found in element.iter() if local_name(found) == name), None)


def text_of(element: Element, name: str) -> Optional[str]:
    """Text of the first child of the local name, stripped; None where there is none."""
    child = next(children(element, name), None)
    text = (child.text or "").strip() if child is not None else ""
    return text or None


def lon_lat(lon: Optional[str], lat: Optional[str], where: str) -> LonLat:
    """The position of two numbers as text. Raises FlightFileError that names `where`."""
    try:
        position = LonLat(lon=float(lon or ""), lat=float(lat or ""))
    except ValueError:
        raise FlightFileError(
            f"{where}: latitude {(lat or '')[:40]!r}, longitude {(lon or '')[:40]!r} is not a position",
            details={"where": where},
        ) from None
    return position
