# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The landing spool on the companion: what is ready, what is refused, and that nothing goes before it was accepted."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    LandingSpoolError,
    VehicleNotLandedError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_ground import check_ground_flag
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_spool import (
    collect_recording,
    inspect_spool,
    mark_accepted,
    tile_of_path,
)

sys.path.insert(0, str(Path(__file__).parents[4] / "examples" / "companion"))
from landing_recorder import Recorder, write_ground_flag


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    recorder = Recorder(str(tmp_path), "flight-1")
    recorder.add(17, 10, 20, b"one")
    recorder.add(17, 11, 20, b"two", kind="webp")
    recorder.finish()
    return Path(recorder.folder)


def row_of(root: Path, name: str = "flight-1") -> dict[str, object]:
    (row,) = [row for row in inspect_spool(str(root)) if row["id"] == name]
    return row


def test_no_spool_holds_nothing(tmp_path: Path) -> None:
    assert inspect_spool(str(tmp_path)) == []


def test_a_finished_recording_is_ready(recording: Path, tmp_path: Path) -> None:
    row = row_of(tmp_path)
    assert (row["state"], row["tiles"]) == ("ready", 2)
    assert row["size_bytes"] == (recording / "tiles.tar").stat().st_size


def test_one_without_a_manifest_is_left_alone(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path), "flight-2")
    recorder.add(17, 1, 1, b"half")
    recorder.close()
    assert row_of(tmp_path, "flight-2")["state"] == "unfinished"


def link(path: Path) -> None:
    target = path.with_name("elsewhere")
    (path / "tiles.tar").rename(target)
    (path / "tiles.tar").symlink_to(target)


def hard_link(path: Path) -> None:
    os.link(path / "tiles.tar", path.parent / "second-name")
    (path.parent / "second-name").rename(path.parent.parent / "second-name")


def pipe(path: Path) -> None:
    (path / "tiles.tar").unlink()
    os.mkfifo(path / "tiles.tar")


def door(path: Path) -> None:
    (path / "tiles.tar").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "tiles.tar"))


def manifest(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (path / "MANIFEST").write_text(text)

    return write


def huge(path: Path) -> None:
    with (path / "tiles.tar").open("r+b") as stream:
        stream.truncate(1 << 38)


HASH = "0" * 64


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (link, "file-symlink"),
        (hard_link, "file-hardlink"),
        (pipe, "file-special"),
        (door, "file-special"),
        (huge, "archive-size"),
        (lambda path: (path / "tiles.tar").write_bytes(b"cut"), "archive-size"),
        (lambda path: (path / "tiles.tar").unlink(), "file-missing"),
        (lambda path: (path / "notes.txt").touch(), "foreign-file"),
        (lambda path: (path / "17").mkdir(), "foreign-file"),
        (manifest(f"{HASH} 3 ../../etc/passwd\n"), "manifest-path"),
        (manifest(f"{HASH} 3 /etc/passwd\n"), "manifest-path"),
        (manifest(f"{HASH} 3 notes.txt\n"), "not-a-tile"),
        (manifest(f"{HASH} 3 17/131072/1.jpg\n"), "not-a-tile"),
        (manifest(f"{HASH} 99999999 17/1/1.jpg\n"), "tile-size"),
        (manifest(f"{HASH} 0 17/1/1.jpg\n"), "tile-size"),
        (manifest("half a li"), "manifest-malformed"),
        (manifest(f"{HASH} 3 17/1/1.jpg\n" * 20001), "manifest-too-large"),
    ],
)
def test_a_hostile_or_broken_recording_is_refused_by_name(
    recording: Path, tmp_path: Path, harm: Callable[[Path], object], reason: str
) -> None:
    other = Recorder(str(tmp_path), "flight-2")
    other.add(17, 1, 1, b"whole")
    other.finish()
    harm(recording)
    before = sorted(os.listdir(recording))
    row = row_of(tmp_path)
    assert (row["state"], str(row["reason"]).split(":")[0]) == ("refused", reason)
    assert sorted(os.listdir(recording)) == before, "it is left as it is"
    assert row_of(tmp_path, "flight-2")["state"] == "ready"


def test_a_link_in_the_place_of_a_recording_is_not_followed(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "landing" / "flight-9").symlink_to(recording)
    assert row_of(tmp_path, "flight-9")["state"] == "refused"


def test_a_name_that_is_none_is_printed_harmlessly(tmp_path: Path) -> None:
    (tmp_path / "landing" / "a\n\x1b[31mb").mkdir(parents=True)
    (row,) = inspect_spool(str(tmp_path))
    assert row["state"] == "refused"
    assert str(row["id"]).isprintable()


def test_a_link_in_the_place_of_the_spool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "landing").symlink_to("/etc")
    with pytest.raises(LandingSpoolError, match="no folder"):
        inspect_spool(str(tmp_path))


