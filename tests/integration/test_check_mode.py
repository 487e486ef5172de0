# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode of every module and action of the collection: nothing changes, and `changed` says what would."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tree_hash
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_lock import acquire_companion_lock
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from cache_samples import RUN_ID, activate_build, grant_for, make_build
from tree_hash import tree

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
MODULES = "ansible_collections.gps_denied.preflight.plugins.modules"
WORKSTATION = ("flight_resolve", "flight_area", "build_lock", "tile_download")
COMPANION = (
    "companion_examine",
    "companion_check",
    "companion_lock",
    "tile_sync",
    "c10_build",
    "cache_publish",
    "companion_release",
)
MAIN_JOB = ("run_begin", *WORKSTATION, *COMPANION, "cache_build_report")
ELSEWHERE = {
    "landing_check": "test_upload_landing.py",
    "landing_collect": "test_upload_landing.py",
    "landing_fetch": "test_upload_landing.py",
    "landing_report": "test_upload_landing.py",
    "landing_upload": "test_upload_landing.py",
    "reloc_hint": "test_reloc.py",
    "reloc_report": "test_reloc.py",
}
"""Actions that need a vehicle that has landed, or flies: the tests of that job hold its check mode."""


# ------------------------------------------------------------------------------ actions, in the order of the main job


def steps(hosts: str, names: tuple[str, ...], python: str) -> dict[str, Any]:
    """A play that takes each step in check mode first, between two looks at the disk, and then for good."""
    look = f"{{{{ lookup('ansible.builtin.pipe', '{python} {tree_hash.__file__} ' ~ place) }}}}"
    tasks: list[dict[str, Any]] = []
    for name in names:
        arguments = {"run_dir": "{{ hostvars['localhost'].begun.run.run_dir }}"}
        if name == "companion_examine":
            arguments = {"root": "{{ companion_cache_root }}"}
        if name == "flight_resolve":
            arguments["flight_file"] = str(ROOT / "examples" / "flights" / "bali-survey.plan")
        tasks += [
            {"ansible.builtin.set_fact": {"before": look}},
            {f"gps_denied.preflight.{name}": arguments, "check_mode": True, "register": "checked"},
            {"ansible.builtin.set_fact": {"after": look}},
            {f"gps_denied.preflight.{name}": arguments, "register": "done"},
            {
                "ansible.builtin.debug": {
                    "msg": "STEP {{ {'name': '" + name + "', 'same': before == after, 'checked': checked.changed, "
                    "'done': done.changed} | to_json }}"
                }
            },
        ]
    return {"hosts": hosts, "gather_facts": False, "tasks": tasks}


@pytest.fixture(scope="module")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What was seen of each step of the main job."""
    folder = tmp_path_factory.mktemp("check-mode")
    place = folder / "place"
    (place / "companion").mkdir(parents=True)
    (place / "staging").mkdir()
    begin: dict[str, Any] = {"gps_denied.preflight.run_begin": {"companions": ["companion"]}, "register": "begun"}
    first = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [begin]}
    look = sys.executable
    plays = [first, steps("localhost", WORKSTATION, look), steps("companions", COMPANION, look)]
    plays.append(steps("localhost", ("cache_build_report",), look))
    (folder / "play.yml").write_text(yaml.safe_dump(plays, width=10_000), encoding="utf-8")
    variables = {
        "place": str(place),
        "cache_staging_root": str(place / "staging"),
        "companion_cache_root": str(place / "companion"),
        "tile_source": str(ROOT / "examples" / "imagery" / "bali.pmtiles"),
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18-19",
        "camera_agl_m": 60,
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "play.yml", "-e", json.dumps(variables)]
    command += ["-i", str(ROOT / "inventory" / "embedded" / "hosts.yml")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "GPS_DENIED_"))}
    environment.update(ANSIBLE_COLLECTIONS_PATH=str(ROOT / "dev"), PYTHONPATH=str(ROOT / "dev"), ANSIBLE_NOCOLOR="1")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = {}
    for line in done.stdout.splitlines():
        if '"msg": "STEP ' in line or '"msg": {' in line:
            said = json.loads("{" + line.strip().rstrip(",") + "}")["msg"].removeprefix("STEP ")
            seen = json.loads(said)
            found[seen["name"]] = seen
    return found


@pytest.mark.parametrize("name", [*WORKSTATION, *COMPANION, "cache_build_report"])
def test_a_step_in_check_mode_changes_nothing_and_says_what_it_would(
    main_job: dict[str, dict[str, Any]], name: str
) -> None:
    seen = main_job[name]
    assert seen["same"], f"{name} changed something in check mode"
    assert seen["checked"] == seen["done"], f"{name} says changed={seen['checked']}, and it was {seen['done']}"


# ------------------------------------------------------------------------------------------ modules on the companion


def call(root: CacheRoot, capsys: pytest.CaptureFixture[str], name: str, **options: Any) -> dict[str, Any]:
    module = importlib.import_module(f"{MODULES}.{name}")
    with patch_module_args({"root": root.path, **options}), pytest.raises(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cache_info", False),
        ("cache_verify", False),
        ("cache_lock acquired", True),
        ("cache_lock again", False),
        ("cache_lock renewed", True),
        ("cache_lock released", True),
        ("cache_seal", None),
        ("cache_activate", None),
    ],
)
def test_a_module_in_check_mode_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, changes: bool | None
) -> None:
    root = CacheRoot(str(tmp_path / "cache"))
    done = activate_build(root, seed=1)
    module, _blank, state = name.partition(" ")
    options: dict[str, Any] = {}
    if module == "cache_lock":
        options = {"run_id": RUN_ID, "holder": "ann"}
        if state != "acquired":
            options["token"] = acquire_companion_lock(root.path, RUN_ID, "ann")
        if state in ("renewed", "released"):
            options["state"] = state
    if module == "cache_seal":
        options = {"source": make_build(root, seed=2), "run_id": RUN_ID}
    if module == "cache_activate":
        text = grant_for(done.content_id, 2).to_text()
        options = {"rollback_to": done.generation, "grant": text, "run_id": RUN_ID}
    before = tree(tmp_path)
    checked = call(root, capsys, module, **options, _ansible_check_mode=True)
    assert tree(tmp_path) == before
    if changes is None:
        assert checked["skipped"]
        assert call(root, capsys, module, **options)["changed"]
        return
    assert checked["changed"] == changes
    assert call(root, capsys, module, **options)["changed"] == changes


def test_every_plugin_is_here_or_named() -> None:
    actions = {path.stem for path in (ROOT / "plugins" / "action").glob("*.py")}
    assert actions == set(MAIN_JOB) | set(ELSEWHERE)
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")} - actions
    assert modules == {"cache_activate", "cache_info", "cache_lock", "cache_seal", "cache_verify", "landing_spool"}
    for name, test in ELSEWHERE.items():
        assert "check" in (ROOT / "tests" / "integration" / test).read_text(encoding="utf-8"), name


def test_diff_mode_is_declared_where_it_is_not_there() -> None:
    """No plugin has a difference to show: files on the companion are binary and addressed by their content."""
    fragments = ROOT / "plugins" / "doc_fragments"
    for path in fragments.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "diff_mode" not in text or "support: none" in text.partition("diff_mode")[2]
    for path in (ROOT / "plugins" / "modules").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "extends_documentation_fragment" in text
        assert '"diff"' not in text
