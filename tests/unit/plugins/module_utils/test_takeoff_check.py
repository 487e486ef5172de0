# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_faults import Reason
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_info import describe_cache
from ansible_collections.gps_denied.preflight.plugins.module_utils._takeoff_check import (
    TakeoffAnswer,
    TakeoffQuestion,
    check_cache,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._takeoff_check_program import main
from cache_samples import Signer, activate_build, tile_archive


@pytest.fixture
def root(tmp_path: Path) -> CacheRoot:
    return CacheRoot(str(tmp_path / "cache"))


def generation(root: CacheRoot) -> Path:
    return Path(root.join("current")).resolve()


def ask(root: CacheRoot, **question: Any) -> TakeoffAnswer:
    return check_cache(root, TakeoffQuestion(**question))


def test_go_tells_what_the_vehicle_flies_with(root: CacheRoot) -> None:
    done = activate_build(root, seed=1)
    answer = ask(root, content_id=done.content_id, vehicle_id="vehicle-01", flight_id="flight-01")
    assert (answer.go, answer.reason, answer.generation) == (True, None, done.generation)
    assert (answer.flight_id, answer.vehicle_id, answer.counter) == ("flight-01", "vehicle-01", 1)


def test_nothing_there_is_no_go(root: CacheRoot) -> None:
    assert ask(root).reason == "no-cache"
    root.ensure()
    assert ask(root).reason == "no-cache"


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ({"content_id": "ab" * 32}, "content-id-mismatch"),
        ({"vehicle_id": "vehicle-02"}, "grant-for-other-vehicle"),
        ({"flight_id": "flight-02"}, "grant-for-other-flight"),
        ({"now_epoch_s": 0.0}, "clock-untrusted"),
        ({"now_epoch_s": 4e9}, "grant-expired"),
        ({"now_epoch_s": 1.77e9}, "grant-not-yet-valid"),
        ({"route_path": "/nowhere"}, "route-unreadable"),
    ],
)
def test_another_question_is_no_go(root: CacheRoot, question: dict[str, Any], reason: str) -> None:
    activate_build(root, seed=1)
    answer = ask(root, **question)
    assert (answer.go, answer.reason) == (False, reason)
    assert answer.message


def test_a_grant_that_vanished_was_replaced_or_is_old_is_no_go(root: CacheRoot) -> None:
    activate_build(root, seed=1)
    first_grant = (generation(root) / "grant.json").read_bytes()
    activate_build(root, seed=2)
    grant = generation(root) / "grant.json"
    grant.chmod(0o644)
    grant.write_bytes(first_grant)
    assert ask(root).reason == "grant-for-other-content"
    grant.write_bytes(b"{}")
    assert ask(root).reason == "grant-malformed"
    grant.unlink()
    assert ask(root).reason == "grant-missing"


def test_current_turned_back_to_an_older_generation_is_no_go(root: CacheRoot) -> None:
    first = activate_build(root, seed=1)
    activate_build(root, seed=2)
    os.unlink(root.join("current"))
    os.symlink(f"generations/{first.generation}", root.join("current"))
    assert ask(root).reason == "grant-replayed"


def test_a_generation_under_another_name_is_no_go(root: CacheRoot) -> None:
    activate_build(root, seed=1)
    os.rename(generation(root), os.path.join(root.generations, "00000001-0123456789ab"))
    os.unlink(root.join("current"))
    os.symlink("generations/00000001-0123456789ab", root.join("current"))
    assert ask(root).reason == "current-invalid"


def test_an_enrolled_companion_without_its_name_is_no_go(root: CacheRoot, tmp_path: Path) -> None:
    signer = Signer.create(tmp_path)
    signer.enrol(root)
    activate_build(root, seed=1, signer=signer)
    assert ask(root).go
    assert ask(root, vehicle_id="vehicle-02").reason == "grant-for-other-vehicle"
    os.unlink(os.path.join(root.trust_dir, "vehicle_id"))
    assert ask(root).reason == "trust-missing"


