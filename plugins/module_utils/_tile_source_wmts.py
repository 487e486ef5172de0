# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WMTS (OGC 07-057r7): a URL template out of the service's capabilities, RESTful where it offers that, else KVP."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple
from urllib.parse import quote, urlsplit

from ._errors import TileSourceError
from ._tile_source import HttpTileSource, TileRequest, TileSourceSpec, WantedTile
from ._tile_source_document import fetch_document
from ._tiles import Tile

__all__ = ["WmtsLayer", "WmtsTileSource", "parse_capabilities"]

MAX_CAPABILITIES_BYTES = 32 * 1024 * 1024
SCALE_OF_ZOOM_0 = 559082264.0287178
"""Scale denominator of zoom 0 at 256 pixels and 0.28 mm a pixel (OGC 07-057r7, annex E.4)."""
TOP_LEFT_M = 20037508.3427892
_FORMATS = {"jpg": ("image/jpeg", "image/jpg"), "png": ("image/png", "image/png8"), "webp": ("image/webp",)}


class WmtsLayer(NamedTuple):
    """How to ask for the tiles of one layer; `matrices` gives the service's name of each zoom."""

    template: str
    matrices: Dict[int, str]


class WmtsTileSource(HttpTileSource):
    """Tiles of a WMTS layer; the profile's `url` is that of the capabilities, asked when the first tile is wanted."""

    def __init__(self, spec: TileSourceSpec, *, api_key: Optional[str] = None) -> None:
        super().__init__(spec, api_key=api_key)
        self._layer: Optional[WmtsLayer] = None

    def requests(self, wanted: Iterable[WantedTile]) -> Iterator[TileRequest]:
        """One request for each tile."""
        if self._layer is None:
            document = fetch_document(
                super().url(Tile(0, 0, 0)),
                host=self.host,
                headers=self.headers,
                max_bytes=MAX_CAPABILITIES_BYTES,
                ca_file=self.spec.ca_file,
            )
            self._layer = parse_capabilities(document.body, spec=self.spec)
        return super().requests(wanted)

    def url(self, tile: Tile) -> str:
        """The URL of a tile."""
        if self._layer is None:
            return super().url(tile)
        matrix = self._layer.matrices.get(tile.z)
        if matrix is None:
            raise TileSourceError(f"the WMTS layer of tile source {self.id} has no zoom {tile.z}")
        url = self._layer.template
        for name, value in (("TileMatrix", matrix), ("TileRow", str(tile.y)), ("TileCol", str(tile.x))):
            url = url.replace("{" + name + "}", quote(value, safe=":"))
        return self.with_key(url)


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _children(element: Any, name: str) -> List[Any]:
    return [child for child in element if _local(child) == name]


def _text(element: Any, name: str) -> str:
    found = _children(element, name)
    return (found[0].text or "").strip() if found else ""


