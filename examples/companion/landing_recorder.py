#!/usr/bin/env python3
# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""How flight software writes the landing spool: docs/reference/landing-spool.md in code.

Standard library only, Python 3.8. Copy it into the flight software, or run it to see a spool:

    landing_recorder.py record ROOT NAME z/x/y=FILE …    a finished recording below ROOT/landing
    landing_recorder.py ground ROOT [--armed] [--flying]  the flag that says whether the vehicle is down
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import tarfile
import tempfile
import time


def write_atomically(path: str, content: bytes) -> None:
    """Whole and durable under its name, or not there."""
    folder = os.path.dirname(path)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".tmp-")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Recorder:
    """One recording. `finish` makes it count; without that, what was written is left alone by everybody."""

    def __init__(self, root: str, name: str) -> None:
        self.folder = os.path.join(root, "landing", name)
        os.makedirs(self.folder)
        self._file = open(os.path.join(self.folder, "tiles.tar"), "wb")  # noqa: SIM115
        self._archive = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._lines: dict[str, tuple[str, int]] = {}

    def add(self, zoom: int, column: int, row: int, body: bytes, *, kind: str = "jpg") -> None:
        """Append one tile."""
        path = f"{zoom}/{column}/{row}.{kind}"
        if path in self._lines:
            raise ValueError(path + " is recorded already")
        member = tarfile.TarInfo(path)
        member.size = len(body)
        self._archive.addfile(member, io.BytesIO(body))
        self._lines[path] = (hashlib.sha256(body).hexdigest(), len(body))

    def close(self) -> None:
        """Close the archive and make it durable."""
        self._archive.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def finish(self) -> None:
        """Close the archive, then write the manifest: from now on it may be fetched."""
        self.close()
        lines = [f"{digest} {size} {path}\n" for path, (digest, size) in sorted(self._lines.items())]
        write_atomically(os.path.join(self.folder, "MANIFEST"), "".join(lines).encode("ascii"))


def write_ground_flag(root: str, *, landed: bool, armed: bool) -> None:
    """Say whether the vehicle is down. To be called at every change, and every few seconds while nothing changes."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        boot_id = stream.read().strip()
    flag = {
        "schema_version": 1,
        "boot_id": boot_id,
        "boottime_s": time.clock_gettime(time.CLOCK_BOOTTIME),
        "landed": landed,
        "armed": armed,
    }
    folder = os.path.join(root, "landing")
    os.makedirs(folder, exist_ok=True)
    write_atomically(os.path.join(folder, "ground.json"), json.dumps(flag).encode())


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the landing spool as flight software does.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    record = verbs.add_parser("record", help="a finished recording")
    record.add_argument("root")
    record.add_argument("name")
    record.add_argument("tiles", nargs="+", metavar="Z/X/Y=FILE")
    ground = verbs.add_parser("ground", help="the flag that says whether the vehicle is down")
    ground.add_argument("root")
    ground.add_argument("--armed", action="store_true")
    ground.add_argument("--flying", action="store_true")
    options = parser.parse_args()
    if options.verb == "ground":
        write_ground_flag(options.root, landed=not options.flying, armed=options.armed)
        return 0
    recorder = Recorder(options.root, options.name)
    for item in options.tiles:
        place, _, path = item.partition("=")
        zoom, column, row = (int(part) for part in place.split("/"))
        with open(path, "rb") as stream:
            recorder.add(zoom, column, row, stream.read(), kind=path.rpartition(".")[2])
    recorder.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
