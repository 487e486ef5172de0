# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""The provisioning playbook on a bare companion, with small builders: refusals, a newer builder, a tampered one."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from companions import Companion, CompanionContainerError, provision

from operator_tool._cli import cli
from operator_tool._wheelhouse import TargetPlatform, Wheelhouse, make_wheelhouse

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def bare(make_companion: Callable[..., Companion]) -> Companion:
    return make_companion(bare=True)


@pytest.fixture
def wheelhouse_of(tmp_path: Path) -> Callable[[str], Wheelhouse]:
    """A wheelhouse of a builder that only says its version."""

    def make(version: str) -> Wheelhouse:
        info = f"c10_builder_stub-{version}.dist-info"
        wheel = tmp_path / f"c10_builder_stub-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("stub.py", f"def main():\n    print('builder {version}')\n")
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: c10-builder-stub\nVersion: {version}\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\nc10-builder = stub:main\n")
            archive.writestr(f"{info}/RECORD", "")
        target = tmp_path / f"wheelhouse-{version}"
        return make_wheelhouse(builder=wheel, target=target, platform=TargetPlatform.parse("x86_64-cp311"))

    return make


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("machine", "aarch64", r"is for aarch64 with\s+Python 3.11"),
        ("python_version", "3.8", r"operator-tool wheelhouse --platform x86_64-cp311-glibc2.36"),
        ("size_bytes", 10**13, r"free at\s+/opt/gps-denied, and the builder needs\s+50000000 MB"),
    ],
)
def test_a_wheelhouse_that_does_not_fit_changes_nothing(
    bare: Companion, wheelhouse_of: Callable[[str], Wheelhouse], tmp_path: Path, key: str, value: object, message: str
) -> None:
    house = wheelhouse_of("1.0")
    description = json.loads((house.path / "wheelhouse.json").read_text())
    (house.path / "wheelhouse.json").write_text(json.dumps({**description, key: value}))
    with pytest.raises(CompanionContainerError, match=message):
        provision([bare], wheelhouse=house.path, folder=tmp_path)
    assert bare.run("ls -d /opt/gps-denied /var/lib/gps-denied /home/gps-denied", check=False).stdout == ""


def test_the_command_provisions_and_refuses_in_words(
    bare: Companion, wheelhouse_of: Callable[[str], Wheelhouse], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    where = ["--companion-host", bare.address, "--vehicle-id", bare.name, "--companion-user", bare.user]
    where += ["--companion-key-file", str(bare.private_key_path), "--known-hosts-file", str(bare.known_hosts_path)]
    house = wheelhouse_of("1.0")
    refused = CliRunner().invoke(cli, ["provision", "--wheelhouse", str(tmp_path / "none"), *where])
    assert (refused.exit_code, "Traceback" in refused.output) == (2, False), refused.output
    dry = CliRunner().invoke(cli, ["provision", "--wheelhouse", str(house.path), "--check", "--format", "json", *where])
    assert dry.exit_code == 0, dry.output
    assert json.loads(dry.stdout) == {"check": True, "companions": [bare.name]}
    assert bare.run("ls -d /opt/gps-denied", check=False).stdout == ""
    done = CliRunner().invoke(cli, ["provision", "--wheelhouse", str(house.path), *where])
    assert done.exit_code == 0, done.output
    assert bare.run("c10-builder").stdout == "builder 1.0\n"
    description = json.loads((house.path / "wheelhouse.json").read_text())
    (house.path / "wheelhouse.json").write_text(json.dumps({**description, "machine": "aarch64"}))
    unfit = CliRunner().invoke(cli, ["provision", "--wheelhouse", str(house.path), *where])
    assert (unfit.exit_code, "is for aarch64" in unfit.output) == (30, True), unfit.output


def test_a_newer_builder_takes_the_place_of_the_old_and_a_tampered_one_does_not(
    bare: Companion, wheelhouse_of: Callable[[str], Wheelhouse], tmp_path: Path
) -> None:
    first, second = wheelhouse_of("1.0"), wheelhouse_of("2.0")
    provision([bare], wheelhouse=first.path, folder=tmp_path)
    assert bare.run("c10-builder").stdout == "builder 1.0\n"
    assert bare.run("ls /var/lib/systemd/linger", check=False).stdout == ""
    # As where libpam-systemd is installed: from then on the account's builds are units of its own manager.
    bare.exec_root("mkdir -p /usr/lib/machine/security && touch /usr/lib/machine/security/pam_systemd.so")

    tampered = tmp_path / "tampered"
    shutil.copytree(second.path, tampered)
    with next(tampered.glob("*.whl")).open("ab") as file:
        file.write(b"x")
    with pytest.raises(CompanionContainerError, match="DO NOT MATCH THE HASHES"):
        provision([bare], wheelhouse=tampered, folder=tmp_path)
    assert bare.run("c10-builder").stdout == "builder 1.0\n"

    said = provision([bare], wheelhouse=second.path, folder=tmp_path)
    assert "failed=0" in said
    assert bare.run("ls /var/lib/systemd/linger").stdout == "gps-denied\n"
    assert bare.run("c10-builder").stdout == "builder 2.0\n"
    assert bare.run("ls /opt/gps-denied /opt/gps-denied/builders").stdout.split() == [
        "/opt/gps-denied:",
        "builder",
        "builders",
        "/opt/gps-denied/builders:",
        second.identity[:12],
    ]
