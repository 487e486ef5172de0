# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real tiles, and one nginx on loopback that gives them out: at once, late, over HTTP/2, or no faster than a rate."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "dev"))

from ansible_collections.gps_denied.preflight.plugins.module_utils._pmtiles import (  # noqa: E402
    PmtilesReader,
    tile_id_to_zxy,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import TileRun, TileSet  # noqa: E402

ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
DELAYS_MS = (20, 100)
PERMITTED_PER_S = 200
ZOOM, COLUMN, ROW, WIDTH = 18, 215000, 137000, 200


@dataclass(frozen=True)
class Server:
    """Addresses of the server: below `http` and `https` lie `d0`, `d20`, `d100`; `limited` answers 429."""

    http: str
    https: str
    certificate: Path

    @property
    def limited(self) -> str:
        return f"{self.http}/limited"


def tile_set(count: int) -> TileSet:
    """So many tiles in a block."""
    full, rest = divmod(count, WIDTH)
    runs = [TileRun(ZOOM, ROW + row, COLUMN, COLUMN + WIDTH - 1) for row in range(full)]
    if rest:
        runs.append(TileRun(ZOOM, ROW + full, COLUMN, COLUMN + rest - 1))
    return TileSet.from_runs(runs)


def write_tiles(root: Path, tiles: TileSet) -> int:
    """Real tiles, each made unique by a comment segment; their bytes in all."""
    with PmtilesReader(str(REPO / "examples/imagery/bali.pmtiles")) as reader:
        found = [reader.get(*tile_id_to_zxy(entry.tile_id)) for entry in reader.entries()]
    bodies = [body for body in found if body and len(body) > 6000]
    total = 0
    for index, tile in enumerate(tiles):
        folder = root / str(tile.z) / str(tile.x)
        folder.mkdir(parents=True, exist_ok=True)
        body = bodies[index % len(bodies)]
        content = body[:2] + b"\xff\xfe\x00\x12" + f"{index:016d}".encode() + body[2:]
        (folder / f"{tile.y}.jpg").write_bytes(content)
        total += len(content)
    return total


def _certificate(work: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
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
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = work / "server.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


@contextlib.contextmanager
def nginx(root: Path, work: Path) -> Iterator[Server]:
    """nginx over a folder of tiles, one worker, with access log `work`/access.log for what is limited."""
    if not ECHO_MODULE.exists():
        sys.exit("nginx with its echo module is missing: apt-get install nginx-light libnginx-mod-http-echo")
    plain, tls = _free_ports()
    certificate = _certificate(work)
    late = "".join(
        f"location ~ ^/d{delay}/(.*)$ {{ echo_sleep {delay / 1000}; echo_exec /d0/$1; }}\n" for delay in DELAYS_MS
    )
    config = work / "nginx.conf"
    config.write_text(
        f"load_module {ECHO_MODULE};\n"
        f"user {os.environ.get('USER', 'root')};\ndaemon off; worker_processes 1;\n"
        f"pid {work}/nginx.pid; error_log {work}/error.log crit;\n"
        "events { worker_connections 4096; }\n"
        "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000; types { image/jpeg jpg; }\n"
        f"log_format status '$status'; limit_req_zone $server_port zone=all:1m rate={PERMITTED_PER_S}r/s;\n"
        f"server {{ listen 127.0.0.1:{plain} backlog=4096; listen 127.0.0.1:{tls} ssl http2 backlog=4096;\n"
        f"ssl_certificate {certificate}; ssl_certificate_key {certificate};\n"
        f"location /d0/ {{ alias {root}/; }}\n{late}"
        f"location /limited/ {{ alias {root}/; limit_req zone=all burst=20 nodelay; limit_req_status 429;\n"
        f"access_log {work}/access.log status; }} }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-p", str(work), "-c", str(config)])
    try:
        for _attempt in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", plain), timeout=1):
                break
            time.sleep(0.05)
        yield Server(f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}", certificate)
    finally:
        process.terminate()
        process.wait()
