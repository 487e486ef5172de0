# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that reads bytes from outside, as functions over bytes, with good samples to begin from.

A target takes any bytes and returns: what the reader refuses by an error of the tree is well; anything else is a
finding. Where a reader accepts, the target also holds what must then be true.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.gps_denied.preflight.plugins.module_utils import _flights_api
from ansible_collections.gps_denied.preflight.plugins.module_utils._build_stream import BuildStream
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import FlightResolveSource
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_file import read_flight_bytes
from ansible_collections.gps_denied.preflight.plugins.module_utils._grant import GRANT_NAMESPACE, Grant
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_spool import parse_recording
from ansible_collections.gps_denied.preflight.plugins.module_utils._manifest import Manifest
from ansible_collections.gps_denied.preflight.plugins.module_utils._pmtiles import (
    PmtilesEntry,
    decode_directory,
    decompress,
    encode_directory,
    parse_header,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._redact import Redactor, without_escapes
from ansible_collections.gps_denied.preflight.plugins.module_utils._reloc_hint import Envelope, PositionHint
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import report_from_dict
from ansible_collections.gps_denied.preflight.plugins.module_utils._report_fold import fold_journal
from ansible_collections.gps_denied.preflight.plugins.module_utils._ssh_signature import (
    SshSignature,
    parse_allowed_signers,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_check import image_size, sniff_format
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import TileSourceSpec
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source_wmts import parse_capabilities
from cache_samples import tile_archive

__all__ = ["TARGETS", "Target"]

ROOT = Path(__file__).parents[2]
MISSIONS = ROOT / "tests" / "data" / "missions"
SLOW_S = 10.0
SECRET = b"canary-5up3r-s3cr3t"
_REDACTOR = Redactor([SECRET.decode()])


@dataclass(frozen=True)
class Target:
    """A reader; `read` raises where it does what it must not."""

    read: Callable[[bytes], object]
    samples: Callable[[], list[bytes]]

    def __call__(self, data: bytes) -> None:
        """Read; refusals are well, slowness is not."""
        began = time.monotonic()
        try:
            self.read(data)
        except CacheBuildError as exc:
            said = f"{exc.message} {exc.remediation}"
            if "\n" in said or "\x1b" in said or len(said) > 2000:
                raise AssertionError(f"a refusal that is no plain sentence: {said[:300]!r}") from exc
        if time.monotonic() - began > SLOW_S:
            raise AssertionError(f"{time.monotonic() - began:.1f} s for {len(data)} bytes")


def flight(data: bytes) -> None:
    read = read_flight_bytes(data, flight_id="f", source=FlightResolveSource.FILE)
    points = [vertex.position for part in read.parts for vertex in part.vertices]
    assert points
    assert all(abs(point.lat) <= 90 and abs(point.lon) <= 180 for point in points)


def flights_api(data: bytes) -> None:
    document = _flights_api._document(_flights_api._Answer(200, {}, data), "f-1")
    assert _flights_api._flight(document, "r", None).flight_id == "f-1"


def capabilities(data: bytes) -> None:
    spec = TileSourceSpec(id="s", kind="wmts", url="https://tiles.example/wmts")
    layer = parse_capabilities(data, spec=spec)
    assert urlsplit(layer.template).hostname == "tiles.example"
    assert urlsplit(layer.template).scheme == "https"


def archive(data: bytes) -> None:
    header = parse_header(data, where="it", size_bytes=len(data))
    root = data[header.root_offset : header.root_offset + header.root_length]
    decode_directory(decompress(root, header.internal_compression, max_bytes=1 << 20, where="it"), where="it")


def directory(data: bytes) -> None:
    read = decode_directory(data, where="it")
    assert len(read.tile_ids) == len(read.offsets) == len(read.lengths) == len(read.run_lengths)


def manifest(data: bytes) -> None:
    assert Manifest.parse(data).to_bytes() == data


def recording(data: bytes) -> None:
    content_id, tiles = parse_recording(data)
    assert len(content_id) == 64
    assert all(max(tile.column, tile.row) < 1 << tile.zoom for tile in tiles)


def hint(data: bytes) -> None:
    read = Envelope.parse(data).hint
    assert PositionHint.parse(read.to_text()) == read
    assert abs(read.lat_deg) <= 90 and abs(read.lon_deg) <= 180


def grant(data: bytes) -> None:
    read = Grant.parse(data)
    assert Grant.parse(read.to_text().encode()) == read


def signature(data: bytes) -> None:
    SshSignature.parse(data)


def allowed_signers(data: bytes) -> None:
    parse_allowed_signers(data)


def progress(data: bytes) -> None:
    """The stream ends in the one report of this run, or in a refusal; no escape and no secret comes out."""
    records: list[dict[str, object]] = []
    stream = BuildStream(run_id="run-1", nonce="n", on_record=records.append, redact=_REDACTOR.redact)
    middle = len(data) // 2
    for piece in (data[:middle], data[middle:]):
        stream.feed(piece)
    stream.close()
    said = json.dumps(records)
    assert SECRET.decode() not in said
    assert "\\u001b" not in said
    word = stream.last_word(0)
    assert word["outcome"] in ("success", "idempotent_no_op")


def report(data: bytes) -> None:
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        return
    made = report_from_dict(read)
    assert report_from_dict(json.loads(json.dumps(made.to_dict()))) == made


def tile(data: bytes) -> None:
    kind = sniff_format(data)
    if kind is not None:
        image_size(data, kind)


def redactor(data: bytes) -> None:
    """However it is cut, the same comes out, and no secret."""
    whole = _REDACTOR.redact_bytes(data)
    stream = _REDACTOR.stream()
    cut = data[0] % (len(data) + 1) if data else 0
    assert stream.feed(data[:cut]) + stream.feed(data[cut:]) + stream.close() == whole
    assert SECRET not in whole
    assert SECRET not in without_escapes(whole)


def _good_report() -> bytes:
    return json.dumps(fold_journal("20260101T000000Z-000000", []).to_dict()).encode()


_LAST = b"""{"t":"progress","phase":"build","done":1,"total":2}
{"t":"report","run_id":"run-1","nonce":"n","schema_version":1,"outcome":"success","content_id":"c","warnings":[]}
"""
_POINT = {"lat_deg": 1.5, "lon_deg": 2.5, "alt_m": 100}
_LAYERS = b"""<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"><Contents>
<Layer><ows:Identifier>a</ows:Identifier><Style isDefault="true"><ows:Identifier>s</ows:Identifier></Style>
<Format>image/jpeg</Format><TileMatrixSetLink><TileMatrixSet>m</TileMatrixSet></TileMatrixSetLink>
<ResourceURL format="image/jpeg" resourceType="tile"
 template="https://tiles.example/{Style}/{TileMatrixSet}/{TileMatrix}/{TileRow}/{TileCol}"/></Layer>
<TileMatrixSet><ows:Identifier>m</ows:Identifier><ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>
<TileMatrix><ows:Identifier>0</ows:Identifier><ScaleDenominator>559082264.0287178</ScaleDenominator>
<TopLeftCorner>-20037508.342789244 20037508.342789244</TopLeftCorner><TileWidth>256</TileWidth>
<TileHeight>256</TileHeight><MatrixWidth>1</MatrixWidth><MatrixHeight>1</MatrixHeight></TileMatrix></TileMatrixSet>
</Contents></Capabilities>"""
_HINT = PositionHint("vehicle-01", "f" * 64, 1, -8.4, 115.2, 300.0, "boot", 60.0, "2026-11-23T03:00:00Z", "run-1")
_GRANT = Grant.issue(
    vehicle_id="v", flight_id="f", content_id="ab" * 32, counter=3, run_id="r", now_epoch_s=1.8e9, valid_for_s=60
)
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(20)
_ARMOUR = b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"
_SIGNER = b'operator namespaces="%b",valid-after="20270101" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== c\n'


def _missions() -> list[bytes]:
    found = [path.read_bytes() for path in sorted(MISSIONS.iterdir()) if path.stat().st_size < 20_000]
    return [*found, *(path.read_bytes() for path in sorted((ROOT / "examples" / "flights").iterdir()))]


def _answers() -> list[bytes]:
    plain = json.dumps({"id": "f-1", "name": "n", "waypoints": [_POINT, _POINT], "takeoff_origin": _POINT})
    plan = (MISSIONS / "simple.plan").read_text(encoding="utf-8")
    return [plain.encode(), json.dumps({"id": "f-1", "mission": {"content": plan}}).encode()]


TARGETS = {
    "flight": Target(flight, _missions),
    "flights-api": Target(flights_api, _answers),
    "capabilities": Target(capabilities, lambda: [_LAYERS]),
    "archive": Target(archive, lambda: [tile_archive([(1, 0, 0), (3, 2, 5), (3, 3, 5)])]),
    "directory": Target(directory, lambda: [encode_directory([PmtilesEntry(5, 0, 10, 1), PmtilesEntry(7, 10, 9, 3)])]),
    "manifest": Target(manifest, lambda: [b"%b 12 a/b.bin\n%b 0 c\n" % (b"0" * 64, b"f" * 64)]),
    "recording": Target(recording, lambda: [b"%b 12 17/3/4.jpg\n" % (b"0" * 64)]),
    "hint": Target(hint, lambda: [Envelope(_HINT.to_text(), None).to_bytes()]),
    "grant": Target(grant, lambda: [_GRANT.to_text().encode()]),
    "signature": Target(signature, lambda: [_ARMOUR]),
    "allowed-signers": Target(allowed_signers, lambda: [_SIGNER % GRANT_NAMESPACE.encode()]),
    "progress": Target(progress, lambda: [_LAST, b"\x1b[1m" + SECRET + b"\n" + _LAST]),
    "report": Target(report, lambda: [_good_report()]),
    "tile": Target(
        tile, lambda: [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(20), b"\xff\xd8\xff\xc0\0\x11\x08" + bytes(40)]
    ),
    "redactor": Target(redactor, lambda: [b"a" + SECRET + b"\x1b[0m" + SECRET[:9] + b"\x1b]0;" + SECRET[9:]]),
}
"""By name: what `make fuzz` and the suite run."""
