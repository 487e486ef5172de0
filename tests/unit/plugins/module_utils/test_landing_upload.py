# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploading recordings: each tile once, whatever goes wrong on the way."""

from __future__ import annotations

import hashlib
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycurl
import pytest
import yaml
from ansible_collections.gps_denied.preflight.plugins.module_utils import _landing_upload
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    LandingSpoolError,
    TileUploadError,
    TileUploadRejectedError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_archive import (
    FetchedRecording,
    open_recording,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_ledger import TileKey, UploadLedger
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_spool import (
    MAX_TILE_BYTES,
    inspect_spool,
    tile_of_path,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_target import MAX_ASKED, UploadTarget
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_upload import (
    UploadResult,
    upload_recordings,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download_limits import DownloadLimits
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import TileSourceSpec
from upload_provider import UploadProvider

sys.path.insert(0, str(Path(__file__).parents[4] / "examples" / "companion"))
from landing_recorder import Recorder

ROOT = Path(__file__).parents[4]
LIMITS = DownloadLimits(backoff_s=0.01, request_timeout_s=5.0, stall_s=20.0, deadline_s=60.0, breaker_probes=1)


def recorded(root: Path, count: int, name: str = "flight-1", *, seed: int = 0) -> FetchedRecording:
    recorder = Recorder(str(root), name)
    source = random.Random(seed)
    for index in range(count):
        recorder.add(17, 100 + index, 200, source.randbytes(500 + index))
    recorder.finish()
    (row,) = [row for row in inspect_spool(str(root)) if row["id"] == name]
    assert row["state"] == "ready", row
    return open_recording(recorder.folder, name=name, content_id=row["content_id"])


def target_of(provider: UploadProvider, *, api_key: str | None = None, connections: int = 4) -> UploadTarget:
    header = "X-Api-Key" if api_key else None
    spec = TileSourceSpec(
        id="loopback",
        kind="xyz",
        url=provider.url + "/{z}/{x}/{y}",
        upload_url=provider.url,
        connections=connections,
        api_key_header=header,
    )
    return UploadTarget(spec, api_key=api_key)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[UploadLedger]:
    with UploadLedger(str(tmp_path / "ledger.sqlite3"), provider="loopback", run_id="run-1") as opened:
        yield opened


def upload(
    provider: UploadProvider, ledger: Any, *recordings: FetchedRecording, limits: DownloadLimits = LIMITS, **kwargs: Any
) -> list[UploadResult]:
    results: list[UploadResult] = []
    upload_recordings(
        recordings,
        target=target_of(provider, **kwargs),
        ledger=ledger,
        on_result=lambda _recording, result: results.append(result),
        limits=limits,
    )
    return results


def test_every_tile_once_and_then_nothing(tmp_path: Path, ledger: UploadLedger) -> None:
    recording = recorded(tmp_path, 40)
    with UploadProvider() as provider:
        (result,) = upload(provider, ledger, recording)
        assert (result.sent, result.complete, result.bytes_sent) == (
            40,
            True,
            sum(t.size_bytes for t in recording.tiles),
        )
        assert len(provider.accepted) == 40
        queries = provider.queries
        (again,) = upload(provider, ledger, recording)
        assert (again.known, again.sent, again.complete) == (40, 0, True)
        assert (len(provider.accepted), provider.queries) == (40, queries), "what the ledger has is not even asked for"


@pytest.mark.parametrize("fault", ["store and drop", "store and 500", "drop", "500", "429", "503"])
def test_a_fault_at_the_first_attempt_of_every_third_tile(tmp_path: Path, ledger: UploadLedger, fault: str) -> None:
    recording = recorded(tmp_path, 12)
    broken = {t.sha256 for t in recording.tiles[::3]}
    with UploadProvider(lambda name, n: fault if n == 1 and name.rpartition("/")[2] in broken else "") as provider:
        (result,) = upload(provider, ledger, recording)
        assert result.complete, result
        assert provider.sent_twice == []
        assert len(provider.accepted) == 12


def test_an_answer_that_never_comes(tmp_path: Path, ledger: UploadLedger) -> None:
    recording = recorded(tmp_path, 5)
    slow = DownloadLimits(backoff_s=0.01, request_timeout_s=0.3, stall_s=20.0)
    with UploadProvider(lambda _name, attempt: "store and hang" if attempt == 1 else "") as provider:
        (result,) = upload(provider, ledger, recording, limits=slow)
        assert result.complete
        assert provider.sent_twice == []


class NoMemory:
    """The broken uploader of the control: it forgets what was accepted and asks nobody."""

    def accepted(self, _keys: Any) -> set[Any]:
        return set()

    def accept(self, _keys: Any) -> None:
        pass


def test_control_an_uploader_without_memory_is_convicted(
    tmp_path: Path, ledger: UploadLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recorded(tmp_path, 12)
    broken = {t.sha256 for t in recording.tiles[::3]}
    fault = "store and drop"
    with UploadProvider(lambda name, n: fault if n == 1 and name.rpartition("/")[2] in broken else "") as provider:
        monkeypatch.setattr(_landing_upload._Uploader, "ask", lambda _self, _keys: set())
        upload(provider, NoMemory(), recording)
        assert len(provider.sent_twice) == 4


def test_control_libcurl_repeats_a_body_that_it_can_rewind() -> None:
    """Why the engine hands bodies over through a function: on a kept connection that dies, libcurl sends again."""
    with UploadProvider(
        lambda _name, n: "store and drop" if len(provider.accepted) == 1 and n == 1 else ""
    ) as provider:
        handle = pycurl.Curl()
        for body in (b"first" * 50, b"second" * 50):
            digest = hashlib.sha256(body).hexdigest()
            handle.setopt(pycurl.URL, f"{provider.url}/tiles/1/0/0/{digest}")
            handle.setopt(pycurl.CUSTOMREQUEST, "PUT")
            handle.setopt(pycurl.POSTFIELDS, body)
            handle.setopt(pycurl.WRITEFUNCTION, lambda _part: None)
            handle.perform()
        handle.close()
        assert len(provider.sent_twice) == 1


def test_control_without_the_ledger_a_provider_that_forgot_gets_it_again(tmp_path: Path, ledger: UploadLedger) -> None:
    recording = recorded(tmp_path, 6)
    with UploadProvider() as provider:
        upload(provider, ledger, recording)
        provider.forget()
        upload(provider, ledger, recording)
        assert provider.sent_twice == []
        upload(provider, NoMemory(), recording)
        assert len(provider.sent_twice) == 6


def test_rejected_tiles_do_not_stop_the_others(tmp_path: Path, ledger: UploadLedger) -> None:
    recording = recorded(tmp_path, 40)
    bad = {t.sha256 for t in recording.tiles[:30]}
    with UploadProvider(lambda name, _attempt: "422" if name.rpartition("/")[2] in bad else "") as provider:
        (result,) = upload(provider, ledger, recording)
        assert (result.sent, result.rejected, result.complete) == (10, 30, False)
        assert "rejected with HTTP 422" in result.listed.values()


def test_a_login_page_is_no_receipt(tmp_path: Path, ledger: UploadLedger) -> None:
    with UploadProvider(lambda _name, _attempt: "portal") as provider:
        with pytest.raises(TileUploadError, match="without a receipt, 16 times in a row"):
            upload(provider, ledger, recorded(tmp_path, 40))
        assert provider.accepted == []


def test_a_wrong_key_ends_it_and_is_in_no_text(tmp_path: Path, ledger: UploadLedger) -> None:
    with UploadProvider(api_key="right-key-1") as provider:
        with pytest.raises(TileUploadRejectedError, match="refused the credentials") as caught:
            upload(provider, ledger, recorded(tmp_path, 3), api_key="wrong-key-1")
        assert "wrong-key" not in str(caught.value) + repr(caught.value.to_dict())
        (result,) = upload(provider, ledger, recorded(tmp_path, 3, "flight-2"), api_key="right-key-1")
        assert result.complete


def test_a_provider_that_is_down_loses_nothing(tmp_path: Path, ledger: UploadLedger) -> None:
    recording = recorded(tmp_path, 60)
    with UploadProvider(lambda _name, _attempt: "500" if len(provider.accepted) >= 20 else "") as provider:
        with pytest.raises(TileUploadError, match="does not answer"):
            upload(provider, ledger, recording)
        before = len(provider.accepted)
        assert 20 <= before < 60
        provider.fault = lambda _name, _attempt: ""
        (result,) = upload(provider, ledger, recording)
        assert result.complete
        assert provider.sent_twice == []


def test_the_rate_of_the_profile_bounds_the_upload(tmp_path: Path, ledger: UploadLedger) -> None:
    """By the pacer's own clock: 12 requests at 2 a second need the clock to have moved 5 s."""
    recording = recorded(tmp_path, 11)
    now = [0.0]

    def clock() -> float:
        now[0] += 0.1
        return now[0]

    with UploadProvider() as provider:
        spec = TileSourceSpec(id="x", kind="xyz", url=provider.url, upload_url=provider.url, requests_per_s=2.0)
        upload_recordings(
            [recording], target=UploadTarget(spec), ledger=ledger, on_result=lambda *_: None, limits=LIMITS, clock=clock
        )
        assert len(provider.accepted) == 11
    assert now[0] >= 5.0


def test_a_damaged_tile_is_named_and_the_others_go(tmp_path: Path, ledger: UploadLedger) -> None:
    whole = recorded(tmp_path, 10)
    path = Path(whole.archive_path)
    content = bytearray(path.read_bytes())
    content[whole.offsets["17/103/200.jpg"] + 7] ^= 1
    content[whole.offsets["17/106/200.jpg"] - 400] ^= 1  # a header
    path.write_bytes(content)
    recording = open_recording(whole.folder, name=whole.name, content_id=whole.content_id)
    assert set(recording.damaged) == {"17/103/200.jpg", "17/106/200.jpg"}
    with UploadProvider() as provider:
        (result,) = upload(provider, ledger, recording)
        assert (result.sent, result.damaged, result.complete) == (8, 2, False)


def test_an_archive_that_changes_between_check_and_sending_is_not_sent(tmp_path: Path, ledger: UploadLedger) -> None:
    recording = recorded(tmp_path, 3)
    path = Path(recording.archive_path)
    path.write_bytes(b"\0" * path.stat().st_size)
    with UploadProvider() as provider, pytest.raises(LandingSpoolError, match="changed while it was read"):
        upload(provider, ledger, recording)


def test_a_damaged_ledger_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"no database, surely not one of SQLite's" * 100)
    with pytest.raises(TileUploadError, match="ledger .* cannot be used"):
        UploadLedger(str(path), provider="p", run_id="r")


def test_the_openapi_document_says_what_the_client_does(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "docs" / "reference" / "landing-upload.openapi.yaml").read_text("utf-8"))
    schemas, paths = document["components"]["schemas"], document["paths"]
    asked = paths["/tiles/query"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert asked["properties"]["tiles"]["maxItems"] == MAX_ASKED
    assert schemas["Picture"]["maxLength"] == MAX_TILE_BYTES
    with UploadProvider() as provider:
        request = target_of(provider).put(TileKey(17, 3, 4, "0" * 64), b"x", media_type="image/png")
        assert request.url == f"{provider.url}/tiles/17/3/4/{'0' * 64}"
    name = next(line for line in request.headers if line.startswith("Idempotency-Key: ")).partition(": ")[2]
    assert re.fullmatch(schemas["Name"]["pattern"], name)
    taken = paths["/tiles/{z}/{x}/{y}/{sha256}"]["put"]["requestBody"]["content"]
    found = [tile_of_path(f"17/1/1.{kind}") for kind in ("jpg", "png", "webp")]
    assert {tile[3] for tile in found if tile} == set(taken)
