#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages the built collection where ansible-test, ansible-lint and ansible-doc want it.

    python tools/stage_collection.py FOLDER

builds the tarball, keeps it in FOLDER and unpacks it into FOLDER/ansible_collections/gps_denied/preflight, which
becomes a git repository of its own: what is tested is the artefact, not the working tree. Prints the staged path.

    python tools/stage_collection.py --update-listing

writes the list of the tarball's files that the tests hold it against.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTING = ROOT / "tests" / "packaging" / "golden" / "tarball.txt"
sys.path.insert(0, str(ROOT))

import hatch_build  # noqa: E402  (the repository's root is on no path)


def stage(target_dir: Path) -> Path:
    """Build and unpack the collection below `target_dir`; return the staged collection's folder.

    Raises:
        RuntimeError: ansible-galaxy refused to build the collection.
    """
    tree = target_dir / hatch_build.COLLECTION
    shutil.rmtree(tree, ignore_errors=True)
    for old in target_dir.glob("*.tar.gz"):
        old.unlink()
    tarball = hatch_build.build_tarball(ROOT, target_dir)
    hatch_build.unpack_tarball(tarball, tree)
    git = ["git", "-C", str(tree), "-c", "init.defaultBranch=staged", "-c", "core.autocrlf=false"]
    subprocess.run([*git, "init", "--quiet"], check=True, stdin=subprocess.DEVNULL)
    subprocess.run([*git, "add", "--all", "--force"], check=True, stdin=subprocess.DEVNULL)
    return tree


def update_listing() -> Path:
    """Write the golden listing anew and return its path."""
    with tempfile.TemporaryDirectory() as work, tarfile.open(hatch_build.build_tarball(ROOT, Path(work))) as archive:
        names = sorted(member.name for member in archive if member.isfile())
    LISTING.parent.mkdir(exist_ok=True)
    LISTING.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return LISTING


if __name__ == "__main__":
    if sys.argv[1:] == ["--update-listing"]:
        print(update_listing())
        sys.exit(0)
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(stage(Path(sys.argv[1]).resolve()))
