# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tile sources: what a provider profile says, checked, and the two ways to read one (HTTP, or this disk)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field, fields, replace
from typing import Any, Callable, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Tuple, Union
from urllib.parse import urlsplit

from ._errors import TileProviderTermsError, TileSourceError
from ._tile_source_local import LocalTiles, check_local_path, open_local
from ._tile_source_url import check_template, tile_url, with_key
from ._tiles import Tile

__all__ = [
    "HttpTileSource",
    "LocalTileSource",
    "TileRequest",
    "TileSource",
    "TileSourceSpec",
    "WantedTile",
    "open_source",
    "parse_spec",
    "spec_from_location",
]

HTTP_KINDS = ("xyz", "tms", "wmts", "quadkey", "pmtiles_http")
LOCAL_KINDS = ("pmtiles", "mbtiles", "folder", "folder_tms", "geotiff")
FORMATS = ("auto", "jpg", "png", "webp")
FORBIDDEN_HOSTS = {
    "tile.openstreetmap.org": "https://operations.osmfoundation.org/policies/tiles/ forbids bulk and offline download",
    "tile.osm.org": "https://operations.osmfoundation.org/policies/tiles/ forbids bulk and offline download",
    "arcgisonline.com": "Esri allows offline use through its export service alone",
    "opentopomap.org": "this server of volunteers refuses bulk download",
    "google.com": "https://cloud.google.com/maps-platform/terms forbids keeping tiles",
    "virtualearth.net": "the terms of Bing Maps forbid keeping tiles",
}
USER_AGENT = "gps-denied-preflight"
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class TileSourceSpec:
    """A tile source as a provider profile describes it; everything but the API key.

    `url` is a template with `{z} {x} {y}` (`{-y}` for TMS rows, `{q}` for a quadkey, `{s}` for one of `subdomains`,
    `{api_key}` where a provider forces the key into the path). `requests_per_s` None means: as the connections go.
    """

    id: str
    kind: str
    url: Optional[str] = None
    path: Optional[str] = None
    min_zoom: int = 0
    max_zoom: int = 24
    tile_size_px: int = 256
    format: str = "auto"
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key_header: Optional[str] = None
    api_key_query: Optional[str] = None
    api_key_required: bool = False
    insecure_http: bool = False
    subdomains: Tuple[str, ...] = ()
    attribution: str = ""
    terms_url: Optional[str] = None
    terms_note: str = ""
    offline_allowed: bool = True
    requests_per_s: Optional[float] = None
    connections: int = 16
    http2: bool = True
    user_agent_contact: Optional[str] = None
    ca_file: Optional[str] = None
    placeholder_sha256: Tuple[str, ...] = ()
    placeholder_headers: Mapping[str, str] = field(default_factory=dict)
    placeholder_max_repeats: int = 8
    placeholder_single_colour: bool = True
    check_placement: bool = True
    missing_statuses: Tuple[int, ...] = (204, 404, 410)
    imagery_date_header: Optional[str] = None
    price_per_1000: Optional[float] = None
    price_currency: Optional[str] = None
    upload_url: Optional[str] = None
    wmts_layer: Optional[str] = None
    wmts_style: Optional[str] = None
    wmts_matrix_set: Optional[str] = None
    description: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.id):
            raise TileSourceError(f"tile source id {self.id!r} is not a plain name: 64 letters, digits, . _ - at most")
        if self.kind not in HTTP_KINDS + LOCAL_KINDS:
            raise TileSourceError(
                f"tile source {self.id} is of unknown kind {self.kind!r}; known: {', '.join(HTTP_KINDS + LOCAL_KINDS)}"
            )
        if not 0 <= self.min_zoom <= self.max_zoom <= 24:
            raise TileSourceError(f"tile source {self.id} has impossible zooms {self.min_zoom} to {self.max_zoom}")
        if self.format not in FORMATS:
            raise TileSourceError(f"tile source {self.id} has format {self.format!r}; known: {', '.join(FORMATS)}")
        if not 64 <= self.tile_size_px <= 4096:
            raise TileSourceError(f"tile source {self.id} has tile_size_px {self.tile_size_px}; 64 to 4096 are read")
        if not 1 <= self.connections <= 512:
            raise TileSourceError(f"tile source {self.id} has {self.connections} connections; 1 to 512 are possible")
        if self.requests_per_s is not None and not 0 < self.requests_per_s < 1e6:
            raise TileSourceError(f"tile source {self.id} has requests_per_s {self.requests_per_s}: give one above 0")
        if not all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in self.placeholder_sha256):
            raise TileSourceError(f"tile source {self.id} has a placeholder_sha256 that is no SHA-256 in hex")
        for name, value in {**self.headers, **self.placeholder_headers, (self.api_key_header or "x"): ""}.items():
            if not re.fullmatch(r"[A-Za-z0-9-]+", name) or not re.fullmatch(r"[\x20-\x7e]*", value):
                raise TileSourceError(f"tile source {self.id} has a header that is none: {name!r}")
        if self.is_http:
            self._check_http()
        elif not self.path:
            raise TileSourceError(f"tile source {self.id} of kind {self.kind} needs a path")
        else:
            check_local_path(self.path)

    def _check_http(self) -> None:
        parts = urlsplit(self.url or "")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TileSourceError(f"tile source {self.id} needs a url that begins with https:// or http://")
        if parts.username or parts.password:
            raise TileSourceError(
                f"tile source {self.id} has credentials in its url",
                remediation="Put the key into a file and name it in satellite_provider_api_key_file.",
            )

    @property
    def is_http(self) -> bool:
        return self.kind in HTTP_KINDS

    @property
    def host(self) -> Optional[str]:
        return urlsplit(self.url or "").hostname