def test_collecting_wants_the_mark_and_the_mark_wants_the_content(recording: Path, tmp_path: Path) -> None:
    root, content_id = str(tmp_path), str(row_of(tmp_path)["content_id"])
    with pytest.raises(LandingSpoolError, match="not marked as accepted"):
        collect_recording(root, "flight-1", content_id)
    with pytest.raises(LandingSpoolError, match="no longer the one"):
        mark_accepted(root, "flight-1", "f" * 64, {})
    assert mark_accepted(root, "flight-1", content_id, {"run_id": "r"})
    assert not mark_accepted(root, "flight-1", content_id, {"run_id": "r"})
    assert row_of(tmp_path)["state"] == "accepted"
    assert collect_recording(root, "flight-1", content_id)
    assert os.listdir(tmp_path / "landing") == []
    assert not collect_recording(root, "flight-1", content_id)


def test_a_recording_that_changed_after_its_mark_stays(recording: Path, tmp_path: Path) -> None:
    root, content_id = str(tmp_path), str(row_of(tmp_path)["content_id"])
    mark_accepted(root, "flight-1", content_id, {})
    (recording / "MANIFEST").write_text((recording / "MANIFEST").read_text().replace("17/10/20", "17/10/19"))
    assert row_of(tmp_path)["state"] == "ready", "the mark is of another content"
    with pytest.raises(LandingSpoolError, match="no longer the one"):
        collect_recording(root, "flight-1", content_id)


class Cut(BaseException):
    """The power goes: nothing after this is done, and no clean-up either."""


def cut(*_args: object, **_kwargs: object) -> None:
    raise Cut


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_power_that_goes_at_the_mark_leaves_the_recording(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    root, content_id = str(tmp_path), str(row_of(tmp_path)["content_id"])
    with monkeypatch.context() as patched:
        patched.setattr(os, step, cut)
        patched.setattr(os, "unlink", lambda _path: None)
        with pytest.raises(Cut):
            mark_accepted(root, "flight-1", content_id, {})
    assert row_of(tmp_path)["state"] == "ready"
    with pytest.raises(LandingSpoolError, match="not marked as accepted"):
        collect_recording(root, "flight-1", content_id)
    mark_accepted(root, "flight-1", content_id, {})
    assert collect_recording(root, "flight-1", content_id)
    assert os.listdir(tmp_path / "landing") == []


@pytest.mark.parametrize("step", ["rename", "fsync", "unlink", "rmdir"])
def test_power_that_goes_in_mid_collection_leaves_all_or_nothing(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    root, content_id = str(tmp_path), str(row_of(tmp_path)["content_id"])
    mark_accepted(root, "flight-1", content_id, {})
    with monkeypatch.context() as patched:
        patched.setattr(os, step, cut)
        with pytest.raises(Cut):
            collect_recording(root, "flight-1", content_id)
    rows = inspect_spool(root)
    assert [row["state"] for row in rows] in ([], ["accepted"])
    collect_recording(root, "flight-1", content_id)
    assert os.listdir(tmp_path / "landing") == []


@pytest.mark.parametrize("path", ["25/1/1.jpg", "1/2/0.jpg", "01/1/1.jpg", "17/01/1.jpg", "17/1/1.gif", "17/1/1.jpg\n"])
def test_what_names_no_tile(path: str) -> None:
    assert tile_of_path(path) is None


def test_a_landed_and_disarmed_vehicle(tmp_path: Path) -> None:
    write_ground_flag(str(tmp_path), landed=True, armed=False)
    assert check_ground_flag(str(tmp_path), max_age_s=15)["proof"] == "flag"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"armed": True}, "armed"),
        ({"landed": False}, "in-the-air"),
        ({"boot_id": "another"}, "flag-of-another-boot"),
        ({"boottime_s": 0.0}, "flag-stale"),
        ({"boottime_s": 1e12}, "flag-stale"),
        ({"boottime_s": float("nan")}, "flag-stale"),
        ({"boottime_s": "now"}, "flag-malformed"),
        ({"landed": 1}, "flag-malformed"),
        ({"armed": None}, "flag-malformed"),
        ({"schema_version": 2}, "flag-malformed"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    write_ground_flag(str(tmp_path), landed=True, armed=False)
    path = tmp_path / "landing" / "ground.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(VehicleNotLandedError) as caught:
        check_ground_flag(str(tmp_path), max_age_s=15)
    assert caught.value.details["reason"] == reason


def test_no_flag_a_cut_one_or_a_link_is_unknown(tmp_path: Path) -> None:
    for content, reason in ((None, "flag-missing"), ("{", "flag-malformed"), ("[" * 4000, "flag-malformed")):
        (tmp_path / "landing").mkdir(exist_ok=True)
        if content is not None:
            (tmp_path / "landing" / "ground.json").write_text(content)
        with pytest.raises(VehicleNotLandedError) as caught:
            check_ground_flag(str(tmp_path), max_age_s=15)
        assert caught.value.details["reason"] == reason