def test_the_signature_is_judged_at_the_moment_of_the_question(root: CacheRoot, tmp_path: Path) -> None:
    signer = Signer.create(tmp_path)
    signer.enrol(root)
    activate_build(root, seed=1, signer=signer)
    Path(root.trust_dir, "revoked_keys").write_text(signer.public + "\n", encoding="ascii")
    assert ask(root).reason == "signer-revoked"


def test_the_facts_never_fail_for_a_missing_or_broken_cache(root: CacheRoot) -> None:
    facts = describe_cache(root)
    assert (facts["present"], facts["current"], facts["next_counter"], facts["lock"]) == (False, None, 1, None)
    assert facts["free_bytes"] > 0
    activate_build(root, seed=1)
    facts = describe_cache(root)
    assert facts["current"]["healthy"]
    assert facts["current"]["inputs_id"]
    (generation(root) / "tiles.pmtiles").unlink()
    facts = describe_cache(root)
    assert (facts["current"]["healthy"], facts["current"]["file"]) == (False, "tiles.pmtiles")
    os.unlink(root.join("current"))
    Path(root.join("current")).write_bytes(b"x")
    facts = describe_cache(root)
    assert (facts["current"]["reason"], facts["next_counter"]) == ("current-invalid", None)


def test_the_program_writes_until_when_a_go_holds_and_takes_it_away(
    root: CacheRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = activate_build(root, seed=1)
    until = tmp_path / "run" / "valid-until"
    words = ["--root", root.path, "--valid-until", str(until), "--hold-s", "60"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(f"GO {done.generation} flight flight-01 vehicle vehicle-01 until 20")
    moment, name, flight = until.read_text(encoding="ascii").split()
    assert abs(int(moment) - time.time() - 60) < 30
    assert (name, flight) == (done.generation, "flight-01")
    assert main([*words, "--hold-s", "999999"]) == 0
    assert int(until.read_text(encoding="ascii").split()[0]) <= time.time() + 3600, "it outlives the grant"
    assert main([*words, "--flight", "another\x1b[31m"]) == 1
    assert not until.exists()
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("NO-GO grant-for-other-flight: the grant is for flight flight-01")
    assert "\x1b" not in said


def test_a_defect_of_the_verifier_is_no_go_without_a_traceback(
    root: CacheRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    activate_build(root, seed=1)
    until = tmp_path / "valid-until"
    assert main(["--root", root.path, "--valid-until", str(until)]) == 0
    monkeypatch.setattr(CacheRoot, "counter_floor", lambda _self: 1 // 0)
    assert main(["--root", root.path, "--valid-until", str(until)]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("NO-GO verifier-failed: ZeroDivisionError")
    assert captured.err == ""
    assert not until.exists()


def test_wrong_usage_is_no_go_too() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--no-such-option"])
    assert caught.value.code == 2


def test_damage_anywhere_is_never_a_go(root: CacheRoot, tmp_path: Path) -> None:
    """Random bytes over every small file of the cache root and the generation: NO-GO or an unharmed meaning."""
    archive = tile_archive([(3, 4, 2)])
    activate_build(root, seed=1, archive=archive)
    dice = random.Random(5)
    for turn in range(150):
        copy = CacheRoot(str(tmp_path / f"copy-{turn}"))
        shutil.copytree(root.path, copy.path, symlinks=True)
        victim = dice.choice(
            [path for path in generation(copy).rglob("*") if path.is_file() and path.name != "report.json"]
        )
        victim.chmod(0o644)
        content = bytearray(victim.read_bytes())
        for _byte in range(dice.randrange(1, 4)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        unharmed = bytes(content) == victim.read_bytes()
        victim.write_bytes(bytes(content))
        answer = ask(copy)
        if not unharmed and victim.name != "grant.json":
            assert not answer.go, victim
        shutil.rmtree(copy.path)


def test_every_reason_code_is_documented_and_no_other(repo: Path) -> None:
    page = (repo / "docs" / "how-to" / "verify-at-take-off.md").read_text(encoding="utf-8")
    table = page.partition("## Reason codes")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == [reason.value for reason in Reason]
