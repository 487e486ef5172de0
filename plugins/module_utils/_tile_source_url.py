# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""URL templates of tile providers: XYZ, TMS rows, quadkeys, subdomains."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Optional
from urllib.parse import quote

from ._errors import TileSourceError
from ._tiles import Tile

if TYPE_CHECKING:
    from ._tile_source import TileSourceSpec

__all__ = ["check_template", "quadkey", "tile_url", "with_key"]

_FIELD = re.compile(r"\{([^{}]*)\}")
_KNOWN = ("z", "x", "y", "-y", "q", "s", "api_key")


def check_template(source_id: str, kind: str, url: str) -> str:
    """The template, with TMS rows where the kind says so.

    Raises:
        TileSourceError: an unknown field, or the fields do not name a tile.
    """
    if kind in {"pmtiles_http", "wmts"}:
        return url
    found = _FIELD.findall(url)
    unknown = sorted(set(found) - set(_KNOWN))
    if unknown:
        raise TileSourceError(f"the url of tile source {source_id} has an unknown field {{{unknown[0]}}}")
    if "q" not in found and not ({"z", "x"} <= set(found) and {"y", "-y"} & set(found)):
        raise TileSourceError(f"the url of tile source {source_id} needs {{z}}, {{x}} and {{y}}, or {{q}}")
    return url.replace("{y}", "{-y}") if kind == "tms" else url


def quadkey(tile: Tile) -> str:
    """Microsoft's "Bing Maps Tile System": a digit for each zoom, most significant first."""
    return "".join(str((tile.x >> level & 1) + 2 * (tile.y >> level & 1)) for level in range(tile.z - 1, -1, -1))


def tile_url(template: str, tile: Tile, *, spec: "TileSourceSpec", api_key: Optional[str]) -> str:
    """The URL of a tile."""
    z, x, y = tile
    url = template.replace("{z}", str(z)).replace("{x}", str(x)).replace("{y}", str(y))
    if "{" in url:
        url = url.replace("{-y}", str((1 << z) - 1 - y))
        if "{q}" in url:
            url = url.replace("{q}", quadkey(tile))
        if "{s}" in url:
            names = spec.subdomains or ("a", "b", "c")
            url = url.replace("{s}", names[(x + y) % len(names)])
        if api_key is not None:
            url = url.replace("{api_key}", quote(api_key, safe=""))
    return with_key(url, spec=spec, api_key=api_key)


def with_key(url: str, *, spec: "TileSourceSpec", api_key: Optional[str]) -> str:
    """The URL with the key where the provider wants it in the query."""
    if api_key is None or not spec.api_key_query:
        return url
    return url + ("&" if "?" in url else "?") + spec.api_key_query + "=" + quote(api_key, safe="")
