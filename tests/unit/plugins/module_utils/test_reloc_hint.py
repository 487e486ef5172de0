# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Position hints on the companion: what counts, what is refused, and that none counts twice."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _reloc_spool
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from ansible_collections.gps_denied.preflight.plugins.module_utils._audit import check_audit, last_audit
from ansible_collections.gps_denied.preflight.plugins.module_utils._cache_program import install_programs
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import PositionHintError
from ansible_collections.gps_denied.preflight.plugins.module_utils._reloc_hint import (
    HINT_NAMESPACE,
    Envelope,
    PositionHint,
    check_place,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._reloc_map import count_windows
from ansible_collections.gps_denied.preflight.plugins.module_utils._reloc_spool import (
    describe_hints,
    put_hint,
    take_hint,
    wait_for_ack,
)
from cache_samples import VEHICLE, Signer, activate_build, tile_archive

# Tile 16/40000/30000: its middle.
LON_DEG = (40000.5 / 65536) * 360 - 180
LAT_DEG = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * 30000.5 / 65536))))

# The oldest Python that a companion may have, where this machine has it, and this one.
OLDEST = shutil.which("python3.8")
HAS_OLDEST = OLDEST and subprocess.run([OLDEST, "-c", ""], capture_output=True, check=False).returncode == 0
PYTHONS = [sys.executable, OLDEST] if OLDEST and HAS_OLDEST else [sys.executable]


@pytest.fixture
def root(tmp_path: Path) -> CacheRoot:
    found = CacheRoot(str(tmp_path / "cache"))
    found.ensure()
    activate_build(found, seed=1, archive=tile_archive([(16, 40000, 30000), (16, 40001, 30000)]))
    return found


def hint_for(root: CacheRoot, **changes: Any) -> PositionHint:
    status = describe_hints(root)
    hint = PositionHint(
        vehicle_id=VEHICLE,
        content_id=status["content_id"],
        sequence=status["sequence"] + 1,
        lat_deg=LAT_DEG,
        lon_deg=LON_DEG,
        radius_m=300.0,
        boot_id=status["boot_id"],
        valid_until_s=status["boottime_s"] + 60,
        issued_at="2026-11-23T03:00:00Z",
        run_id="run-1",
    )
    return replace(hint, **changes)


def sealed(hint: PositionHint, signer: Signer | None = None, namespace: str = HINT_NAMESPACE) -> bytes:
    text = hint.to_text()
    return Envelope(text, signer.sign(text.encode(), namespace).decode() if signer else None).to_bytes()


def reason_of(job: Callable[[], object]) -> str:
    with pytest.raises(PositionHintError) as caught:
        job()
    return str(caught.value.details["reason"])


def test_a_hint_is_taken_in_read_once_and_acknowledged(root: CacheRoot) -> None:
    content = sealed(hint_for(root))
    assert wait_for_ack(root, content, timeout_s=0) is None
    put_hint(root, content)
    assert last_audit(root.join("audit.ndjson"))["event"] == "hint"
    taken = take_hint(root)
    assert taken is not None
    assert (taken["sequence"], taken["radius_m"], taken["windows"]) == (1, 300.0, None)
    ack = wait_for_ack(root, content, timeout_s=0)
    assert ack is not None
    assert (ack["sequence"], ack["status"]) == (1, "accepted")
    assert take_hint(root) is None, "it is read once"
    assert describe_hints(root)["sequence"] == 1
    assert check_audit(root.join("audit.ndjson"))[1] is None


def test_a_replayed_hint_is_refused_on_both_sides(root: CacheRoot) -> None:
    first, second = sealed(hint_for(root)), sealed(hint_for(root, sequence=2))
    put_hint(root, first)
    take_hint(root)
    put_hint(root, second)
    take_hint(root)
    assert reason_of(lambda: put_hint(root, first)) == "hint-replayed"
    assert reason_of(lambda: put_hint(root, second)) == "hint-replayed"
    # Past the door, straight into the spool: the reader does not take it either.
    Path(root.join("hints", "hint.json")).write_bytes(first)
    assert reason_of(lambda: take_hint(root)) == "hint-replayed"
    assert take_hint(root) is None
    assert describe_hints(root)["sequence"] == 2