class TileRequest(NamedTuple):
    """One HTTP request; `parts` says which bytes of the answer are which tile, None for "all of it".

    With `known_status` the answer is known beforehand and nothing is sent. With `body` the request sends it, by
    `method`; one that is not `repeatable` is sent once, and who asked decides after a failure that leaves the end open.
    """

    url: str
    tiles: Tuple[Tile, ...]
    headers: Tuple[str, ...] = ()
    byte_range: Optional[str] = None
    parts: Optional[Tuple[Tuple[int, int], ...]] = None
    known_status: Optional[int] = None
    method: str = "GET"
    body: Optional[bytes] = None
    repeatable: bool = True


class WantedTile(NamedTuple):
    """A tile to fetch, and what the store knows of the copy it has."""

    tile: Tile
    etag: Optional[str] = None
    last_modified: Optional[str] = None


class _Source:
    """What both ways share; `source_key` names the tiles in the store: the id and what they depend on."""

    def __init__(self, spec: TileSourceSpec, identity: Any) -> None:
        self.spec = spec
        self.id = spec.id
        body = json.dumps([spec.kind, spec.tile_size_px, spec.format, identity], sort_keys=True)
        self.source_key = spec.id + "@" + hashlib.sha256(body.encode()).hexdigest()[:16]

    def check_zooms(self, zooms: Iterable[int]) -> None:
        """Raise TileSourceError where the source has no such zooms."""
        outside = sorted(zoom for zoom in zooms if not self.spec.min_zoom <= zoom <= self.spec.max_zoom)
        if outside:
            raise TileSourceError(
                f"tile source {self.id} has zooms {self.spec.min_zoom} to {self.spec.max_zoom}, "
                f"and the flight asks for {', '.join(map(str, outside))}",
                remediation="Choose other zooms or another tile source.",
            )


