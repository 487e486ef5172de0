# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Provider profiles: what is known of a tile provider, as TOML. Shipped ones by name, the operator's own by path.

A profile is a flat table with the fields of `TileSourceSpec`. `terms_note` says what was found in the provider's own
words (2026-11), and what was not. A shipped profile allows offline use only where the imagery's licence was found open
and no rule of the service against it; otherwise it is refused, until the operator, who has read the terms or holds a
permission, says so in a profile of his own: `extends = "name"`, `offline_allowed = true`. Where no limit is published,
the pace is slow. Terms and addresses change: read `terms_url` before the first download from a provider.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Tuple

from ._errors import TileSourceError
from ._tile_source_local import check_local_path

__all__ = ["PROFILES", "load_profile", "parse_profile", "profile_ids"]

MAX_PROFILE_BYTES = 65536

PROFILES = """
[usgs-imagery]
description = "USGS The National Map, orthoimagery of the United States; detail to zoom 16"
kind = "xyz"
url = "https://basemap.nationalmap.gov/arcgis/rest/services/USGSImageryOnly/MapServer/tile/{z}/{y}/{x}"
max_zoom = 16
attribution = "USGS The National Map: Orthoimagery"
terms_url = "https://www.usgs.gov/information-policies-and-instructions/copyrights-and-credits"
terms_note = "works of the USGS are in the public domain; not verified: the other sources in the mosaic, of which some \
were restricted, and the rules of the tile service for bulk use"
offline_allowed = false
requests_per_s = 5.0
connections = 4

[swisstopo-swissimage]
description = "SWISSIMAGE, orthophotos of Switzerland, 0.1 m"
kind = "xyz"
url = "https://wmts.geo.admin.ch/1.0.0/ch.swisstopo.swissimage/default/current/3857/{z}/{x}/{y}.jpeg"
max_zoom = 20
format = "jpg"
attribution = "(c) swisstopo"
terms_url = "https://www.geo.admin.ch/en/general-terms-of-use-fsdi"
terms_note = "the imagery is free, but for use in offline systems the operator asks to take the file download instead \
of the tile service: download SWISSIMAGE as GeoTIFF, and give the file as tile source"
offline_allowed = false
requests_per_s = 5.0
connections = 4

[basemap-at-orthofoto]
description = "Orthophotos of Austria, 0.3 m"
kind = "xyz"
url = "https://mapsneu.wien.gv.at/basemap/bmaporthofoto30cm/normal/google3857/{z}/{y}/{x}.jpeg"
max_zoom = 19
format = "jpg"
attribution = "basemap.at (CC BY 4.0)"
terms_url = "https://basemap.at/#lizenz"
terms_note = "CC BY 4.0, which allows copies; not found: a limit of the tile service"
requests_per_s = 10.0
connections = 4

[ign-orthophotos]
description = "BD ORTHO, orthophotos of France, 0.2 m"
kind = "xyz"
url = "https://data.geopf.fr/wmts?SERVICE=WMTS&VERSION=1.0.0&REQUEST=GetTile&LAYER=ORTHOIMAGERY.ORTHOPHOTOS&STYLE=normal\
&FORMAT=image/jpeg&TILEMATRIXSET=PM&TILEMATRIX={z}&TILEROW={y}&TILECOL={x}"
max_zoom = 19
format = "jpg"
attribution = "IGN, BD ORTHO (Licence Ouverte 2.0)"
terms_url = "https://geoservices.ign.fr/cgu-licences"
terms_note = "Licence Ouverte 2.0, by file and by service, which allows copies; published limits are 40 to 50 requests \
a second for its WMS, none was found for WMTS"
requests_per_s = 20.0
connections = 8

[pdok-luchtfoto]
description = "Orthophotos of the Netherlands, 0.08 m, the current year"
kind = "wmts"
url = "https://service.pdok.nl/hwh/luchtfotorgb/wmts/v1_0?request=GetCapabilities&service=wmts"
wmts_layer = "Actueel_orthoHR"
max_zoom = 21
format = "jpg"
attribution = "Beeldmateriaal Nederland / PDOK"
terms_url = "https://www.pdok.nl/pdc-afnemers-van-data"
terms_note = "open data under PDOK's Fair Use; not verified: the licence of this data set (its metadata decides) and \
what Fair Use says of bulk use"
offline_allowed = false
requests_per_s = 5.0
connections = 4

[linz-aerial]
description = "Aerial imagery of New Zealand; needs a free key"
kind = "xyz"
url = "https://basemaps.linz.govt.nz/v1/tiles/aerial/WebMercatorQuad/{z}/{x}/{y}.webp"
max_zoom = 22
format = "webp"
api_key_query = "api"
attribution = "(c) LINZ CC BY 4.0, imagery basemap contributors"
terms_url = "https://basemaps.linz.govt.nz/docs/user-guide/technical-documentation"
terms_note = "CC BY 4.0, which allows copies; a standard key may ask for 1,000 tiles a minute and 1,000,000 a month, \
and ends after 90 days"
requests_per_s = 15.0
connections = 8

[eox-s2cloudless-2016]
description = "Sentinel-2 cloudless 2016, the world at 10 m: for high flights only"
kind = "xyz"
url = "https://tiles.maps.eox.at/wmts/1.0.0/s2cloudless_3857/default/g/{z}/{y}/{x}.jpg"
max_zoom = 14
format = "jpg"
attribution = "Sentinel-2 cloudless - https://s2maps.eu by EOX IT Services GmbH (Contains modified Copernicus Sentinel \
data 2016 & 2017)"
terms_url = "https://cloudless.eox.at/documentation/license"
terms_note = "this year's layer alone was published under CC BY 4.0 with leave to use the service in applications; the \
later ones are free for non-commercial use only; not found: a limit of the tile service"
requests_per_s = 5.0
connections = 4

[openstreetmap]
description = "The map of openstreetmap.org; its servers forbid bulk and offline download"
kind = "xyz"
url = "https://tile.openstreetmap.org/{z}/{x}/{y}.png"
max_zoom = 19
offline_allowed = false
attribution = "(c) OpenStreetMap contributors"
terms_url = "https://operations.osmfoundation.org/policies/tiles/"
terms_note = "the tile usage policy forbids bulk download"

[esri-world-imagery]
description = "Esri World Imagery; keeping tiles needs Esri's export service and a subscription"
kind = "xyz"
url = "https://services.arcgisonline.com/ArcGIS/rest/services/World_Imagery/MapServer/tile/{z}/{y}/{x}"
max_zoom = 19
offline_allowed = false
attribution = "Esri, Maxar, Earthstar Geographics, and the GIS User Community"
terms_url = "https://www.esri.com/en-us/legal/terms/full-master-agreement"
terms_note = "offline use goes through Esri's export-enabled service with an account, as tile packages"

[google-satellite]
description = "Google Maps satellite tiles; its terms forbid keeping tiles"
kind = "xyz"
url = "https://mt1.google.com/vt/lyrs=s&x={x}&y={y}&z={z}"
max_zoom = 20
offline_allowed = false
attribution = "Google"
terms_url = "https://cloud.google.com/maps-platform/terms"
terms_note = "section 3.2.3: no pre-fetching, storing or bulk download of map tiles"

[bing-aerial]
description = "Bing Maps aerial tiles; its terms forbid keeping tiles"
kind = "quadkey"
url = "https://ecn.t0.tiles.virtualearth.net/tiles/a{q}.jpeg?g=1"
min_zoom = 1
max_zoom = 19
offline_allowed = false
placeholder_headers = { X-VE-Tile-Info = "no-tile" }
attribution = "Microsoft"
terms_url = "https://www.microsoft.com/en-us/maps/bing-maps/product/enduserterms"
terms_note = "the terms of use forbid copies; not verified anew"
"""


