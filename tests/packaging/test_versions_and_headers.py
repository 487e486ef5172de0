# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One version, one list of dependencies, and a licence in every file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GPL_HEADER = """\
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""


def requirements(name: str) -> list[str]:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r"))]


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_collection_wheel_and_changelog_say_the_same_version() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    changes = yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))
    assert galaxy["version"] == PROJECT["version"]
    assert PROJECT["version"] in changes["releases"]


def test_the_wheel_depends_on_what_the_requirements_name() -> None:
    named = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["embedded"]
    assert sorted(named) == sorted(requirements("runtime.in"))


@pytest.mark.parametrize("name", ["runtime", "dev", "importer"])
def test_a_lock_pins_all_that_its_list_names(name: str) -> None:
    lock = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    wanted = {re.split(r"[<>=\[ ;]", line)[0].lower() for line in requirements(f"{name}.in")}
    assert wanted - pinned == set()
    assert re.findall(r"^[a-z0-9._-]+==[^\\]*$", lock, re.MULTILINE) == []  # a pin goes on with its hashes


def test_the_oldest_ansible_core_is_the_same_in_both_artefacts() -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    (core,) = (line for line in PROJECT["dependencies"] if line.startswith("ansible-core"))
    assert runtime["requires_ansible"].split(",")[0] == ">=2.19.0"
    assert core.split(",")[0] == "ansible-core>=2.19"


def test_what_comes_from_ansible_has_the_licence_header_that_ansible_wants() -> None:
    bare = [path for path in sources("plugins") if GPL_HEADER not in path.read_text(encoding="utf-8")[:400]]
    assert bare == []


def test_the_driver_and_the_builder_may_be_used_under_the_apache_licence() -> None:
    wanted = "SPDX-License-Identifier: Apache-2.0"
    assert [
        path for path in sources("src", "builder/src") if wanted not in path.read_text(encoding="utf-8")[:300]
    ] == []


def test_sanity_is_asked_to_ignore_nothing_but_licence_headers() -> None:
    for path in sorted((ROOT / "tests" / "sanity").glob("ignore-*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if "validate-modules:missing-gplv3-license" not in line] == []