class HttpTileSource(_Source):
    """Tiles behind a URL template. `requests` turns tiles into HTTP requests; the key is nowhere but in these."""

    def __init__(self, spec: TileSourceSpec, *, api_key: Optional[str] = None) -> None:
        layer = [spec.wmts_layer, spec.wmts_style, spec.wmts_matrix_set]
        super().__init__(spec, [spec.url, sorted(spec.headers.items()), layer])
        self.host = spec.host or ""
        self._template = check_template(spec.id, spec.kind, spec.url or "")
        if api_key is not None and not re.fullmatch(r"[\x21-\x7e]+", api_key):
            raise TileSourceError(f"the API key of tile source {spec.id} is not one word of plain text")
        needs_key = spec.api_key_required or spec.api_key_header or spec.api_key_query or "{api_key}" in self._template
        if api_key is None and needs_key:
            raise TileSourceError(
                f"tile source {spec.id} needs an API key",
                remediation="Put the key into a file and name it in satellite_provider_api_key_file.",
            )
        if (
            api_key is not None
            and (spec.url or "").startswith("http:")
            and not (spec.insecure_http or self.host in LOOPBACK_HOSTS)
        ):
            raise TileSourceError(
                f"tile source {spec.id} would send its API key unencrypted to {self.host}",
                remediation="Use an https URL, or knowingly set insecure_http in the profile or allow_plain_http.",
            )
        self._api_key = api_key
        contact = f" (+{spec.user_agent_contact})" if spec.user_agent_contact else ""
        headers = {"User-Agent": USER_AGENT + contact, "Accept": "image/*,*/*;q=0.5", **spec.headers}
        if api_key is not None and spec.api_key_header:
            headers[spec.api_key_header] = api_key
        self.headers: Tuple[str, ...] = tuple(f"{name}: {value}" for name, value in headers.items())

    def __repr__(self) -> str:
        return f"HttpTileSource({self.id}, {self.host})"

    def url(self, tile: Tile) -> str:
        """The URL of a tile, key included where the provider forces it there: never print it."""
        return tile_url(self._template, tile, spec=self.spec, api_key=self._api_key)

    def with_key(self, url: str) -> str:
        """The URL with the key where the provider wants it in the query."""
        return with_key(url, spec=self.spec, api_key=self._api_key)

    def requests(self, wanted: Iterable[WantedTile]) -> Iterator[TileRequest]:
        """One request for each tile, conditional where the store has a copy (RFC 9110, section 13)."""
        for tile, etag, last_modified in wanted:
            headers: Tuple[str, ...] = ()
            if etag:
                headers = (f"If-None-Match: {etag}",)
            elif last_modified:
                headers = (f"If-Modified-Since: {last_modified}",)
            yield TileRequest(self.url(tile), (tile,), headers)


class LocalTileSource(_Source):
    """Tiles on this machine's disk: a PMTiles or MBTiles archive, a z/x/y folder or a GeoTIFF."""

    def __init__(self, spec: TileSourceSpec) -> None:
        path = os.path.abspath(os.path.expanduser(spec.path or ""))
        self._open: Callable[[], LocalTiles] = lambda: open_local(
            spec.kind, path, tile_size_px=spec.tile_size_px, image_format=spec.format
        )
        with self._open() as tiles:
            identity = tiles.identity
            if tiles.max_zoom < spec.max_zoom:
                spec = replace(spec, max_zoom=tiles.max_zoom, min_zoom=min(spec.min_zoom, tiles.max_zoom))
        super().__init__(spec, identity)
        self.path = path

    def __repr__(self) -> str:
        return f"LocalTileSource({self.id}, {self.path})"

    def open(self) -> LocalTiles:
        """The tiles, for use in one thread; close it, or use it as a context."""
        return self._open()


TileSource = Union[HttpTileSource, LocalTileSource]


def parse_spec(spec: Union[TileSourceSpec, Mapping[str, Any]]) -> TileSourceSpec:
    """A spec out of JSON or TOML values.

    Raises:
        TileSourceError: an unknown key, a missing key or an impossible value.
    """
    if isinstance(spec, TileSourceSpec):
        return spec
    known = {item.name: item for item in fields(TileSourceSpec)}
    name = spec.get("id", "?")
    values: Dict[str, Any] = {}
    for key, value in spec.items():
        if key not in known:
            raise TileSourceError(f"tile source {name} has an unknown key {key!r}")
        if value is None:
            continue
        values[key] = _typed(name, key, str(known[key].type), value)
    for key in ("id", "kind"):
        if key not in values:
            raise TileSourceError(f"tile source {name} lacks {key!r}")
    return TileSourceSpec(**values)


