# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS, and what a download is reckoned to cost."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    DownloadError,
    TilePlacementError,
    TileSourceError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import DownloadLimits, download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download_sample import (
    estimate_download,
    sample_tiles,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import TileRun, TileSet
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tile_server import Reply, Request, TileServer, joined_tile, seed_of, tile_image

TILES = TileSet.from_runs([TileRun(z, y, 300, 319) for z in (9, 10) for y in range(200, 210)])
QUICK = DownloadLimits(connect_timeout_s=1.0, request_timeout_s=2.0, backoff_s=0.02)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TileStore]:
    with TileStore(tmp_path / "tiles") as opened:
        yield opened


def certificate(folder: Path, *, name: str, days: int) -> tuple[ssl.SSLContext, Path]:
    """A self-signed certificate for a name, valid until `days` from now."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    alternative = x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


@pytest.mark.parametrize(
    ("name", "days", "trusted"), [("127.0.0.1", -1, "ca"), ("example.org", 30, "ca"), ("127.0.0.1", 30, "")]
)
def test_an_invalid_certificate_ends_the_download_at_once(
    name: str, days: int, trusted: str, tmp_path: Path, store: TileStore
) -> None:
    context, public = certificate(tmp_path, name=name, days=days)
    with TileServer(context=context) as server:
        spec = {"id": "tls", "kind": "xyz", "url": server.base + "/{z}/{x}/{y}.jpg", "api_key_header": "X-Key"}
        source = open_source({**spec, "ca_file": str(public) if trusted else None}, api_key="canary-key")
        with pytest.raises(TileSourceError, match=r"the certificate of 127\.0\.0\.1 is not valid") as caught:
            download_tiles(tiles=TILES, source=source, store=store, limits=QUICK)
        assert "canary" not in str(caught.value.to_dict())
        assert server.requests == []


def test_a_private_authority_is_trusted_where_the_profile_says_so(tmp_path: Path, store: TileStore) -> None:
    context, public = certificate(tmp_path, name="127.0.0.1", days=30)
    with TileServer(context=context) as server:
        url = server.base + "/{z}/{x}/{y}.jpg"
        source = open_source({"id": "tls", "kind": "xyz", "url": url, "ca_file": str(public)})
        assert download_tiles(tiles=TILES, source=source, store=store, limits=QUICK).downloaded == len(TILES)


def test_an_estimate_is_near_and_its_tiles_are_kept(store: TileStore) -> None:
    with TileServer() as server:
        spec = {"id": "plan", "kind": "xyz", "url": server.base + "/{z}/{x}/{y}.jpg", "requests_per_s": 50.0}
        source = open_source({**spec, "price_per_1000": 10.0, "price_currency": "EUR"})
        estimate = estimate_download(tiles=TILES, source=source, store=store, limits=QUICK)
        assert (estimate.tiles, estimate.present, len(server.requests)) == (400, 24, 24)
        true_bytes = sum(len(tile_image(seed_of(f"/{z}/{x}/{y}.jpg"))) for z, x, y in TILES)
        assert estimate.size_bytes == pytest.approx(true_bytes, rel=0.1)
        assert estimate.download_bytes == pytest.approx(true_bytes * 376 / 400, rel=0.1)
        assert estimate.seconds >= 7.5
        assert (estimate.price, estimate.price_currency) == (3.76, "EUR")
        report = download_tiles(tiles=TILES, source=open_source({**spec, "requests_per_s": None}), store=store)
        assert (report.reused, report.downloaded) == (24, 376)
        again = estimate_download(tiles=TILES, source=source, store=store, limits=QUICK)
        assert (again.download_bytes, again.seconds, again.price) == (0, 0.0, 0.0)


def test_a_plan_of_tiles_whose_rows_are_flipped_is_refused_before_the_download(store: TileStore) -> None:
    def script(request: Request, _attempt: int) -> Reply:
        z, x, y = (int(part) for part in request.path.removesuffix(".jpg").split("/")[1:])
        return Reply(body=joined_tile(x, (1 << z) - 1 - y))

    with TileServer(script) as server:
        spec = {"id": "tms", "kind": "xyz", "url": server.base + "/{z}/{x}/{y}.jpg"}
        with pytest.raises(TilePlacementError, match="count their rows from the other end"):
            estimate_download(tiles=TILES, source=open_source(spec), store=store, limits=QUICK)
        assert len(server.requests) == 24
        waived = open_source({**spec, "check_placement": False})
        assert estimate_download(tiles=TILES, source=waived, store=store, limits=QUICK).tiles == 400
        right = open_source({**spec, "kind": "tms"})
        assert estimate_download(tiles=TILES, source=right, store=store, limits=QUICK).tiles == 400


def test_an_estimate_from_a_provider_that_is_down_is_an_error(store: TileStore) -> None:
    with TileServer() as server:
        url = server.base + "/{z}/{x}/{y}.jpg"
    with pytest.raises(DownloadError, match="does not answer"):
        estimate_download(tiles=TILES, source=open_source({"id": "a", "kind": "xyz", "url": url}), store=store)


def test_a_sample_is_spread_over_the_area() -> None:
    sample = sample_tiles(TILES, 10, 5)
    rows = sorted(tile.y for tile in sample)
    assert len(sample) == 5
    assert rows[0] == 200
    assert rows[-1] == 209
    assert len(sample_tiles(TILES, 10, 1000)) == 200
    assert len(sample_tiles(TILES, 10, 1)) == 1
    assert len(sample_tiles(TILES, 3, 5)) == 0
