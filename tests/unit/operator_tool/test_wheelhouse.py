# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""The offline wheelhouse: real pip over a folder of small wheels, without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import DownloadError, SettingsError

from operator_tool._wheelhouse import TargetPlatform, make_wheelhouse

DEBIAN_12 = TargetPlatform.parse("x86_64-cp311")


def make_wheel(folder: Path, name: str, version: str, *, tag: str = "py3-none-any", metadata: str = "") -> Path:
    """A wheel with one module that says its version."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}\n")
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"])
    wheel = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip sees."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.mark.parametrize(
    ("text", "machine", "python", "glibc_minor"),
    [
        ("x86_64-cp311", "x86_64", (3, 11), 36),
        ("aarch64-cp38", "aarch64", (3, 8), 31),
        ("aarch64-cp310", "aarch64", (3, 10), 35),
        ("x86_64-cp312-glibc2.28", "x86_64", (3, 12), 28),
    ],
)
def test_platforms(text: str, machine: str, python: tuple[int, int], glibc_minor: int) -> None:
    assert TargetPlatform.parse(text) == TargetPlatform(machine=machine, python=python, glibc_minor=glibc_minor)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jetson", "platform 'jetson' is not understood"),
        ("armv7l-cp311", "platform 'armv7l-cp311' is not understood"),
        ("x86_64-cp37", "companions with Python 3.7 are not supported, only 3.8 to 3.13"),
        ("aarch64-cp38-glibc2.12", "no wheels exist for glibc 2.12 on aarch64"),
    ],
)
def test_platforms_that_nobody_can_serve(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TargetPlatform.parse(text)


def test_platform_tags_go_from_the_newest_to_the_oldest_that_runs() -> None:
    tags = TargetPlatform.parse("aarch64-cp38").wheel_platforms
    assert tags[0] == "manylinux_2_31_aarch64"
    assert tags[-3:] == ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64")
    assert not any("2_36" in tag for tag in tags)


def test_what_is_made_installs_offline_and_by_hash(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "engine", "2.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    make_wheel(index, "engine", "2.0", tag="cp311-cp311-manylinux_2_28_aarch64")
    make_wheel(index, "helper", "1.5")
    builder = make_wheel(
        tmp_path, "some-builder", "0.1.0", metadata="Requires-Dist: engine>=1\nRequires-Dist: helper\n"
    )
    made = make_wheelhouse(builder=builder, target=tmp_path / "wheelhouse", platform=DEBIAN_12)
    names = sorted(path.name for path in made.path.iterdir())
    assert names == [
        "engine-2.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "helper-1.5-py3-none-any.whl",
        "requirements.txt",
        "some_builder-0.1.0-py3-none-any.whl",
        "wheelhouse.json",
    ]
    requirements = (made.path / "requirements.txt").read_bytes()
    assert made.identity == hashlib.sha256(requirements).hexdigest()
    assert json.loads((made.path / "wheelhouse.json").read_text()) == {
        "schema_version": 1,
        "machine": "x86_64",
        "python_version": "3.11",
        "glibc": "2.36",
        "identity": made.identity,
        "builder_version": "0.1.0",
        "wheel_count": 3,
        "size_bytes": made.size_bytes,
    }
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--find-links", str(made.path), "--require-hashes", "-r", str(made.path / "requirements.txt")]
    command += ["--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--only-binary=:all:"]
    command += ["--upgrade", "--target", str(tmp_path / "to")]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    assert (tmp_path / "to" / "engine.py").read_text() == "VERSION = '2.0'\n"
    with (made.path / "helper-1.5-py3-none-any.whl").open("ab") as file:
        file.write(b"tampered")
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr


def test_markers_are_judged_for_the_companion_and_not_for_this_python(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "old-only", "1.0")
    make_wheel(index, "arm-only", "1.0")
    make_wheel(index, "part", "1.0")
    metadata = (
        "Provides-Extra: extra\n"
        'Requires-Dist: old-only; python_version < "3.9"\n'
        'Requires-Dist: arm-only; platform_machine == "aarch64"\n'
        'Requires-Dist: part; extra == "extra"\n'
        'Requires-Dist: nowhere; sys_platform == "win32"\n'
    )
    builder = make_wheel(tmp_path, "some-builder", "0.1.0", metadata=metadata)

    def wheels(platform: str, *extras: str) -> list[str]:
        made = make_wheelhouse(
            builder=builder, target=tmp_path / "wheelhouse", platform=TargetPlatform.parse(platform), extras=extras
        )
        return sorted(path.name.partition("-")[0] for path in made.path.glob("*.whl"))

    assert wheels("x86_64-cp311") == ["some_builder"]
    assert wheels("aarch64-cp38") == ["arm_only", "old_only", "some_builder"]
    assert wheels("x86_64-cp311", "extra") == ["part", "some_builder"]
    with pytest.raises(SettingsError, match="has no optional part gpu"):
        wheels("x86_64-cp311", "gpu")


def test_constraints_hold(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "helper", "1.0")
    make_wheel(index, "helper", "2.0")
    builder = make_wheel(tmp_path, "some-builder", "0.1.0", metadata="Requires-Dist: helper\n")
    constraints = ["helper==1.0 ; python_version < '3.12'", "helper==2.0 ; python_version >= '3.12'"]
    made = make_wheelhouse(builder=builder, target=tmp_path / "wheelhouse", platform=DEBIAN_12, constraints=constraints)
    assert (made.path / "helper-1.0-py3-none-any.whl").is_file()


def test_a_failure_leaves_the_wheelhouse_of_before_and_nothing_else(index: Path, tmp_path: Path) -> None:
    target = tmp_path / "wheels" / "house"
    good = make_wheel(tmp_path, "some-builder", "0.1.0")
    before = make_wheelhouse(builder=good, target=target, platform=DEBIAN_12)
    bad = make_wheel(tmp_path, "some-builder", "0.2.0", metadata="Requires-Dist: nowhere\n")
    with pytest.raises(DownloadError, match=r"^pip could not download wheels for x86_64-cp311-glibc2.36: .*nowhere"):
        make_wheelhouse(builder=bad, target=target, platform=DEBIAN_12)
    assert [path.name for path in target.parent.iterdir()] == ["house"]
    assert json.loads((target / "wheelhouse.json").read_text())["identity"] == before.identity
    newer = make_wheelhouse(builder=make_wheel(tmp_path, "some-builder", "0.3.0"), target=target, platform=DEBIAN_12)
    assert newer.builder_version == "0.3.0"
    assert [path.name for path in target.glob("*.whl")] == ["some_builder-0.3.0-py3-none-any.whl"]


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("miaow")
    builder = make_wheel(tmp_path, "some-builder", "0.1.0")
    with pytest.raises(SettingsError, match="exists and is no wheelhouse"):
        make_wheelhouse(builder=builder, target=tmp_path / "photos", platform=DEBIAN_12)
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "miaow"


@pytest.mark.parametrize("name", ["missing", "broken.whl", "folder"])
def test_what_is_no_builder(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken.whl").write_bytes(b"PK\x03\x04 not a wheel")
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        SettingsError, match=r"is neither the builder's wheel nor its source folder|not a readable wheel"
    ):
        make_wheelhouse(builder=tmp_path / name, target=tmp_path / "wheelhouse", platform=DEBIAN_12)
    assert not (tmp_path / "wheelhouse").exists()
