# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs on the companion, each one file: a zip of this collection's own modules, the same bytes at every build.

Runs on the companion too: standard library only, Python 3.8. Sources come through the import system, so that the files
can be made from a checkout, an installed collection, or the payload of a running module alike.
"""

from __future__ import annotations

import importlib
import io
import os
import zipfile
from typing import Dict, List, Tuple

from . import _activation_program, _reloc_program, _takeoff_check_program
from ._atomic_file import fsync_folder, write_atomically
from ._cache_program_shell import SHELL_CHECK

__all__ = ["build_cache_program", "build_hint_program", "build_verify_program", "install_programs"]

PACKAGE = "gps_denied_cache"
INTERPRETER = b"#!/usr/bin/python3 -I\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_VERIFY_MODULES = (
    "_activation_state",
    "_atomic_file",
    "_errors",
    "_generation",
    "_generation_faults",
    "_geo",
    "_grant",
    "_manifest",
    "_pmtiles",
    "_ssh_signature",
    "_takeoff_check",
    "_takeoff_check_program",
    "_takeoff_check_route",
)
_CACHE_MODULES = (
    *_VERIFY_MODULES,
    "_activation",
    "_activation_garbage",
    "_activation_lock",
    "_activation_program",
    "_activation_rollback",
    "_activation_seal",
    "_audit",
    "_generation_info",
)
_HINT_MODULES = (
    *(name for name in _VERIFY_MODULES if name not in ("_takeoff_check", "_takeoff_check_program")),
    "_activation_lock",
    "_audit",
    "_reloc_hint",
    "_reloc_map",
    "_reloc_program",
    "_reloc_spool",
)


def _source(name: str) -> bytes:
    module = importlib.import_module(f"{__package__}.{name}")
    path, get_data = module.__file__, getattr(module.__loader__, "get_data", None)
    if path is None or get_data is None:
        raise ImportError(f"{name} has no source here")
    found: bytes = get_data(path)
    return found


def _build(entry: str, names: Tuple[str, ...]) -> bytes:
    """A zip without compression: its bytes depend on the sources alone, not on a zlib."""
    start = f"import sys\n\nfrom {PACKAGE}.{entry} import main\n\nsys.exit(main())\n"
    files: Dict[str, bytes] = {"__main__.py": start.encode(), f"{PACKAGE}/__init__.py": b""}
    files.update({f"{PACKAGE}/{name}.py": _source(name) for name in names})
    stream = io.BytesIO()
    stream.write(INTERPRETER)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            item = zipfile.ZipInfo(path, _EPOCH)
            item.create_system = 3
            item.external_attr = 0o644 << 16
            archive.writestr(item, files[path])
    return stream.getvalue()


def build_verify_program() -> bytes:
    """`gps-denied-verify`, which only reads."""
    return _build(_takeoff_check_program.__name__.rpartition(".")[2], _VERIFY_MODULES)


def build_cache_program() -> bytes:
    """`gps-denied-cache`, which seals, activates, rolls back and collects garbage."""
    return _build(_activation_program.__name__.rpartition(".")[2], _CACHE_MODULES)


def build_hint_program() -> bytes:
    """`gps-denied-hint`, which takes position hints in and reads them."""
    return _build(_reloc_program.__name__.rpartition(".")[2], _HINT_MODULES)


def install_programs(root: str) -> List[str]:
    """Put the programs into `<root>/bin` where they are missing or differ; the paths of those written.

    Raises:
        OSError: the storage failed.
    """
    folder = os.path.join(root, "bin")
    if not os.path.isdir(folder):
        os.makedirs(folder)
        fsync_folder(root)
    wanted = {
        "gps-denied-verify": build_verify_program(),
        "gps-denied-cache": build_cache_program(),
        "gps-denied-hint": build_hint_program(),
        "gps-denied-verify.sh": SHELL_CHECK.encode(),
    }
    written = []
    for name, content in wanted.items():
        path = os.path.join(folder, name)
        if not _holds(path, content):
            write_atomically(path, content, mode=0o755)
            written.append(path)
    return written


def _holds(path: str, content: bytes) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(len(content) + 1) == content and os.access(path, os.X_OK)
    except OSError:
        return False
