# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""What is installed on this workstation: Python, its packages, the collection, programs, the parts of the page."""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from ._doctor import Finding

__all__ = ["CHECKS"]

DISTRIBUTION = "gps-denied-preflight"
INSTALL = f"{sys.executable} -m pip install --upgrade {DISTRIBUTION}"
PYTHON_MIN = (3, 11)
NATIVE = ("pycurl", "numpy", "shapely", "simplejpeg", "PIL.Image", "pydantic_core")
"""Packages with machine code: an installation for another Python or libc shows only where they are loaded."""
ANSWER_S = 20.0
PROGRAMS = (
    # program, arguments that show its version, where the version is, oldest, Debian's package, why
    ("ssh", ("-V",), r"OpenSSH_(\d+\.\d+)", "8.2", "openssh-client", "companions are reached by it"),
    ("ssh-keygen", (), "", "", "openssh-client", "grants are signed with it"),
    ("ssh-keyscan", (), "", "", "openssh-client", "enrol asks with it for a companion's key"),
    ("rsync", ("--version",), r"version v?(\d+\.\d+)", "3.1", "rsync", "tiles are sent with it"),
)
PAGE_PARTS = ("leaflet.css", "leaflet.js", "page.css", "page.js")
PICTURES = ("jpg", "webp", "zlib")


def python() -> Iterator[Finding]:
    text = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    if not sys.platform.startswith("linux"):
        yield Finding("python", "fail", f"{text}: only Linux is supported", "Use a Linux workstation, or WSL 2.")
    elif sys.version_info < PYTHON_MIN:
        yield Finding("python", "fail", f"{text}: Python 3.11 or later is needed", "Install it with a newer Python.")
    else:
        yield Finding("python", "ok", text)


def packages() -> Iterator[Finding]:
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding(
            "packages", "warn", f"{DISTRIBUTION} is not installed here, so that nothing says what it needs", INSTALL
        )
        return
    faults = list(_package_faults(wanted)) + list(_broken_modules())
    if faults:
        yield Finding("packages", "fail", "; ".join(faults), INSTALL)
        return
    shown = ", ".join(f"{name} {metadata.version(name)}" for name in ("ansible-core", "ansible-runner"))
    yield Finding("packages", "ok", f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)} with all it needs: {shown}")


def _package_faults(wanted: Iterable[str]) -> Iterator[str]:
    from packaging.requirements import InvalidRequirement, Requirement

    for line in wanted:
        try:
            need = Requirement(line)
        except InvalidRequirement:
            continue
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            yield f"{need.name} is missing"
            continue
        if not need.specifier.contains(found, prereleases=True):
            yield f"{need.name} is {found}, and {need.specifier} is needed"


def _broken_modules() -> Iterator[str]:
    for name in NATIVE:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as exc:
            reason = " ".join(str(exc).split())[:160]
            yield f"{name} does not load: {reason}"


def collection() -> Iterator[Finding]:
    """The Ansible collection beside the tool must be of the same release, and no other copy in its way."""
    from ._runner import COLLECTION, collections_path

    own = metadata.version(DISTRIBUTION) if importlib.util.find_spec("operator_tool") else ""
    try:
        root = Path(collections_path(), "ansible_collections", *COLLECTION.split("."))
    except ImportError as exc:
        yield Finding("collection", "fail", str(exc), INSTALL)
        return
    version = _collection_version(root)
    if version != own:
        yield Finding("collection", "fail", f"{COLLECTION} at {root} is {version}, and the tool is {own}", INSTALL)
        return
    yield Finding("collection", "ok", f"{COLLECTION} {version} at {root}")
    for place in (Path.home() / ".ansible/collections", Path("/usr/share/ansible/collections")):
        other = place / "ansible_collections" / root.parent.name / root.name
        if other.is_dir() and other.resolve() != root.resolve() and _collection_version(other) != version:
            yield Finding(
                "collection",
                "warn",
                f"another one, {_collection_version(other)}, lies in {other}: a plain ansible-playbook would take it",
                f"rm -r {other}",
            )


def _collection_version(root: Path) -> str:
    try:
        manifest = json.loads((root / "MANIFEST.json").read_text("utf-8"))
        return str(manifest["collection_info"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        found = re.search(r"^version:\s*(\S+)", (root / "galaxy.yml").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else "of an unknown version"


def programs() -> Iterator[Finding]:
    beside = shutil.which("ansible-playbook", path=str(Path(sys.executable).parent)) or shutil.which("ansible-playbook")
    if beside is None:
        yield Finding("ansible-playbook", "fail", "it is neither beside this Python nor on the PATH", INSTALL)
    for name, arguments, pattern, oldest, package, why in PROGRAMS:
        path = shutil.which(name)
        install = f"sudo apt-get install {package}"
        if path is None:
            yield Finding(name, "fail", f"it is not on the PATH; {why}", install)
        elif pattern:
            found = re.search(pattern, _said(path, *arguments))
            if found is None:
                yield Finding(name, "warn", f"{path} does not tell its version", install)
            elif _numbers(found.group(1)) < _numbers(oldest):
                yield Finding(name, "fail", f"{path} is {found.group(1)}, and {oldest} or later is needed", install)
            else:
                yield Finding(name, "ok", f"{path}, version {found.group(1)}")


def _said(*command: str) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[:2000].decode("utf-8", "replace")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def page() -> Iterator[Finding]:
    """What the page of a run and its small pictures are made of."""
    from PIL import features

    missing = [name for name in PAGE_PARTS if not (Path(__file__).parent / "page" / name).is_file()]
    lacking = [name for name in PICTURES if not features.check(name)]
    if missing:
        yield Finding("page", "warn", f"no page can be made: {', '.join(missing)} missing", INSTALL)
    elif lacking:
        hint = f"{sys.executable} -m pip install --force-reinstall --only-binary :all: pillow"
        yield Finding("page", "fail", f"Pillow reads no {', '.join(lacking)}: tiles cannot be decoded", hint)
    else:
        yield Finding("page", "ok", "the page of a run and its previews can be made")


CHECKS = (python, packages, collection, programs, page)
