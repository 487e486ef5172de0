# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The execution environment's definition, as ansible-builder takes it: all but the image, which needs a registry."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import hatch_build

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = ROOT / "execution-environment.yml"
BUILDER = Path(sys.executable).with_name("ansible-builder")


def create(folder: Path) -> subprocess.CompletedProcess[str]:
    """Write the build context of the definition in a folder."""
    return subprocess.run(
        [BUILDER, "create", "--verbosity", "2"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def checkout(tmp_path: Path, tarball: Path) -> Path:
    """A folder with the definition and the tarball, where the definition's own comment puts it."""
    shutil.copy(DEFINITION, tmp_path)
    (tmp_path / "dist").mkdir()
    shutil.copy(tarball, tmp_path / "dist")
    return tmp_path


def test_the_build_context_has_all_that_its_containerfile_copies(checkout: Path) -> None:
    done = create(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    context = checkout / "context"
    steps = (context / "Containerfile").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (_build\S*) ", steps, re.MULTILINE)
    assert any(name.endswith(".tar.gz") for name in copied)
    for name in copied:
        assert (context / name).exists(), name
    (target,) = re.findall(r"^COPY _build/collection/\S+ (\S+)$", steps, re.MULTILINE)
    requirements = yaml.safe_load((context / "_build/requirements.yml").read_text(encoding="utf-8"))
    assert [one["name"] for one in requirements["collections"]] == [target]


def test_a_definition_that_is_wrong_is_refused(checkout: Path) -> None:
    """Control: the test above would notice."""
    definition = checkout / DEFINITION.name
    definition.write_text(definition.read_text(encoding="utf-8").replace("additional_build_files", "additional_files"))
    done = create(checkout)
    assert done.returncode != 0
    assert "additional_files" in done.stdout + done.stderr


def test_the_collection_itself_says_what_it_needs(tmp_path: Path, tarball: Path) -> None:
    """Anybody's execution environment with the collection gets its packages, from the installed collection alone."""
    hatch_build.unpack_tarball(tarball, tmp_path / "ansible_collections" / "gps_denied" / "preflight")
    command = [str(BUILDER), "introspect", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    needs = yaml.safe_load(done.stdout)
    found = {re.split(r"[<>= ]", line, maxsplit=1)[0] for line in needs["python"]}
    lines = (ROOT / "requirements/runtime.in").read_text(encoding="utf-8").splitlines()
    wanted = {re.split(r"[<>=]", line, maxsplit=1)[0] for line in lines if line and not line.startswith("#")}
    assert found == wanted - {"ansible-core"}  # every execution environment brings its own
    system = {line.split()[0] for line in needs["system"]}
    assert system == {"openssh-clients", "openssh-client", "rsync"}
    excluded = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))["dependencies"]["exclude"]["python"]
    assert set(excluded) < wanted
