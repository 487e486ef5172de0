# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheel in an empty folder, with a clean environment: everything is found, and from there."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Installed:
    """An environment that holds the wheel beside the dependencies of this one, but not this checkout."""

    def __init__(self, folder: Path, run: Callable[..., str]) -> None:
        self.site = folder / "site"
        self.cwd = folder / "empty"
        self._python = folder / "venv" / "bin" / "python"
        self._run = run
        self.cwd.mkdir()

    def python(self, *arguments: str) -> str:
        # The dependencies' folder as a plain path: their .pth files, an editable install's among them, are not read.
        path = f"{self.site}:{sysconfig.get_path('purelib')}"
        env = {"PYTHONPATH": path, "PATH": f"{self._python.parent}:/usr/bin:/bin"}
        return self._run([self._python, *arguments], self.cwd, env)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path, run: Callable[..., str]) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    run([*pip, "--target", folder / "site", wheel], folder, {})
    return Installed(folder, run)


def test_the_wheel_brings_the_manual_page_and_what_the_page_of_a_run_is_made_of(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert any(name.endswith(".data/data/share/man/man1/operator-tool.1") for name in names)
    parts = {"leaflet.js", "leaflet.css", "LICENSE.leaflet.txt", "page.js", "page.css"}
    assert {f"operator_tool/page/{part}" for part in parts} <= names


def test_ansible_galaxy_lists_the_collection_with_its_version(installed: Installed) -> None:
    listed = json.loads(installed.python("-m", "ansible", "galaxy", "collection", "list", "--format", "json"))
    places = {
        folder: found["gps_denied.preflight"] for folder, found in listed.items() if "gps_denied.preflight" in found
    }
    assert places == {str(installed.site / "ansible_collections"): {"version": "0.1.0"}}


def test_ansible_doc_shows_a_module_of_the_collection(installed: Installed) -> None:
    shown = json.loads(installed.python("-m", "ansible", "doc", "--json", "gps_denied.preflight.flight_resolve"))
    assert shown["gps_denied.preflight.flight_resolve"]["doc"]["collection"] == "gps_denied.preflight"


def test_the_playbook_is_found_by_its_full_name(installed: Installed) -> None:
    shown = installed.python("-m", "ansible", "playbook", "gps_denied.preflight.build_cache", "--syntax-check")
    assert str(installed.site / "ansible_collections/gps_denied/preflight/playbooks/build_cache.yml") in shown


def test_the_driver_imports_from_the_wheel_and_finds_its_domain_there(installed: Installed) -> None:
    code = (
        "import operator_tool, importlib, json;"
        "errors = importlib.import_module('ansible_collections.gps_denied.preflight.plugins.module_utils._errors');"
        "print(json.dumps([operator_tool.__file__, errors.__file__]))"
    )
    places = [Path(place) for place in json.loads(installed.python("-c", code))]
    assert [installed.site in place.parents for place in places] == [True, True]


def test_the_console_script_prints_its_help(installed: Installed) -> None:
    assert "build-cache" in installed.python(str(installed.site / "bin" / "operator-tool"), "--help")
