# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import mercantile
import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    ExitCode,
    TileProviderTermsError,
    TileSourceError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._provider_profiles import load_profile, profile_ids
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import (
    HttpTileSource,
    open_source,
    parse_spec,
    spec_from_location,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source_url import quadkey
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile
from hypothesis import given
from hypothesis import strategies as st

GOOD = {"id": "x", "kind": "xyz", "url": "https://example.org/{z}/{x}/{y}.jpg"}
FORBIDDEN = {"openstreetmap", "esri-world-imagery", "google-satellite", "bing-aerial"}
UNVERIFIED = {"usgs-imagery", "pdok-luchtfoto", "swisstopo-swissimage"}
"""Refused until the operator says that he has read the terms."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "a b"}, "is not a plain name"),
        ({"kind": "ftp"}, "unknown kind 'ftp'; known: xyz, tms"),
        ({"min_zoom": 5, "max_zoom": 3}, "impossible zooms 5 to 3"),
        ({"format": "gif"}, "has format 'gif'"),
        ({"tile_size_px": 7}, "tile_size_px 7"),
        ({"connections": 0}, "0 connections"),
        ({"connections": "many"}, "wrong value for 'connections'"),
        ({"connections": True}, "wrong value for 'connections'"),
        ({"requests_per_s": 0}, "requests_per_s 0"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"url": "file:///etc/passwd"}, "needs a url that begins with https"),
        ({"url": "https://u:p@example.org/{z}/{x}/{y}"}, "has credentials in its url"),
        ({"url": "https://example.org/{z}/{x}"}, "needs {z}, {x} and {y}, or {q}"),
        ({"url": "https://example.org/{z}/{x}/{y}/{k}"}, "unknown field {k}"),
        ({"url": None}, "needs a url"),
        ({"kind": "folder"}, "needs a path"),
        ({"headers": {"A\r\nB": "c"}}, "a header that is none"),
        ({"headers": {"A": "c\r\nX: y"}}, "a header that is none"),
        ({"placeholder_sha256": ["abc"]}, "no SHA-256 in hex"),
        ({"api_key_header": "X-Key"}, "needs an API key"),
        ({"api_key_query": "key"}, "needs an API key"),
        ({"url": "https://example.org/{api_key}/{z}/{x}/{y}"}, "needs an API key"),
    ],
)
def test_a_wrong_spec_is_one_sentence(change: dict[str, object], message: str) -> None:
    with pytest.raises(TileSourceError, match=message.replace("{", r"\{").replace("}", r"\}")) as caught:
        open_source({**GOOD, **change})
    assert "\n" not in caught.value.message


def test_a_key_is_not_sent_in_the_clear() -> None:
    spec = {**GOOD, "url": "http://example.org/{z}/{x}/{y}", "api_key_header": "X-Key"}
    with pytest.raises(TileSourceError, match="would send its API key unencrypted to example.org"):
        open_source(spec, api_key="secret")
    assert isinstance(open_source({**spec, "insecure_http": True}, api_key="secret"), HttpTileSource)


@pytest.mark.parametrize("key", ["a b", "a\r\nX: y", "", "ключ"])
def test_a_key_that_is_none_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(TileSourceError, match="is not one word of plain text") as caught:
        open_source({**GOOD, "api_key_header": "X-Key"}, api_key=key)
    assert not key or key not in caught.value.message


def test_the_key_goes_where_the_profile_says() -> None:
    header = open_source({**GOOD, "api_key_header": "X-Key"}, api_key="s3cret&")
    query = open_source({**GOOD, "api_key_query": "k"}, api_key="s3cret&")
    path = open_source({**GOOD, "url": "https://example.org/{api_key}/{z}/{x}/{y}"}, api_key="s3cret&")
    assert isinstance(header, HttpTileSource)
    assert isinstance(query, HttpTileSource)
    assert isinstance(path, HttpTileSource)
    assert "X-Key: s3cret&" in header.headers
    assert query.url(Tile(1, 0, 1)) == "https://example.org/1/0/1.jpg?k=s3cret%26"
    assert path.url(Tile(1, 0, 1)) == "https://example.org/s3cret%26/1/0/1"
    assert "s3cret" not in repr([header, query, path]) + header.source_key + query.source_key + path.source_key


def test_the_contact_is_in_the_user_agent() -> None:
    source = open_source({**GOOD, "user_agent_contact": "ops@example.org"})
    assert isinstance(source, HttpTileSource)
    assert "User-Agent: gps-denied-preflight (+ops@example.org)" in source.headers


def test_tiles_of_another_url_are_other_tiles() -> None:
    keys = {
        open_source({**GOOD, **change}).source_key for change in ({}, {"url": GOOD["url"] + "?v=2"}, {"format": "png"})
    }
    assert len(keys) == 3
    assert open_source(GOOD).source_key == open_source({**GOOD, "connections": 3, "attribution": "x"}).source_key


@given(
    st.integers(1, 24).flatmap(
        lambda z: st.tuples(st.just(z), st.integers(0, (1 << z) - 1), st.integers(0, (1 << z) - 1))
    )
)
def test_quadkeys_agree_with_mercantile(tile: tuple[int, int, int]) -> None:
    z, x, y = tile
    assert quadkey(Tile(z, x, y)) == mercantile.quadkey(x, y, z)


def test_zooms_that_a_source_lacks_are_said_before_anything_is_asked() -> None:
    source = open_source({**GOOD, "min_zoom": 8, "max_zoom": 15})
    source.check_zooms([8, 15])
    with pytest.raises(TileSourceError, match="has zooms 8 to 15, and the flight asks for 7, 16"):
        source.check_zooms([16, 15, 7])


@pytest.mark.parametrize("name", profile_ids())
def test_shipped_profiles_open_or_say_whose_terms_forbid_it(name: str) -> None:
    spec = parse_spec(load_profile(name))
    assert spec.attribution
    assert spec.terms_url
    assert spec.terms_note
    if name in FORBIDDEN | UNVERIFIED:
        with pytest.raises(TileProviderTermsError) as caught:
            open_source(spec)
        assert caught.value.code is ExitCode.PROVIDER_TERMS
    else:
        assert spec.requests_per_s
        key = "key" if spec.api_key_query else None
        assert open_source(spec, api_key=key).id == name


@pytest.mark.parametrize("url", [load_profile(name)["url"] for name in sorted(FORBIDDEN)])
def test_terms_hold_without_the_profile_too(url: str) -> None:
    with pytest.raises(TileProviderTermsError, match="cannot be used"):
        open_source(spec_from_location(url))


def test_a_location_is_recognised(tmp_path: Path) -> None:
    assert spec_from_location("https://a.org/{z}/{x}/{y}.png")["kind"] == "xyz"
    assert spec_from_location("https://a.org/{q}.png")["kind"] == "quadkey"
    assert spec_from_location("https://a.org/x.pmtiles?sig=1")["kind"] == "pmtiles_http"
    assert spec_from_location("usgs-imagery")["id"] == "usgs-imagery"
    assert spec_from_location("/a/My map.pmtiles") == {"id": "My-map", "kind": "pmtiles", "path": "/a/My map.pmtiles"}
    assert spec_from_location(str(tmp_path))["kind"] == "folder"
    with pytest.raises(TileSourceError, match="is no tile source"):
        spec_from_location("nowhere")


def test_a_profile_of_the_operator_counts_its_path_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('kind = "folder"\npath = "tiles"\n')
    (tmp_path / "tiles").mkdir()
    spec = spec_from_location(str(tmp_path / "mine.toml"))
    assert spec == {"kind": "folder", "path": str(tmp_path / "tiles"), "id": "mine"}
    assert open_source(spec).id == "mine"


@pytest.mark.parametrize("name", sorted(UNVERIFIED))
def test_the_operator_may_say_that_terms_allow_it(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(f'extends = "{name}"\n')
    with pytest.raises(TileProviderTermsError, match="mine is not cleared for offline use: .*https://") as caught:
        open_source(load_profile(str(mine)))
    assert "offline_allowed = true" in caught.value.remediation
    mine.write_text(f'extends = "{name}"\nid = "cleared"\noffline_allowed = true\n')
    assert open_source(load_profile(str(mine))).spec.url == load_profile(name)["url"]


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_what_is_forbidden_stays_so_whoever_says_otherwise(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(f'extends = "{name}"\noffline_allowed = true\n')
    with pytest.raises(TileProviderTermsError, match="cannot be used"):
        open_source(load_profile(str(mine)))


def test_a_profile_extends_only_what_is_shipped(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "nothing"\n')
    with pytest.raises(TileSourceError, match="extends 'nothing', which is not shipped: basemap-at"):
        load_profile(str(mine))
    mine.write_text("extends = 5\n")
    with pytest.raises(TileSourceError, match="extends 5"):
        load_profile(str(mine))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"kind = ", "cannot read the provider profile"), (b"\xff\xfe", "is not UTF-8"), (b"#" * 70000, "is larger than")],
)
def test_a_profile_that_is_none_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(TileSourceError, match=message):
        load_profile(str(path))
    with pytest.raises(TileSourceError, match="cannot read the provider profile"):
        load_profile(str(tmp_path / "absent.toml"))
    with pytest.raises(TileSourceError, match="no provider profile 'absent'; shipped: basemap-at"):
        load_profile("absent")


@pytest.mark.parametrize(("kind", "name"), [("pmtiles", "a.pmtiles"), ("mbtiles", "a.mbtiles"), ("folder", "a")])
def test_a_local_source_that_is_not_there_or_damaged_is_said(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(TileSourceError):
        open_source({"id": "a", "kind": kind, "path": str(tmp_path / name)})
    (tmp_path / name).write_bytes(b"SQLite format 3\0 but then nonsense" * 100)
    with pytest.raises(TileSourceError):
        open_source({"id": "a", "kind": kind, "path": str(tmp_path / name)})
