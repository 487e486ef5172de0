# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command in the documentation is run here or listed with the reason why not; links and settings are true."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gps_denied.preflight.plugins.module_utils._config import SECRET_NAMES, PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._provider_profiles import load_profile
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import parse_spec

import operator_tool

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "roles").glob("*/README.md"),
    ]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#:]+)(?:#[^)]*)?\)")
DEMO = "make demo"


@dataclass(frozen=True)
class Step:
    """A documented command; `cwd` counts from the work folder."""

    command: str
    says: str
    exit_code: int = 0
    cwd: str = "."


# In this order: the cache of `make demo`, which is run first, is the one that the others look at.
STEPS = (
    Step("ls var/companion/current/", "tiles.pmtiles"),
    Step(".venv/bin/c10-builder inspect var/companion/current/index", '"flight_id": "bali-survey"'),
    Step("""awk '{ print $1 "  " $3 }' MANIFEST | sha256sum --check --strict""", "OK", cwd="var/companion/current"),
    Step("sha256sum MANIFEST", "MANIFEST", cwd="var/companion/current"),
    Step(".venv/bin/operator-tool flight show examples/flights/bali-survey.plan", "tiles"),
    Step(".venv/bin/operator-tool flight show examples/flights/bali-inspection.waypoints", "tiles"),
    Step(".venv/bin/operator-tool flight show --format json examples/flights/bali-survey.plan", '"takeoff_origin"'),
    Step(".venv/bin/operator-tool flight show mission.plan", "tiles"),
    Step(".venv/bin/operator-tool plan --flight-file mission.plan --html plan.html", "plan for flight mission"),
    Step(".venv/bin/operator-tool completion bash", "complete"),
    Step(".venv/bin/operator-tool report last --html run.html --png run.png", "run.png"),
    Step(
        ".venv/bin/operator-tool plan --flight-file examples/flights/bali-survey.plan --html plan.html",
        "plan for flight bali-survey",
    ),
    Step(".venv/bin/operator-tool download --flight-file examples/flights/bali-survey.plan", "0 missing"),
    Step(
        ".venv/bin/operator-tool download --flight-file examples/flights/bali-inspection.waypoints"
        " --tile-source examples/imagery/bali.pmtiles --zoom 18-19",
        "0 missing",
    ),
    Step(
        ".venv/bin/operator-tool plan --flight-file examples/flights/bali-survey.plan --out plan.json",
        "plan for flight bali-survey",
    ),
    Step(".venv/bin/operator-tool doctor", "companion companion"),
    Step(".venv/bin/operator-tool doctor --workstation --format json", '"ok": true'),
    Step(".venv/bin/operator-tool store", "tiles in "),
    Step(".venv/bin/operator-tool store --compact", "given back"),
    Step(".venv/bin/operator-tool store --limit-gb 50", "0 tiles forgotten"),
    Step(".venv/bin/operator-tool build-cache --flight-id no-such-flight", "there is no flight no-such-flight", 90),
    Step(".venv/bin/operator-tool verify --flight-id bali-survey", "companion: GO"),
    Step(".venv/bin/operator-tool build-cache --flight-id bali-survey --format json", '"idempotent_no_op"'),
    Step(".venv/bin/ansible-playbook playbooks/build_cache.yml -e flight_id=bali-survey", "failed=0"),
    Step(
        ".venv/bin/operator-tool build-cache --flight-file examples/flights/bali-inspection.waypoints",
        "success: the cache is built",
    ),
)

