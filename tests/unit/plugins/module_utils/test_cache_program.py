# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation import activate
from ansible_collections.gps_denied.preflight.plugins.module_utils._activation_state import CacheRoot
from ansible_collections.gps_denied.preflight.plugins.module_utils._cache_program import (
    build_cache_program,
    build_verify_program,
    install_programs,
)
from cache_samples import RUN_ID, Signer, activate_build, grant_for, make_build, seal_only


def _works(python: str) -> bool:
    """Whether there is an interpreter behind the name; version managers leave launchers without one."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


FOUND = {shutil.which(f"python3.{minor}") for minor in range(8, 15)}
PYTHONS = sorted({sys.executable, *(python for python in FOUND if python and _works(python))})


@pytest.fixture
def root(tmp_path: Path) -> CacheRoot:
    found = CacheRoot(str(tmp_path / "cache"))
    found.ensure()
    install_programs(found.path)
    return found


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd="/", timeout=60)


def program(root: CacheRoot, name: str, *words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return run(python, "-I", root.join("bin", name), "--root", root.path, *words)


def both(root: CacheRoot) -> tuple[str, str]:
    """What the two verifiers say; GO or NO-GO, and the details for a failing test."""
    python = program(root, "gps-denied-verify")
    shell = run("sh", root.join("bin", "gps-denied-verify.sh"), root.path)
    assert "Traceback" not in python.stderr
    assert (python.returncode == 0) == python.stdout.startswith("GO ")
    assert (shell.returncode == 0) == shell.stdout.startswith("GO "), shell.stderr
    return python.stdout, shell.stdout


def test_the_programs_have_the_same_bytes_at_every_build_and_are_written_once(root: CacheRoot) -> None:
    assert build_verify_program() == build_verify_program()
    assert build_cache_program() == build_cache_program()
    assert install_programs(root.path) == []
    verifier = Path(root.join("bin", "gps-denied-verify"))
    assert verifier.read_bytes() == build_verify_program()
    verifier.write_bytes(b"#!/bin/true\n")
    assert install_programs(root.path) == [str(verifier)]
    assert os.access(verifier, os.X_OK)


def test_they_import_nothing_beyond_the_standard_library(root: CacheRoot) -> None:
    activate_build(root, seed=1)
    for name in ("gps-denied-verify", "gps-denied-cache"):
        words = [] if name == "gps-denied-verify" else ["info"]
        done = run(sys.executable, "-I", "-S", "-W", "error", root.join("bin", name), "--root", root.path, *words)
        assert (done.returncode, done.stderr) == (0, "")


def test_by_hand_from_the_seal_to_the_rollback(root: CacheRoot, tmp_path: Path) -> None:
    first = activate_build(root, seed=1)
    source = make_build(root, seed=2)
    sealed = program(root, "gps-denied-cache", "seal", source)
    assert sealed.returncode == 0
    content_id = sealed.stdout.split('"content_id": "')[1][:64]
    grant = tmp_path / "grant.json"
    grant.write_text(grant_for(content_id, 2).to_text(), encoding="utf-8")
    done = program(root, "gps-denied-cache", "activate", source, "--grant", str(grant))
    assert (done.returncode, done.stdout) == (0, f"ACK 00000002-{content_id[:12]}\n")
    refused = program(root, "gps-denied-cache", "rollback", first.generation, "--grant", str(grant))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("REFUSED ")
    grant.write_text(grant_for(first.content_id, 3).to_text(), encoding="utf-8")
    done = program(root, "gps-denied-cache", "rollback", first.generation, "--grant", str(grant))
    assert (done.returncode, done.stdout) == (0, f"ACK 00000003-{first.content_id[:12]}\n")
    assert program(root, "gps-denied-cache", "collect-garbage").stdout == "nothing to remove\n"
    missing = program(root, "gps-denied-cache", "activate", source, "--grant", "/nowhere")
    assert missing.stderr == "REFUSED grant-missing: /nowhere cannot be read: No such file or directory\n"


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[CacheRoot], None]:
    def work(root: CacheRoot) -> None:
        path = Path(root.join("current"), name)
        path.chmod(0o644)
        path.write_bytes(change(path.read_bytes()))

    return work


def in_trust(name: str, content: str | None) -> Callable[[CacheRoot], None]:
    def work(root: CacheRoot) -> None:
        path = Path(root.trust_dir, name)
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content, encoding="ascii")

    return work


def in_current(work: Callable[[Path], object]) -> Callable[[CacheRoot], None]:
    def on_root(root: CacheRoot) -> None:
        work(Path(root.join("current")))

    return on_root


def second_name(root: CacheRoot) -> None:
    os.link(root.join("current", "request.json"), root.join("second"))


def turned_back(root: CacheRoot) -> None:
    os.unlink(root.join("current"))
    os.rename(root.join("previous"), root.join("current"))


FAULTS: dict[str, Callable[[CacheRoot], None]] = {
    "bit flip": edit("tiles.pmtiles", lambda old: old[:-1] + bytes([old[-1] ^ 1])),
    "cut": edit("index/graph.bin", lambda old: old[:-1]),
    "longer": edit("index/graph.bin", lambda old: old + b"x"),
    "missing": in_current(lambda folder: (folder / "index" / "places.bin").unlink()),
    "extra": in_current(lambda folder: (folder / "extra").write_bytes(b"x")),
    "extra hidden": in_current(lambda folder: (folder / ".extra").write_bytes(b"x")),
    "empty folder": in_current(lambda folder: (folder / "empty").mkdir()),
    "symlink": in_current(lambda folder: (folder / "link").symlink_to("tiles.pmtiles")),
    "fifo": in_current(lambda folder: os.mkfifo(folder / "fifo")),
    "second name": second_name,
    "manifest line swapped": edit("MANIFEST", lambda old: b"".join(reversed(old.splitlines(keepends=True)))),
    "manifest line doubled": edit("MANIFEST", lambda old: old + old.splitlines(keepends=True)[-1]),
    "manifest cut": edit("MANIFEST", lambda old: old[:-1]),
    "manifest empty": edit("MANIFEST", lambda _old: b""),
    "manifest climbs": edit("MANIFEST", lambda old: b"0" * 64 + b" 1 ../x\n" + old),
    "manifest gone": in_current(lambda folder: (folder / "MANIFEST").unlink()),
    "grant for other content": edit("grant.json", lambda old: old.replace(b'"content_id": "', b'"content_id": "0')),
    "grant edited": edit("grant.json", lambda old: old.replace(b"flight-01", b"flight-02")),
    "grant gone": in_current(lambda folder: (folder / "grant.json").unlink()),
    "signature gone": in_current(lambda folder: (folder / "grant.json.sig").unlink()),
    "signature empty": edit("grant.json.sig", lambda _old: b""),
    "signature edited": edit("grant.json.sig", lambda old: old.replace(b"A", b"B", 3)),
    "signers gone": in_trust("allowed_signers", None),
    "signers empty": in_trust("allowed_signers", ""),
    "vehicle renamed": in_trust("vehicle_id", "vehicle-02\n"),
    "vehicle nameless": in_trust("vehicle_id", None),
    "turned back": turned_back,
    "current gone": lambda root: os.unlink(root.join("current")),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[CacheRoot, Signer]:
    folder = tmp_path_factory.mktemp("template")
    signer = Signer.create(folder)
    found = CacheRoot(str(folder / "cache"))
    found.ensure()
    signer.enrol(found)
    install_programs(found.path)
    for seed in (1, 2):
        activate_build(found, seed=seed, signer=signer)
    return found, signer


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_two_independent_verifiers_agree_that_this_is_no_go(
    template: tuple[CacheRoot, Signer], tmp_path: Path, fault: str
) -> None:
    root = CacheRoot(str(tmp_path / "cache"))
    shutil.copytree(template[0].path, root.path, symlinks=True)
    FAULTS[fault](root)
    python, shell = both(root)
    assert python.startswith("NO-GO "), python
    assert shell.startswith("NO-GO "), shell


def test_two_independent_verifiers_agree_that_this_is_go(template: tuple[CacheRoot, Signer], tmp_path: Path) -> None:
    root, signer = template
    python, shell = both(root)
    assert python.startswith("GO 00000002-")
    assert shell.startswith("GO 00000002-")
    revoked = CacheRoot(str(tmp_path / "cache"))
    shutil.copytree(root.path, revoked.path, symlinks=True)
    Path(revoked.trust_dir, "revoked_keys").write_text(signer.public + "\n", encoding="ascii")
    python, shell = both(revoked)
    assert python.startswith("NO-GO signer-revoked")
    assert shell.startswith("NO-GO signature refused")
    plain = CacheRoot(str(tmp_path / "plain"))
    plain.ensure()
    install_programs(plain.path)
    activate_build(plain, seed=1)
    assert [said[:3] for said in both(plain)] == ["GO ", "GO "]


@pytest.mark.parametrize("python", PYTHONS)
def test_it_answers_on_every_python_here(template: tuple[CacheRoot, Signer], python: str) -> None:
    done = program(template[0], "gps-denied-verify", python=python)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_large_cache_is_verified_in_less_than_64_megabytes(root: CacheRoot) -> None:
    source = Path(make_build(root, seed=1, archive=os.urandom(1 << 20) * 100))
    for number in range(1500):
        (source / "index" / f"part-{number:05}.bin").write_bytes(b"%d" % number)
    content_id, counter = seal_only(root, str(source))
    text = grant_for(content_id, counter).to_text().encode()
    activate(root, sealed_path=str(source), run_id=RUN_ID, token=None, grant_text=text)
    # The peak of this very process image: what wait4 tells counts the parent's memory before exec, too.
    script = (
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as exc:\n    print(exc.code)\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    for mode in ([], ["--fast"]):
        done = run(
            sys.executable, "-I", "-c", script, root.join("bin", "gps-denied-verify"), "--root", root.path, *mode
        )
        answer, code, peak_kib = done.stdout.splitlines()
        assert (answer[:3], code) == ("GO ", "0")
        assert int(peak_kib) < 64 * 1024
