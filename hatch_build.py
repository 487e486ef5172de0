# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the collection into the wheel, as ansible-galaxy builds it.

The wheel unpacks the very tarball that `ansible-galaxy collection build` makes, so both carry the same files with the
same bytes, and `ansible-galaxy collection list` finds a MANIFEST.json in site-packages. An editable install gets
nothing here: it sees the working tree through `dev/` on its path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COLLECTION = Path("ansible_collections", "gps_denied", "preflight")
PARTS = (
    "CHANGELOG.md",
    "LICENSES",
    "README.md",
    "changelogs",
    "extensions",
    "galaxy.yml",
    "inventory",
    "meta",
    "playbooks",
    "plugins",
    "requirements",
    "roles",
    "tests/sanity",
)
"""What galaxy.yml's allow-list may choose from: only these are copied before it is asked."""


def build_tarball(root: Path, target_dir: Path) -> Path:
    """Build the collection tarball of the tree at `root` into `target_dir` and return its path.

    The parts are copied to a clean folder first, since ansible-galaxy would otherwise walk virtual environments.

    Raises:
        RuntimeError: ansible-galaxy refused; its output is in the message.
    """
    target_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="preflight-collection-") as work:
        tree = Path(work, "tree")
        for part in PARTS:
            source, target = root / part, tree / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            elif source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")},
            "ANSIBLE_HOME": str(Path(work, "home")),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        command = [sys.executable, "-m", "ansible", "galaxy", "collection", "build", str(tree)]
        done = subprocess.run(
            [*command, "--output-path", str(target_dir), "--force"],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
    tarballs = sorted(target_dir.glob("gps_denied-preflight-*.tar.gz"))
    if done.returncode != 0 or len(tarballs) != 1:
        raise RuntimeError(f"ansible-galaxy could not build the collection:\n{done.stdout}")
    return tarballs[0]


def unpack_tarball(tarball: Path, target_dir: Path) -> None:
    """Unpack a collection tarball into an empty folder."""
    target_dir.mkdir(parents=True)
    with tarfile.open(tarball) as archive:
        archive.extractall(target_dir, filter="data")


class CollectionHook(BuildHookInterface[Any]):
    """Adds the collection's files to a standard wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._work = Path(tempfile.mkdtemp(prefix="preflight-wheel-"))
        tree = self._work / COLLECTION
        unpack_tarball(build_tarball(Path(self.root), self._work / "dist"), tree)
        for path in sorted(tree.rglob("*")):
            if path.is_file():
                build_data["force_include"][str(path)] = path.relative_to(self._work).as_posix()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self._work, ignore_errors=True)