COMPANION = "on a companion: run by the tests of the cache program and of the check at take-off"
INTERNET = "fetches wheels from the internet"
ENROL = "wants an SSH companion at that address"
IMAGE = "wants a base image from a registry; what needs none is run by the test of the execution environment"
PROVISION = "wants a bare companion: the scenario of provisioning runs it"
FLEET = "wants several companions: the scenario of a fleet runs it"
LANDING = "wants a provider and vehicles: run by the tests of the landing, and by their scenario"
HINT = "wants a vehicle in flight: run by the tests of position hints, and by their scenario"
OTHER_FLIGHT = "a command that is run here, for another flight"
NOT_RUN = {
    "operator-tool enrol --companion-host 192.168.4.21 --vehicle-id survey-03 --companion-user admin"
    " --signer ~/.ssh/gps-denied-grant.pub -K": "wants a companion: run by the tests of enrolment",
    "operator-tool upload-landing --inventory fleet.yml --upload-url https://tiles.example.org/v1": LANDING,
    "ansible-playbook gps_denied.preflight.upload_landing -i fleet.yml"
    " -e landing_upload_url=https://tiles.example.org/v1": LANDING,
    "operator-tool reloc --lat -8.4195 --lon 115.1872 --radius-m 300 --inventory fleet.yml"
    " --vehicle-id survey-01": HINT,
    "ansible-playbook gps_denied.preflight.reloc -i fleet.yml --limit survey-01 -e hint_confirmed=true"
    " -e lat_deg=-8.4195 -e lon_deg=115.1872 -e radius_m=300": HINT,
    "make test": "is what runs this",
    ".venv/bin/ansible-playbook playbooks/build_cache.yml -e flight_id=bali-inspection": OTHER_FLIGHT,
    ".venv/bin/ansible-playbook playbooks/build_cache.yml -e flight_id=bali-survey -e lock_timeout_s=60": "is run here"
    " without the setting",
    ".venv/bin/operator-tool build-cache --plan plan.json": "plans have tests of their own",
    ".venv/bin/operator-tool verify --flight-id another-flight": "NO-GO is held by the tests of the check at take-off",
    ".venv/bin/operator-tool build-cache --flight-file mission.plan": OTHER_FLIGHT,
    "operator-tool build-cache --flight-file mission.plan": OTHER_FLIGHT,
    "operator-tool verify --flight-id mission": OTHER_FLIGHT,
    "operator-tool build-cache --attach 20260608T060000Z-5f3a1c --inventory fleet.yml": FLEET,
    "operator-tool build-cache --flight-file mission.plan --inventory fleet.yml --build-lease-s 1800": FLEET,
    ".venv/bin/operator-tool build-cache --flight-file mission.plan --inventory fleet.yml": FLEET,
    ".venv/bin/operator-tool verify --flight-id mission --inventory fleet.yml": FLEET,
    "ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub": "on a companion's console",
    ".venv/bin/operator-tool enrol --companion-host 192.168.55.1 --vehicle-id survey-01 --fingerprint SHA256:…": ENROL,
    "/var/lib/gps-denied/bin/gps-denied-verify --flight bali-survey --route /run/mission.geojson": COMPANION,
    "gps-denied-verify --flight bali-survey --fast --valid-until /run/gps-denied/valid-until --hold-s 900": COMPANION,
    "gps-denied-cache rollback 00000006-9a77c1d0e5b2 --grant grant.json --signature grant.json.sig": COMPANION,
    "ssh-keygen -Y verify -f ../../trust/allowed_signers -I operator -n gps-denied-grant@v1"
    " -s grant.json.sig < grant.json": COMPANION,
    "ssh-keygen -lf old-key.pub | awk '{ print $2 }' >> /var/lib/gps-denied/trust/revoked_keys": COMPANION,
    "ssh-keygen -t ed25519 -f ~/.ssh/gps-denied-grant": "asks for a passphrase",
    "cat /run/gps-denied/valid-until": COMPANION,
    "operator-tool wheelhouse wheelhouse/aarch64-cp310 --builder builder --platform aarch64-cp310": INTERNET,
    "operator-tool enrol --companion-host 192.168.55.1 --vehicle-id survey-03 --fingerprint SHA256:…": ENROL,
    "operator-tool provision --wheelhouse wheelhouse/aarch64-cp310 --companion-host 192.168.55.1 --vehicle-id survey-03"
    " --companion-user pilot --ask-become-pass --authorized-keys ~/.ssh/gps-denied.pub": PROVISION,
    "ansible-galaxy collection build --output-path dist": "builds into the checkout: the tests of packaging build it",
    "ansible-builder build --tag gps-denied-preflight": IMAGE,
    "ansible-navigator run gps_denied.preflight.build_cache --mode stdout"
    " --execution-environment-image gps-denied-preflight"
    " --execution-environment-volume-mounts /srv/gps-denied:/srv/gps-denied:Z"
    " -i fleet.yml --forks 16 -e config_file=/srv/gps-denied/operator-tool.toml -e flight_id=survey-12": IMAGE,
    "ansible-playbook gps_denied.preflight.provision_companion -i fleet.yml -u pilot --ask-become-pass"
    " -e companion_provision_wheelhouse=wheelhouse/aarch64-cp310"
    """ -e '{"companion_provision_authorized_keys": ["ssh-ed25519 AAAA… operator"]}'""": PROVISION,
    "cd /var/lib/gps-denied/current": COMPANION,
    "echo $?": COMPANION,
    "install -m 600 /dev/stdin ~/.config/gps-denied/tiles.key": "waits for the key to be typed",
}


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for found, text in FENCE.findall(page.read_text("utf-8")):
            if found == language:
                yield page, text