def test_control_a_reader_without_the_sequence_takes_the_replay(
    root: CacheRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sealed(hint_for(root))
    for content in (first, sealed(hint_for(root, sequence=2))):
        put_hint(root, content)
        take_hint(root)
    Path(root.join("hints", "hint.json")).write_bytes(first)
    monkeypatch.setattr(_reloc_spool, "_taken_sequence", lambda _root: 0)
    taken = take_hint(root)
    assert taken is not None
    assert taken["sequence"] == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"boot_id": "another-boot"}, "hint-stale"),
        ({"valid_until_s": 1.0}, "hint-stale"),
        ({"content_id": "f" * 64}, "other-cache"),
        ({"lat_deg": LAT_DEG + 1}, "outside-cache"),
        ({"lon_deg": -LON_DEG}, "outside-cache"),
        ({"sequence": 0}, "hint-malformed"),
        ({"radius_m": 0.5}, "radius-invalid"),
        ({"radius_m": 1e6}, "radius-invalid"),
        ({"lat_deg": 89.0}, "position-invalid"),
        ({"lon_deg": float("inf")}, "position-invalid"),
    ],
)
def test_what_may_not_count_writes_nothing(root: CacheRoot, changes: dict[str, Any], reason: str) -> None:
    def put() -> None:
        put_hint(root, sealed(hint_for(root, **changes)))

    assert reason_of(put) == reason
    assert not Path(root.join("hints", "hint.json")).exists()


def test_an_enrolled_vehicle_wants_a_signature_for_hints_from_whom_it_trusts(root: CacheRoot, tmp_path: Path) -> None:
    signer = Signer.create(tmp_path)
    (tmp_path / "other").mkdir()
    stranger = Signer.create(tmp_path / "other", "stranger")
    signer.enrol(root)
    hint = hint_for(root)
    assert reason_of(lambda: put_hint(root, sealed(hint))) == "hint-unsigned"
    assert reason_of(lambda: put_hint(root, sealed(hint, stranger))) == "signer-unknown"
    assert reason_of(lambda: put_hint(root, sealed(hint, signer, "gps-denied-grant@v1"))) == "signature-namespace"
    moved = Envelope(replace(hint, radius_m=9.0).to_text(), Envelope.parse(sealed(hint, signer)).signature)
    assert reason_of(lambda: put_hint(root, moved.to_bytes())) == "signature-invalid"
    assert reason_of(lambda: put_hint(root, sealed(replace(hint, vehicle_id="other"), signer))) == "other-vehicle"
    put_hint(root, sealed(hint, signer))
    taken = take_hint(root)
    assert taken is not None
    assert taken["signer"] == "operator"


def test_an_unsigned_hint_in_the_spool_of_an_enrolled_vehicle_moves_no_sequence(
    root: CacheRoot, tmp_path: Path
) -> None:
    forged = sealed(hint_for(root, sequence=10**9))
    Signer.create(tmp_path).enrol(root)
    Path(root.join("hints")).mkdir()
    Path(root.join("hints", "hint.json")).write_bytes(forged)
    assert reason_of(lambda: take_hint(root)) == "hint-unsigned"
    assert json.loads(Path(root.join("hints", "ack.json")).read_text())["sequence"] == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"hint":1,"signature":null}', b"[" * 5000, b"x" * 40000])
def test_what_is_no_hint_at_all(root: CacheRoot, content: bytes) -> None:
    assert reason_of(lambda: put_hint(root, content)) == "hint-malformed"
    Path(root.join("hints")).mkdir()
    Path(root.join("hints", "hint.json")).write_bytes(content)
    assert take_hint(root) is None