def parse_capabilities(content: bytes, *, spec: TileSourceSpec) -> WmtsLayer:
    """The layer that the profile names (or the only one) in a Web Mercator matrix set.

    Raises:
        TileSourceError: no capabilities, no such layer, or no Web Mercator tiles of the profile's size.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as exc:
        raise TileSourceError(f"{spec.host} gives no WMTS capabilities: {exc}") from None
    contents = _children(root, "Contents")
    if _local(root) != "Capabilities" or not contents:
        raise TileSourceError(f"{spec.host} gives no WMTS capabilities but <{_local(root)[:40]}>")
    layers = {_text(layer, "Identifier"): layer for layer in _children(contents[0], "Layer")}
    name = spec.wmts_layer or (next(iter(layers)) if len(layers) == 1 else "")
    if name not in layers:
        some = ", ".join(list(layers)[:10])
        raise TileSourceError(f"tile source {spec.id} names WMTS layer {name!r}; {spec.host} has: {some}")
    layer = layers[name]
    offered = [_text(link, "TileMatrixSet") for link in _children(layer, "TileMatrixSetLink")]
    sets = {_text(item, "Identifier"): item for item in _children(contents[0], "TileMatrixSet")}
    for set_name in [spec.wmts_matrix_set] if spec.wmts_matrix_set else offered:
        if set_name in sets and set_name in offered:
            matrices = _mercator_matrices(sets[set_name], spec.tile_size_px)
            if matrices:
                return WmtsLayer(_template(root, layer, name, str(set_name), spec), matrices)
    raise TileSourceError(
        f"WMTS layer {name} of {spec.host} has no Web Mercator tiles of {spec.tile_size_px} px "
        f"(matrix sets: {', '.join(offered)})"
    )


def _mercator_matrices(matrix_set: Any, tile_size_px: int) -> Dict[int, str]:
    """Zoom to identifier; {} where the set is not Web Mercator on the common grid."""
    crs = _text(matrix_set, "SupportedCRS")
    if not re.search(r"(3857|900913|102100|3785)$", crs):
        return {}
    found: Dict[int, str] = {}
    for matrix in _children(matrix_set, "TileMatrix"):
        try:
            scale = float(_text(matrix, "ScaleDenominator"))
            left, top = (float(value) for value in _text(matrix, "TopLeftCorner").split())
            size = int(_text(matrix, "TileWidth"))
        except ValueError:
            return {}
        if size != tile_size_px or scale <= 0:
            return {}
        zoom = math.log2(SCALE_OF_ZOOM_0 * 256 / tile_size_px / scale)
        on_grid = abs(zoom - round(zoom)) < 1e-4 and abs(left + TOP_LEFT_M) < 1 and abs(top - TOP_LEFT_M) < 1
        if on_grid and 0 <= round(zoom) <= 24:
            found[round(zoom)] = _text(matrix, "Identifier")
    return found


def _template(root: Any, layer: Any, name: str, set_name: str, spec: TileSourceSpec) -> str:
    styles = [(_text(style, "Identifier"), style.get("isDefault") == "true") for style in _children(layer, "Style")]
    default = next((style for style, is_default in styles if is_default), styles[0][0] if styles else "default")
    style = spec.wmts_style or default
    formats = [(item.text or "").strip() for item in _children(layer, "Format")]
    preferred = _FORMATS.get(spec.format, _FORMATS["jpg"] + _FORMATS["png"] + _FORMATS["webp"])
    media_type = next((item for wish in preferred for item in formats if item == wish), formats[0] if formats else "")
    for resource in _children(layer, "ResourceURL"):
        if resource.get("resourceType") == "tile" and resource.get("format") in {media_type, None}:
            template = str(resource.get("template", ""))
            for key, value in (("TileMatrixSet", set_name), ("Style", style), ("style", style)):
                template = template.replace("{" + key + "}", quote(value, safe=":"))
            for key, value in _dimensions(layer):
                template = template.replace("{" + key + "}", quote(value, safe=":"))
            return _same_host(template, spec)
    base = _kvp_base(root)
    if not base:
        raise TileSourceError(f"WMTS layer {name} of {spec.host} offers no way to get a tile")
    pairs = [("SERVICE", "WMTS"), ("REQUEST", "GetTile"), ("VERSION", "1.0.0"), ("LAYER", name), ("STYLE", style)]
    pairs += [("FORMAT", media_type), ("TILEMATRIXSET", set_name), *_dimensions(layer)]
    query = "&".join(f"{key}={quote(value, safe=':/')}" for key, value in pairs)
    query += "&TILEMATRIX={TileMatrix}&TILEROW={TileRow}&TILECOL={TileCol}"
    return _same_host(base + ("" if base.endswith(("?", "&")) else "&" if "?" in base else "?") + query, spec)


def _dimensions(layer: Any) -> List[Tuple[str, str]]:
    return [(_text(item, "Identifier"), _text(item, "Default")) for item in _children(layer, "Dimension")]


def _kvp_base(root: Any) -> str:
    for metadata in _children(root, "OperationsMetadata"):
        for operation in _children(metadata, "Operation"):
            if operation.get("name") != "GetTile":
                continue
            for get in operation.iter():
                if _local(get) == "Get":
                    encodings = [(value.text or "").strip() for value in get.iter() if _local(value) == "Value"]
                    if not encodings or "KVP" in encodings:
                        return str(get.get("{http://www.w3.org/1999/xlink}href", ""))
    return ""


def _same_host(template: str, spec: TileSourceSpec) -> str:
    """A service must not send us, and the key, to a server that the profile does not name."""
    try:
        there = urlsplit(template)
    except ValueError:
        raise TileSourceError(f"the capabilities of {spec.host} hold an address that is no URL") from None
    if there.scheme not in {"http", "https"} or (there.hostname or "").lower() != (spec.host or "").lower():
        raise TileSourceError(
            f"the capabilities of {spec.host} point to another server ({there.hostname}); this is not followed",
            remediation="Write that server's URL template into the profile, as kind xyz.",
        )
    if there.scheme == "http" and urlsplit(spec.url or "").scheme == "https":
        template = "https" + template[4:]
    return template