def documented_commands() -> dict[str, Path]:
    """Each command once, without comments, continued lines in one, with a page that has it."""
    lines = [(page, line[2:]) for page, line in _lines("console") if line.startswith("$ ")] + list(_lines("sh"))
    commands = ((page, re.sub(r"\s*#\s.*$", "", line).strip()) for page, line in lines)
    return {command: page for page, command in commands if command}


def _lines(language: str) -> Iterator[tuple[Path, str]]:
    for page, text in blocks(language):
        for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
            yield page, line


def environment(home: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GPS_DENIED_", "ANSIBLE_", "MAKE"))
    }
    return {**kept, "HOME": str(home), "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


def run_line(command: str, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a newcomer has after `make demo` in a clone, with a mission of their own; its caches are its own."""
    folder = tmp_path_factory.mktemp("docs") / "clone"
    folder.mkdir()
    for name in ("dev", "examples", "inventory", "playbooks", "plugins", "roles"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("Makefile", "ansible.cfg", "operator-tool.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copy(ROOT / "examples" / "flights" / "bali-survey.plan", folder / "mission.plan")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    # The environment is there: what is left of the target is its own command.
    done = run_line("make --old-file=.venv/runtime.stamp demo", folder, folder.parent)
    assert done.returncode == 0, done.stdout
    assert "success: the cache is built, verified and active" in done.stdout
    return folder


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.command)
def test_documented_command_does_what_the_page_says(step: Step, work: Path):
    done = run_line(step.command, work / step.cwd, work.parent)
    assert done.returncode == step.exit_code, done.stdout
    assert step.says in done.stdout
    assert "Traceback" not in done.stdout


def test_every_documented_command_is_run_or_listed():
    known = {DEMO, *(step.command for step in STEPS), *NOT_RUN}
    unknown = [
        f"{page.relative_to(ROOT)}: {command}"
        for command, page in documented_commands().items()
        if command not in known
    ]
    assert unknown == []


def test_no_list_names_a_command_that_no_page_has():
    assert sorted({DEMO, *(step.command for step in STEPS), *NOT_RUN} - set(documented_commands())) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    text = FENCE.sub("", page.read_text("utf-8"))
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []


def test_toml_in_the_pages_is_understood(tmp_path: Path):
    known = {item.name for item in fields(PreflightConfig)}
    found = 0
    for _page, text in blocks("toml"):
        values = tomllib.loads(text)
        found += 1
        assert not set(values) & set(SECRET_NAMES)
        if "kind" in values:
            assert parse_spec(values).id == values["id"]
        elif "extends" in values:
            (tmp_path / "profile.toml").write_text(text, "utf-8")
            assert load_profile(str(tmp_path / "profile.toml"))["kind"]
        else:
            assert sorted(set(values) - known) == []
    assert found


def test_python_in_the_pages_uses_what_is_public():
    imported = set()
    for page, text in blocks("python"):
        if "operator_tool" not in text:
            continue
        for node in ast.walk(ast.parse(text, filename=str(page))):
            if isinstance(node, ast.ImportFrom) and node.module == "operator_tool":
                imported |= {name.name for name in node.names}
    assert imported
    assert sorted(imported - set(operator_tool.__all__)) == []


def test_inventories_in_the_pages_have_companions():
    inventories: list[Any] = [yaml.safe_load(text) for page, text in blocks("yaml") if "hosts:\n" in text]
    inventories += [yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / "inventory").glob("*/hosts.yml")]
    assert inventories
    for inventory in inventories:
        if isinstance(inventory, dict):
            assert inventory["companions"]["hosts"]