@pytest.mark.parametrize("change", [{"extra": 1}, {"sequence": "1"}, {"lat_deg": True}, {"run_id": "a b"}])
def test_a_hint_has_its_keys_and_types(root: CacheRoot, change: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(hint_for(root).to_text()), **change})
    assert reason_of(lambda: put_hint(root, Envelope(text, None).to_bytes())) == "hint-malformed"


def test_no_cache_no_hint(tmp_path: Path) -> None:
    assert reason_of(lambda: describe_hints(CacheRoot(str(tmp_path)))) == "no-cache"


def test_not_a_number_is_no_place() -> None:
    for values in ((math.nan, 0.0, 10.0), (0.0, math.nan, 10.0), (0.0, 0.0, math.nan), (0.0, 181.0, 10.0)):
        with pytest.raises(PositionHintError):
            check_place(lat_deg=values[0], lon_deg=values[1], radius_m=values[2])


def test_a_check_writes_nothing(root: CacheRoot) -> None:
    before = Path(root.join("audit.ndjson")).read_bytes()
    put_hint(root, sealed(hint_for(root)), check=True)
    assert reason_of(lambda: put_hint(root, sealed(hint_for(root, sequence=1, lat_deg=1.0)), check=True))
    assert not Path(root.join("hints")).exists()
    assert Path(root.join("audit.ndjson")).read_bytes() == before


def test_windows_within_the_hint_as_the_index_counts_them(root: CacheRoot) -> None:
    from c10_builder._geo import mercator_of, mercator_stretch
    from c10_builder._index import META_DTYPE

    dice = np.random.default_rng(7)
    rows = np.zeros(5000, dtype=META_DTYPE)
    mx, my = mercator_of(lon_deg=LON_DEG, lat_deg=LAT_DEG)
    rows["mx_m"] = mx + dice.uniform(-900, 900, 5000)
    rows["my_m"] = my + dice.uniform(-900, 900, 5000)
    folder = Path(root.join("current", "index"))
    for path in (folder, folder / "meta.npy", folder / "index.json"):
        if path.exists():
            path.chmod(0o755)
    np.save(folder / "meta.npy", rows)
    (folder / "index.json").write_text(json.dumps({"latitude_deg": LAT_DEG}))
    reach = 300.0 * mercator_stretch(LAT_DEG)
    wanted = int((np.hypot(rows["mx_m"] - mx, rows["my_m"] - my) <= reach).sum())
    assert 0 < wanted < 5000
    assert count_windows(root, hint_for(root)) == wanted
    (folder / "meta.npy").write_bytes((folder / "meta.npy").read_bytes()[:-40])
    assert count_windows(root, hint_for(root)) is None, "a cut table is no answer"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_program_takes_in_and_gives_out(root: CacheRoot, python: str) -> None:
    install_programs(root.path)
    program = [python, "-I", root.join("bin", "gps-denied-hint"), "--root", root.path]

    def run(*words: str, content: bytes = b"") -> dict[str, Any]:
        done = subprocess.run([*program, *words], input=content, capture_output=True, timeout=60, check=False)
        assert done.stderr == b""
        answer: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == ("reason" in answer)
        return answer

    assert run("status")["sequence"] == 0
    follower = subprocess.Popen([*program, "take", "--follow"], stdout=subprocess.PIPE)
    try:
        content = sealed(hint_for(root))
        assert run("put", "--wait", "30", content=content)["ack"]["status"] == "accepted"
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["hint"]["sequence"] == 1
    finally:
        follower.kill()
        follower.wait()
        if follower.stdout:
            follower.stdout.close()
    assert run("put", content=content)["reason"] == "hint-replayed"
    assert run("take") == {"hint": None}


def test_validity_is_counted_on_the_boot_clock(root: CacheRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    content = sealed(hint_for(root))
    put_hint(root, content)
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(_reloc_spool, "_boot_clock_s", lambda: now_s + 61)
    assert reason_of(lambda: take_hint(root)) == "hint-stale"
