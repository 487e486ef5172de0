#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates that code and the built collection pass before they leave the house.

    python tools/gates.py            every gate
    python tools/gates.py NAME…      these, in this order
    python tools/gates.py --list     what there is

They run side by side, one for each core. Each prints one line as it ends, and at the end the output of those that
failed. Exit status: 0 all passed, 1 one failed, 2 no such gate. The gates on the newest ansible-core need a Python
3.13, on the path or named in NEWEST_PYTHON; where there is none they say so, and fail only when asked for by name. The
tools are those beside the interpreter that runs this script; `galaxy-importer` and `newest` make environments of their
own under `.cache/`. Gates that judge the collection judge the built tarball, staged under `.cache/gates/`.
"""

from __future__ import annotations

import ast
import atexit
import configparser
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for the neighbour, however this file is run

import stage_collection

ROOT = stage_collection.ROOT
CACHE = ROOT / ".cache" / "gates"
BIN = Path(sys.executable).parent
BUILDING = threading.Lock()
"""Held while a tarball is built: ansible-galaxy is not made for two at once."""

PIP_OF_ANSIBLE_TEST = ("24_2", "25_2")
"""The pip versions for which ansible-test 2.19 to 2.21 want a bootstrap script."""

PIP_STUB = "import ensurepip\n\nensurepip.bootstrap(default_pip=True)\n"
"""ansible-test would fetch get-pip.py from a site of its own; the pip that Python bundles does as well."""


class GateUnavailableError(Exception):
    """This machine lacks what a gate needs; the message says what."""


class GateError(Exception):
    """A gate does not pass; the message is what its tool said."""


def run(command: Sequence[str | Path], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Run a tool without a terminal; return its output, or raise it as a `GateError`."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**clean_environment(), **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise GateError(f"$ {' '.join(map(str, command))}\n{done.stdout.rstrip()}\n(exit status {done.returncode})")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Return the environment without the caller's Ansible settings, with the tools' folder first on the path."""
    return {
        **{
            key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHON", "GPS_DENIED_"))
        },
        "ANSIBLE_HOME": str(CACHE / "ansible-home"),
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "PATH": path_with(BIN),
    }


def path_with(folder: Path) -> str:
    """Return the search path with `folder` first."""
    return f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def staged() -> Path:
    """Return the built collection, staged for the gate that asks, which may write there, and only for it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="stage-", dir=CACHE)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        with BUILDING:
            return stage_collection.stage(Path(folder))
    except RuntimeError as error:
        raise GateError(str(error)) from error


def gate_ruff() -> str:
    """Style, likely bugs, and syntax that Python 3.8 on a companion would refuse."""
    run([BIN / "ruff", "check", "--quiet", "."])
    return ""


def gate_mypy() -> str:
    """Types, strictly: plugins under their collection name, the driver, the builder; then the tools."""
    said = run([BIN / "mypy"])
    tests = [f"tests/{name}" for name in ("packaging", "faults", "fuzz", "unit/operator_tool")]
    run([BIN / "mypy", "tools", "hatch_build.py", *tests])
    return said.strip().splitlines()[-1]


def gate_changelog() -> str:
    """The changelog's fragments and its record of releases."""
    run([BIN / "antsibull-changelog", "lint"])
    run([BIN / "antsibull-changelog", "lint-changelog-yaml", "changelogs/changelog.yaml"])
    return ""


def gate_docs() -> str:
    """Every plugin, module and role documents itself, with references that lead somewhere."""
    tree = staged()
    collections = {"ANSIBLE_COLLECTIONS_PATH": str(tree.parents[2])}
    arguments = ["--plugin-docs", "--validate-collection-refs=self", "--skip-rstcheck"]
    run([BIN / "antsibull-docs", "lint-collection-docs", *arguments, "."], cwd=tree, env=collections)
    return ""


def gate_ansible_lint() -> str:
    """Playbooks, roles and scenarios at the production profile, without a network."""
    lines = run([BIN / "ansible-lint", "-c", ROOT / ".ansible-lint", "--nocolor"], cwd=staged()).strip().splitlines()
    return lines[-1] if lines else ""


def gate_sanity() -> str:
    """Every ansible-test sanity test, on the running Python."""
    return sanity(Path(sys.executable))


def sanity(python: Path) -> str:
    """Run every sanity test of the ansible-core that `python` has, and return how many there were."""
    version = run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()
    home = CACHE / f"sanity-home-{version}"
    scripts = home / ".ansible" / "test" / "cache"
    scripts.mkdir(parents=True, exist_ok=True)
    write_pip_settings(home / ".config" / "pip" / "pip.conf")
    for pip_version in PIP_OF_ANSIBLE_TEST:
        (scripts / f"get_pip_{pip_version}.py").write_text(PIP_STUB, encoding="utf-8")
    output = run(
        [python.parent / "ansible-test", "sanity", "--python", version, "--color", "no"],
        cwd=staged(),
        env={"HOME": str(home), "ANSIBLE_HOME": str(home / ".ansible"), "PATH": path_with(python.parent)},
    )
    return f"{output.count('Running sanity test ')} tests"