def parse_profile(text: str, *, where: str) -> Dict[str, Any]:
    """The table of a TOML text.

    Raises:
        TileSourceError: not TOML.
    """
    import tomllib  # Python 3.11; only ever read on the workstation

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise TileSourceError(f"cannot read the provider profile {where}: {exc}") from None


def profile_ids() -> Tuple[str, ...]:
    """Names of the shipped profiles."""
    return tuple(sorted(parse_profile(PROFILES, where="shipped")))


def load_profile(name: str) -> Dict[str, Any]:
    """The spec of a shipped profile, or of a `.toml` file.

    In a file a relative `path` counts from its folder, and `extends` names a shipped profile whose values hold where
    the file has none.

    Raises:
        TileSourceError: no such profile, unreadable, too large or not TOML.
    """
    if not name.endswith(".toml"):
        shipped = parse_profile(PROFILES, where="shipped")
        if name not in shipped:
            raise TileSourceError(f"there is no provider profile {name!r}; shipped: {', '.join(sorted(shipped))}")
        return {"id": name, **shipped[name]}
    path = os.path.expanduser(name)
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_PROFILE_BYTES + 1)
        text = content.decode()
    except OSError as exc:
        raise TileSourceError(f"cannot read the provider profile {name}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise TileSourceError(f"the provider profile {name} is not UTF-8 text") from None
    if len(content) > MAX_PROFILE_BYTES:
        raise TileSourceError(f"the provider profile {name} is larger than {MAX_PROFILE_BYTES} bytes")
    spec = parse_profile(text, where=name)
    base = spec.pop("extends", None)
    if base is not None:
        if base not in profile_ids():
            raise TileSourceError(
                f"the provider profile {name} extends {base!r}, which is not shipped: {', '.join(profile_ids())}"
            )
        spec = {**parse_profile(PROFILES, where="shipped")[base], **spec}
    inner = spec.get("path")
    if isinstance(inner, str) and not inner.startswith("~"):
        check_local_path(inner)
        spec["path"] = os.path.join(os.path.dirname(os.path.abspath(path)), inner)
    spec.setdefault("id", os.path.splitext(os.path.basename(path))[0])
    return spec
