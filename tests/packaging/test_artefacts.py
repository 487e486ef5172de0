# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the tarball and in the wheel: the same collection, and nothing by accident."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTING = Path(__file__).with_name("golden") / "tarball.txt"
BELOW = "ansible_collections/gps_denied/preflight/"


def tarball_files(tarball: Path) -> dict[str, bytes]:
    files = {}
    with tarfile.open(tarball) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                files[member.name] = content.read()
    return files


def wheel_files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_tarball_holds_exactly_the_files_of_the_golden_listing(tarball: Path) -> None:
    found = sorted(tarball_files(tarball))
    wanted = LISTING.read_text(encoding="utf-8").split()
    new, gone = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    assert found == wanted, (
        f"new in the tarball: {new}; gone from it: {gone}. "
        "Where that is meant: python tools/stage_collection.py --update-listing"
    )


def test_the_tarball_needs_no_other_collection_and_says_its_licences(tarball: Path) -> None:
    info = json.loads(tarball_files(tarball)["MANIFEST.json"])["collection_info"]
    assert info["dependencies"] == {}
    assert info["license"] == ["GPL-3.0-or-later", "Apache-2.0"]


def test_every_file_of_the_tarball_has_the_checksum_that_it_lists(tarball: Path) -> None:
    files = tarball_files(tarball)
    listed = {
        entry["name"]: entry["chksum_sha256"]
        for entry in json.loads(files["FILES.json"])["files"]
        if entry["ftype"] == "file"
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert listed == {name: sums[name] for name in sums if name not in ("FILES.json", "MANIFEST.json")}


def test_the_wheel_carries_the_tarball_byte_for_byte(tarball: Path, wheel: Path) -> None:
    in_wheel = {name[len(BELOW) :]: data for name, data in wheel_files(wheel).items() if name.startswith(BELOW)}
    in_tarball = tarball_files(tarball)
    assert sorted(in_wheel) == sorted(in_tarball)
    assert [name for name in in_tarball if in_tarball[name] != in_wheel[name]] == []


def test_the_wheel_carries_the_driver_and_nothing_else(wheel: Path) -> None:
    rest = [name for name in wheel_files(wheel) if not name.startswith((BELOW, "gps_denied_preflight-"))]
    driver = [path for path in (ROOT / "src" / "operator_tool").rglob("*") if path.is_file()]
    wanted = [path.relative_to(ROOT / "src").as_posix() for path in driver if "__pycache__" not in path.parts]
    assert sorted(rest) == sorted(wanted)


def test_no_package_file_stands_above_the_collection(wheel: Path) -> None:
    # It would hide every other collection in the same site-packages.
    names = wheel_files(wheel)
    assert not {"ansible_collections/__init__.py", "ansible_collections/gps_denied/__init__.py"} & set(names)


def test_the_wheel_is_the_same_when_built_from_the_source_distribution(
    wheel: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    hatchling: list[Any] = [sys.executable, "-m", "hatchling", "build", "--directory", tmp_path]
    run([*hatchling, "--target", "sdist"], ROOT, {"HOME": str(tmp_path)})
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = (path for path in tmp_path.iterdir() if path.is_dir())
    run([*hatchling, "--target", "wheel"], tree, {"HOME": str(tmp_path)})
    again = wheel_files(next(tmp_path.glob("*.whl")))
    here = wheel_files(wheel)
    assert sorted(again) == sorted(here)
    assert [name for name in here if again[name] != here[name]] == []


@pytest.mark.parametrize("word", [".git", "__pycache__", ".pyc", "builder/", "src/operator_tool", "examples/"])
def test_the_collection_has_none_of_what_is_a_product_or_a_leftover(tarball: Path, word: str) -> None:
    assert [name for name in tarball_files(tarball) if word in name] == []