def write_pip_settings(path: Path) -> None:
    """Write the caller's pip settings to `path`: ansible-test hands none of them on, and runs in a home of its own."""
    sections: dict[str, dict[str, str]] = {"global": {"quiet": "2"}}
    for line in run([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        section = "global" if section == ":env:" else section  # listed first, as it overrules
        sections.setdefault(section, {}).setdefault(name, str(ast.literal_eval(value)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # an index's address may carry a password
    settings = configparser.RawConfigParser()
    settings.read_dict(sections)
    with path.open("w", encoding="utf-8") as file:
        settings.write(file)


def gate_galaxy_importer() -> str:
    """What Galaxy does to an uploaded tarball, in an environment of its own."""
    python = environment(Path(sys.executable), ROOT / "requirements" / "importer.lock")
    tarball = next(staged().parents[2].glob("*.tar.gz"))
    work = tarball.parent / "importer"
    work.mkdir()
    config = work / "importer.cfg"
    # Lint and sanity have gates of their own; this one would run them against images from a registry.
    config.write_text(
        "[galaxy-importer]\nCHECK_REQUIRED_TAGS = True\nRUN_ANSIBLE_TEST = False\nRUN_ANSIBLE_LINT = False\n"
    )
    output = run(
        [python, "-m", "galaxy_importer.main", tarball],
        cwd=work,
        env={"GALAXY_IMPORTER_CONFIG": str(config), "PATH": path_with(python.parent)},
    )
    complaints = [line for line in output.splitlines() if line.startswith(("WARNING", "ERROR"))]
    if complaints:
        raise GateError("\n".join(complaints))
    return ""


def gate_newest() -> str:
    """The unit tests on Python 3.13 and the newest ansible-core."""
    python = newest_environment()
    # some tests start the commands as a user does
    run(
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-e",
            ROOT,
            "-e",
            ROOT / "builder",
        ]
    )
    output = run(
        [python, "-m", "pytest", "-q", "-n", "2", "tests/unit", "builder/tests", "-p", "no:cacheprovider"],
        env={"PATH": path_with(python.parent)},
    )
    return output.strip().splitlines()[-1]


def gate_newest_sanity() -> str:
    """Every sanity test of the newest ansible-core, on Python 3.13."""
    return sanity(newest_environment())


def newest_environment() -> Path:
    """Return the interpreter of an environment with the development tools on Python 3.13."""
    python = newest_python()
    if python is None:
        raise GateUnavailableError("no Python 3.13: put a python3.13 on the path or name one in NEWEST_PYTHON")
    return environment(python, ROOT / "requirements" / "dev.lock")


def newest_python() -> Path | None:
    """Return a Python 3.13 that runs, if this machine has one."""
    for name in (os.environ.get("NEWEST_PYTHON"), "python3.13", pyenv_python()):
        found = shutil.which(name) if name else None
        # A version manager's shim is found on the path and yet may refuse to run.
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(found)
    return None


def pyenv_python() -> str | None:
    """The Python 3.13 that pyenv keeps off the path, where there is pyenv and it has one."""
    if not shutil.which("pyenv"):
        return None
    listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False).stdout
    versions = [line.strip() for line in listed.splitlines() if line.strip().startswith("3.13.")]
    if not versions:
        return None
    prefix = subprocess.run(
        ["pyenv", "prefix", versions[-1]], capture_output=True, text=True, check=False
    ).stdout.strip()
    return f"{prefix}/bin/python3.13"


def environment(python: Path, lock: Path) -> Path:
    """Return the interpreter of an environment that holds exactly `lock`, made anew when the lock changes."""
    digest = hashlib.sha256(lock.read_bytes() + str(python).encode()).hexdigest()[:12]
    folder = CACHE / f"venv-{lock.stem}-{digest}"
    interpreter = folder / "bin" / "python"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"venv-{lock.stem}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # two runs of the gates make it once
        if not (folder / "complete").exists():
            for old in CACHE.glob(f"venv-{lock.stem}-*"):
                shutil.rmtree(old)
            run([python, "-m", "venv", folder])
            run([interpreter, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock])
            (folder / "complete").touch()
    return interpreter


GATES: dict[str, Callable[[], str]] = {
    "ruff": gate_ruff,
    "mypy": gate_mypy,
    "changelog": gate_changelog,
    "newest": gate_newest,
    "sanity": gate_sanity,
    "newest-sanity": gate_newest_sanity,
    "docs": gate_docs,
    "ansible-lint": gate_ansible_lint,
    "galaxy-importer": gate_galaxy_importer,
}


def judged(name: str) -> tuple[str, str, str, float]:
    """Run one gate; return its name, the verdict in a word, what there is to say, and the seconds that it took."""
    started = time.monotonic()
    try:
        word, note = "ok", GATES[name]()
    except GateUnavailableError as error:
        word, note = "ABSENT", str(error)
    except GateError as error:
        word, note = "FAILED", str(error)
    return name, word, note, time.monotonic() - started


def main(arguments: Sequence[str]) -> int:
    """Run the named gates, or all of them, and return the exit status."""
    if arguments == ["--list"]:
        for name, gate in GATES.items():
            print(f"{name:16} {(gate.__doc__ or '').splitlines()[0]}")
        return 0
    unknown = [name for name in arguments if name not in GATES]
    if unknown:
        print(f"No such gate: {', '.join(unknown)}. There are: {', '.join(GATES)}.", file=sys.stderr)
        return 2
    failures: list[tuple[str, str]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in as_completed([pool.submit(judged, name) for name in arguments or GATES]):
            name, word, note, took_s = done.result()
            failed = word == "FAILED" or (word == "ABSENT" and bool(arguments))
            if failed:
                failures.append((name, note))
            print(f"{name:16} {word:6} {took_s:6.1f} s  {'' if word == 'FAILED' else note}".rstrip(), flush=True)
    for name, output in failures:
        print(f"\n==== {name}\n{output}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
