# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets of a run over SSH, at the highest verbosity: on neither disk, in no log, in no process on either side."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._redact_encodings import secret_forms
from canaries import ProcessWatch, encodings, leaks_in
from companions import Companion

ROOT = Path(__file__).parents[2]
EVIL = ROOT / "tests" / "evil_builders" / "evil.py"
PLANTED = "/usr/local/bin/evil-builder"
SWEPT = ("/", "/tmp", "/run", "/dev/shm", "/home")


class Sweep:
    """Canaries of this test alone, and the search for them on both sides."""

    def __init__(self, companion: Companion, folder: Path) -> None:
        core = secrets.token_hex(8)
        self.canaries = (f"canary-{core}/with+signs=", f"canary'{core}\"42\\z$!")
        self.needles = {core.encode(), *secret_forms(self.canaries)}.union(*map(encodings, self.canaries))
        self.companion = companion
        self.folder = folder
        self.files = [folder / "token", folder / "key"]
        for path, canary in zip(self.files, self.canaries, strict=True):
            path.write_text(canary + "\n")
            path.chmod(0o600)
        line = next(line for line in EVIL.read_text().splitlines() if line.startswith("CANARIES = "))
        program = EVIL.read_text().replace(line, f"CANARIES = {self.canaries!r}")
        companion.exec_root(
            f"cat > {PLANTED} <<'END-OF-EVIL'\n#!/usr/bin/python3\n{program}\nEND-OF-EVIL\nchmod 755 {PLANTED}"
        )
        companion.exec_root("touch /var/before")

    def here(self) -> list[str]:
        return leaks_in(self.folder, allowed=self.files, needles=self.needles)

    def there(self) -> list[str]:
        """Files of the companion that were written since the beginning, the builder's program left out."""
        find = f"find {' '.join(SWEPT)} -xdev -type f -newer /var/before ! -path {PLANTED} -print0"
        listed = self.companion.exec_root(f"{find} | tr '\\0' '\\n'").stdout
        assert f"{self.companion.cache_root}/lock.json" in listed, "the search looks at the wrong place"
        done = subprocess.run(
            [
                "podman",
                "--runtime",
                "runc",
                "exec",
                self.companion.container,
                "/bin/sh",
                "-c",
                f"{find} | xargs -0 cat",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return [repr(needle) for needle in self.needles if needle in done.stdout]


@pytest.fixture
def sweep(companion: Companion) -> Iterator[Sweep]:
    with tempfile.TemporaryDirectory(prefix="sweep-") as name:  # ssh's own socket in there has room for few characters.
        for home in ("home", "tmp"):
            Path(name, home).mkdir()
        yield Sweep(companion, Path(name))


def run(sweep: Sweep, *words: str) -> tuple[subprocess.CompletedProcess[bytes], ProcessWatch]:
    """One run at the highest verbosity, with somebody looking at all processes meanwhile."""
    companion, folder = sweep.companion, sweep.folder
    inventory = folder / "companions.yml"
    inventory.write_text(json.dumps({"companions": {"hosts": {companion.name: companion.inventory_vars}}}))
    settings = {
        "cache_staging_root": folder / "staging",
        "tile_source": ROOT / "examples" / "imagery" / "bali.pmtiles",
        "inventory": inventory,
        "companion_known_hosts_file": companion.known_hosts_path,
        "flights_api_auth_token_file": sweep.files[0],
        "satellite_provider_api_key_file": sweep.files[1],
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18",
        "camera_agl_m": 60,
    }
    command = [str(Path(sys.executable).parent / "operator-tool"), "build-cache", "-vvvvv", "--format", "json"]
    command += ["--flight-file", str(ROOT / "examples" / "flights" / "bali-survey.plan"), *words]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    environment = {**os.environ, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    environment.pop("XDG_RUNTIME_DIR", None)
    with ProcessWatch(needles=sweep.needles) as watch:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=110,
        )
    return done, watch


@pytest.mark.timeout(300)
@pytest.mark.parametrize("builder", ["one that prints the secrets", "the shipped one"])
def test_no_secret_is_on_either_side_during_and_after_a_run(sweep: Sweep, builder: str) -> None:
    evil = builder != "the shipped one"
    words = ["--set", "c10_builder_command=" + shlex.join([PLANTED, "secrets"])] if evil else []
    done, watch = run(sweep, *words)
    assert done.stdout, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["outcome"] == ("failure" if evil else "success"), report["failure_message"]
    said = done.stdout + done.stderr
    assert b"<redacted>" in said if evil else b"ESTABLISH SSH CONNECTION" in said
    assert [needle for needle in sweep.needles if needle in said] == []
    assert watch.rounds > 3
    assert watch.leaks == set()
    assert sweep.here() == []
    assert sweep.there() == []


def test_the_sweep_of_both_sides_convicts_a_leak(sweep: Sweep) -> None:
    """Positive control: a canary in a file of the companion, in a process there, and in a file here."""
    companion = sweep.companion
    companion.exec_root(f"touch {companion.cache_root}/lock.json")
    assert sweep.here() == []
    assert sweep.there() == []
    for form in sorted(encodings(sweep.canaries[0])):
        (sweep.folder / "log").write_bytes(b"x" + form + b"x")
        assert sweep.here()
        companion.exec_root(f"printf %s {shlex.quote(form.decode())} > /tmp/payload")
        assert sweep.there()
    companion.exec_root(f"printf %s {shlex.quote(sweep.canaries[0])} > /tmp/token")
    with ProcessWatch(needles=sweep.needles) as watch:
        companion.exec_root('TOKEN="$(cat /tmp/token)" sleep 300 > /dev/null 2>&1 &')
        watch.wait_for_leak()
    assert [leak.startswith("environ of b'sleep") for leak in watch.leaks] == [True]
