# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server with HTTP/2, and the same one without."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import TileRun, TileSet
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tile_server import tile_image

TILES = TileSet.from_runs([TileRun(10, y, 500, 519) for y in range(300, 310)])


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of loopback and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "server.pem"
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM) + private)
    return path


@contextlib.contextmanager
def nginx(work: Path, certificate: Path, *, http2: bool) -> Iterator[tuple[str, Path]]:
    """Address and access log (protocol and connection of each request) of a server over `work`/tiles."""
    for tile in TILES:
        path = work / "tiles" / str(tile.z) / str(tile.x) / f"{tile.y}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tile_image(tile.x * 1000 + tile.y))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = work / "access.log"
    (work / "nginx.conf").write_text(
        f"user {os.environ.get('USER', 'root')};\ndaemon off; worker_processes 1; pid {work}/nginx.pid;\n"
        f"error_log {work}/error.log crit; events {{ worker_connections 256; }}\n"
        "http { types { image/jpeg jpg; } log_format protocol '$server_protocol $connection';\n"
        f"access_log {log} protocol; server {{ listen 127.0.0.1:{port} ssl{' http2' if http2 else ''};\n"
        f"ssl_certificate {certificate}; ssl_certificate_key {certificate}; root {work}/tiles; }} }}\n"
    )
    with subprocess.Popen(["nginx", "-p", str(work), "-c", str(work / "nginx.conf")]) as server:
        context = ssl.create_default_context(cafile=str(certificate))
        try:
            while True:
                assert server.poll() is None, (work / "error.log").read_text()
                with (
                    contextlib.suppress(ConnectionRefusedError),
                    socket.create_connection(("127.0.0.1", port)) as plain,
                ):
                    context.wrap_socket(plain, server_hostname="127.0.0.1").close()
                    break
            yield f"https://127.0.0.1:{port}", log
        finally:
            server.terminate()


@pytest.mark.parametrize(
    ("offered", "wanted", "protocol"),
    [(True, True, "HTTP/2.0"), (False, True, "HTTP/1.1"), (True, False, "HTTP/1.1")],
)
def test_http2_is_used_where_the_server_offers_it(
    tmp_path: Path, certificate: Path, offered: bool, wanted: bool, protocol: str
) -> None:
    tmp_path.chmod(0o755)
    with nginx(tmp_path, certificate, http2=offered) as (base, log), TileStore(tmp_path / "store") as store:
        spec = {"id": "made", "kind": "xyz", "url": base + "/{z}/{x}/{y}.jpg", "connections": 8}
        source = open_source({**spec, "ca_file": str(certificate), "http2": wanted})
        report = download_tiles(tiles=TILES, source=source, store=store)
        assert report.downloaded == len(TILES)
        asked = [line.split() for line in log.read_text().splitlines()]
    assert {version for version, _connection in asked} == {protocol}
    connections = {connection for _version, connection in asked}
    assert len(connections) == 1 if protocol == "HTTP/2.0" else 1 < len(connections) <= 8