def _typed(name: object, key: str, hint: str, value: Any) -> Any:
    if "Tuple" in hint and isinstance(value, (list, tuple)):
        inner = int if "int" in hint else str
        if all(isinstance(item, inner) for item in value):
            return tuple(value)
    elif "Mapping" in hint and isinstance(value, Mapping):
        return {str(item): str(content) for item, content in value.items()}
    elif "bool" in hint:
        if isinstance(value, bool):
            return value
    elif "float" in hint and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif ("int" in hint and isinstance(value, int) and not isinstance(value, bool)) or (
        "str" in hint and isinstance(value, str)
    ):
        return value
    raise TileSourceError(f"tile source {name} has a wrong value for {key!r}")


def open_source(spec: Union[TileSourceSpec, Mapping[str, Any]], *, api_key: Optional[str] = None) -> TileSource:
    """The source that a spec describes; nothing is asked of the network yet.

    Raises:
        TileProviderTermsError: the provider forbids offline download (exit 24).
        TileSourceError: the spec is wrong, a local archive is missing or damaged, or the key is missing.
    """
    parsed = parse_spec(spec)
    check_terms(parsed)
    if parsed.kind == "pmtiles_http":
        from ._tile_source_pmtiles_http import PmtilesHttpSource

        return PmtilesHttpSource(parsed, api_key=api_key)
    if parsed.kind == "wmts":
        from ._tile_source_wmts import WmtsTileSource

        return WmtsTileSource(parsed, api_key=api_key)
    if parsed.is_http:
        return HttpTileSource(parsed, api_key=api_key)
    return LocalTileSource(parsed)


def check_terms(spec: TileSourceSpec) -> None:
    """Raise TileProviderTermsError where the terms forbid keeping tiles for offline use."""
    host = (spec.host or "").lower().rstrip(".")
    for forbidden, why in FORBIDDEN_HOSTS.items():
        if host == forbidden or host.endswith("." + forbidden):
            raise TileProviderTermsError(f"tile source {spec.id} at {host} cannot be used: {why}")
    if not spec.offline_allowed:
        why = f": {spec.terms_note}" if spec.terms_note else ""
        terms = f" ({spec.terms_url})" if spec.terms_url else ""
        raise TileProviderTermsError(
            f"tile source {spec.id} is not cleared for offline use{why}{terms}",
            remediation="Choose another provider. Where you have read the terms and they allow it, or you hold a "
            "permission, say so in a profile of your own: extends, and offline_allowed = true.",
        )


def spec_from_location(location: str, *, source_id: Optional[str] = None) -> Dict[str, Any]:
    """The spec for a URL template, an archive, a folder, a profile's file (`.toml`) or a shipped profile's name.

    Raises:
        TileSourceError: neither a URL, nor an archive, nor a folder.
    """
    if re.match(r"https?://", location):
        host = urlsplit(location).hostname or "provider"
        bare = location.split("?", maxsplit=1)[0]
        if bare.lower().endswith((".tif", ".tiff", ".vrt")):
            raise TileSourceError(
                f"a GeoTIFF is not read over the network: {host}",
                remediation="Download the file, and give its path as tile source.",
            )
        kind = "pmtiles_http" if bare.endswith(".pmtiles") else "quadkey" if "{q}" in location else "xyz"
        return {"id": source_id or host, "kind": kind, "url": location}
    from ._provider_profiles import load_profile, profile_ids

    if location.endswith(".toml") or location in profile_ids():
        return load_profile(location)
    check_local_path(location)
    path = os.path.expanduser(location)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.splitext(os.path.basename(path.rstrip("/")))[0]).strip("-._")[:64]
    for suffix, kind in ((".pmtiles", "pmtiles"), (".mbtiles", "mbtiles"), (".tif", "geotiff"), (".tiff", "geotiff")):
        if path.lower().endswith(suffix):
            return {"id": source_id or stem or kind, "kind": kind, "path": path}
    if os.path.isdir(path):
        return {"id": source_id or stem or "folder", "kind": "folder", "path": path}
    raise TileSourceError(
        f"{location} is no tile source",
        remediation="Give a URL with {z} {x} {y}, a .pmtiles, .mbtiles or .tif file, a z/x/y folder, or a profile.",
    )
