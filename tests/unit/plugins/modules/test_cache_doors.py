# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import error_from_dict
from cache_samples import RUN_ID, grant_for, make_build

COLLECTION = "ansible_collections.gps_denied.preflight.plugins.modules"


@pytest.fixture
def root(tmp_path: Path) -> CacheRoot:
    return CacheRoot(str(tmp_path / "cache"))


class Doors:
    """The modules, called as Ansible calls them."""

    def __init__(self, root: CacheRoot, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.capsys = capsys

    def __call__(self, name: str, **options: Any) -> dict[str, Any]:
        module = importlib.import_module(f"{COLLECTION}.{name}")
        with patch_module_args({"root": self.root.path, **options}), pytest.raises(SystemExit) as caught:
            module.main()
        result: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        assert bool(result.get("failed")) == bool(caught.value.code)
        result.pop("invocation", None)
        return result


@pytest.fixture
def doors(root: CacheRoot, capsys: pytest.CaptureFixture[str]) -> Doors:
    return Doors(root, capsys)


def publish(doors: Doors, *, seed: int, token: int) -> dict[str, Any]:
    source = make_build(doors.root, seed=seed)
    archive = Path(doors.root.join("incoming", "tiles.pmtiles"))
    os.rename(os.path.join(source, "tiles.pmtiles"), archive)
    os.unlink(os.path.join(source, "request.json"))
    who = {"run_id": RUN_ID, "token": token}
    sealing = {"source": source, "archive": str(archive), "request": '{"a":1}', "report": "{}", **who}
    sealed = doors("cache_seal", **sealing)
    assert sealed["changed"]
    assert not archive.exists()
    assert doors("cache_seal", **sealing) == {**sealed, "changed": False}
    text = grant_for(sealed["cache"]["content_id"], sealed["cache"]["next_counter"]).to_text()
    activation = {"sealed_path": sealed["cache"]["sealed_path"], "grant": text, "vehicle_id": "vehicle-01", **who}
    activated = doors("cache_activate", **activation)
    assert activated["changed"]
    assert activated["cache"]["content_id"] == sealed["cache"]["content_id"]
    assert doors("cache_activate", **activation) == {**activated, "changed": False}
    return activated


def test_the_way_of_a_cache_through_the_doors(doors: Doors, root: CacheRoot) -> None:
    assert doors("cache_info")["cache"]["current"] is None
    held = doors("cache_lock", run_id=RUN_ID, holder="run run-1 of ann on bench")
    assert held["changed"]
    token = held["cache"]["token"]
    assert not doors("cache_lock", run_id=RUN_ID, holder="run run-1 of ann on bench")["changed"]
    activated = publish(doors, seed=1, token=token)
    info = doors("cache_info")
    assert not info["changed"]
    assert info["cache"]["current"]["healthy"]
    assert info["cache"]["current"]["generation"] == activated["cache"]["generation"]
    assert info["cache"]["lock"]["holder"] == "run run-1 of ann on bench"
    assert doors("cache_verify", flight_id="flight-01", mode="fast")["cache"]["go"]
    assert os.access(root.join("bin", "gps-denied-verify"), os.X_OK)
    assert doors("cache_lock", run_id=RUN_ID, token=token, state="renewed")["changed"]
    assert doors("cache_lock", run_id=RUN_ID, token=token, state="released")["changed"]
    assert not doors("cache_lock", run_id=RUN_ID, token=token, state="released")["changed"]


def test_a_rollback_goes_through_the_same_door(doors: Doors) -> None:
    token = doors("cache_lock", run_id=RUN_ID, holder="a")["cache"]["token"]
    first = publish(doors, seed=1, token=token)["cache"]
    publish(doors, seed=2, token=token)
    text = grant_for(first["content_id"], 3).to_text()
    back = doors("cache_activate", rollback_to=first["generation"], grant=text, run_id=RUN_ID, token=token)
    assert back["cache"]["content_id"] == first["content_id"]


def test_a_failure_is_a_sentence_and_the_error_as_data(doors: Doors) -> None:
    token = doors("cache_lock", run_id=RUN_ID, holder="a")["cache"]["token"]
    publish(doors, seed=1, token=token)
    no_go = doors("cache_verify", flight_id="flight-02")
    assert no_go["msg"].startswith("NO-GO (grant-for-other-flight): the grant is for flight flight-01")
    assert (
        doors("cache_verify", flight_id="flight-02", fail_on_no_go=False)["cache"]["reason"] == "grant-for-other-flight"
    )
    foreign = doors("cache_lock", run_id="run-2", holder="another")
    assert foreign["msg"].startswith(f"{doors.root.path} is held by a since 20")
    stale = doors("cache_seal", source=doors.root.join("work"), run_id="run-0", token=0)
    assert stale["error"]["details"]["reason"] == "lock-superseded"
    outside = doors("cache_seal", source="/etc", run_id=RUN_ID, token=token)
    assert outside["msg"].startswith(f"/etc is not below {doors.root.path}")
    nonsense = doors("cache_activate", sealed_path="/nowhere", grant="{}", run_id=RUN_ID, token=token)
    assert nonsense["error"]["details"]["reason"] == "grant-malformed"
    for result in (no_go, foreign, stale, outside, nonsense):
        error = error_from_dict(result["error"])
        assert error is not None
        assert result["msg"].startswith(error.message) or result is no_go


def test_a_seal_that_fails_gives_the_archive_back(doors: Doors, root: CacheRoot) -> None:
    source = make_build(root, seed=1)
    archive = Path(root.join("incoming", "tiles.pmtiles"))
    os.rename(os.path.join(source, "tiles.pmtiles"), archive)
    Path(source, "index", ".partial").write_bytes(b"x")
    failed = doors("cache_seal", source=source, archive=str(archive), run_id=RUN_ID)
    assert failed["error"]["details"] == {"reason": "file-name", "file": "'index/.partial'"}
    assert archive.exists()


def test_check_mode_changes_nothing(doors: Doors, root: CacheRoot) -> None:
    predicted = doors("cache_lock", run_id=RUN_ID, holder="a", _ansible_check_mode=True)
    assert predicted["changed"]
    assert not os.path.exists(root.path)


def test_a_root_that_cannot_be_made_is_named(doors: Doors, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    failed = doors("cache_lock", root=str(tmp_path / "file" / "cache"), run_id=RUN_ID, holder="a")
    assert failed["msg"].startswith("the companion's storage refused: Not a directory")


def test_a_companion_whose_clock_was_never_set_is_judged_by_the_time_it_is_told(doors: Doors) -> None:
    token = doors("cache_lock", run_id=RUN_ID, holder="a")["cache"]["token"]
    publish(doors, seed=1, token=token)
    assert doors("cache_verify", now_epoch_s=0.0)["error"]["details"]["reason"] == "clock-untrusted"
    assert doors("cache_info", now_epoch_s=0.0)["cache"]["current"]["reason"] == "clock-untrusted"
    assert doors("cache_verify", now_epoch_s=time.time())["cache"]["go"]
