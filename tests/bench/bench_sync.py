# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sync of a 300 MB archive to a companion in a container, beside a bare rsync of the same file over the same SSH.

Rounds alternate, because the machine's speed drifts: a first sync, one with nothing to do, and one with 2 % of the
tiles changed, whose bytes are held against those of the changed tiles.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(REPO / "dev"),
    str(REPO / "src"),
    str(REPO / "tests" / "companion"),
    str(REPO / "tests" / "fixtures"),
]

import companions  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._known_archives import KnownArchives  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job import CommandResult  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._rsync import push_file  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._ssh_feed import feed_file  # noqa: E402
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_delta import (  # noqa: E402
    body_hashes,
    body_spans,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_sync import (  # noqa: E402
    CompanionArchive,
    ShippedArchive,
    sync_archive,
)
from tile_archives import changed_bodies, random_bodies, write_archive  # noqa: E402

ROUNDS = 5
TILES = 21_000
CHANGED_RATIO = 0.02
RSYNC_SENT = re.compile(r"Total bytes sent: ([\d,]+)")


class Bench:
    """One companion, reached over one SSH connection that stays open, as during a run."""

    def __init__(self, companion: companions.Companion, folder: Path) -> None:
        self.companion, self.folder = companion, folder
        control = ("-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={folder}/control")
        self.ssh = ["ssh", *companion.ssh_options, *control, "-l", companion.user]
        self.root = companion.cache_root
        self.known = KnownArchives(str(folder))

    def command(self, command: str, data: bytes | None = None) -> CommandResult:
        done = subprocess.run(
            [*self.ssh, self.companion.address, command], input=data or b"", capture_output=True, check=False
        )
        return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())

    def sync(self, archive: ShippedArchive, *, known: KnownArchives | None = None) -> tuple[float, int]:
        """Seconds and bytes of this project's sync."""
        incoming = f"{self.root}/incoming/{archive.sha256[:16]}"
        work = Path(tempfile.mkdtemp(dir=self.folder))
        started = time.monotonic()
        sent, _has_index = sync_archive(
            archive,
            CompanionArchive(self.command, archive, name=self.companion.name, root=self.root, incoming=incoming),
            folders=[incoming],
            work_folder=str(work),
            known=known or self.known,
            push=lambda source, target: push_file(
                source,
                ssh=self.ssh,
                host=self.companion.address,
                target=target,
                deadline_s=600.0,
                on_progress=lambda _done, _text: None,
            ),
            feed=lambda command: feed_file(
                archive.path,
                ssh=self.ssh,
                host=self.companion.address,
                command=command,
                deadline_s=600.0,
                on_progress=lambda _done, _text: None,
            ),
            on_step=lambda _text: None,
        )
        return time.monotonic() - started, sent

    def rsync(self, archive: ShippedArchive, target: str, *options: str) -> tuple[float, int]:
        """Seconds and bytes of rsync with nothing around it."""
        command = ["rsync", "--stats", *options, "--rsh", shlex.join(self.ssh), archive.path]
        started = time.monotonic()
        done = subprocess.run(
            [*command, f"{self.companion.address}:{target}"], check=True, capture_output=True, text=True
        )
        found = RSYNC_SENT.search(done.stdout)
        return time.monotonic() - started, int(found.group(1).replace(",", "")) if found else 0

    def clear(self) -> None:
        """Nothing is over there, and nothing is left to be written."""
        self.command(f"find {self.root} -mindepth 1 -delete")
        self.settle()

    def settle(self) -> None:
        """Let the disk finish, so that no row pays for the one before."""
        os.sync()

    def be_active(self, archive: ShippedArchive) -> None:
        """Put what has arrived where the active generation is, with the manifest that sealing would write."""
        incoming = f"{self.root}/incoming/{archive.sha256[:16]}"
        generation = f"{self.root}/generations/00000001-bench"
        self.command(f"mkdir -p {generation} && mv {incoming}/tiles.pmtiles {generation} && rm -rf {incoming}")
        line = f"{archive.sha256} {archive.size_bytes} tiles.pmtiles\n"
        self.command(f"cat > {generation}/MANIFEST && ln -sfn {generation} {self.root}/current", line.encode())


def measure(bench: Bench, folder: Path) -> bool:
    """Print the figures; whether they are good enough."""
    rng = random.Random(7)
    bodies = random_bodies(rng, TILES)
    changed, changed_bytes = changed_bodies(rng, bodies, CHANGED_RATIO)
    old = write_archive(folder / "old.pmtiles", bodies)
    new = write_archive(folder / "new.pmtiles", changed)
    del bodies, changed
    print(f"{old.size_bytes / 1e6:.0f} MB in {TILES} tiles; changed: {changed_bytes / 1e6:.2f} MB")
    bench.command("true")
    times: dict[str, list[float]] = {}
    sent: dict[str, int] = {}

    def note(name: str, result: tuple[float, int]) -> None:
        times.setdefault(name, []).append(result[0])
        sent[name] = result[1]

    for archive in (old, new):
        # As the download leaves it: bodies were hashed when they came, and again for the archive.
        bench.known.save(archive.sha256, body_hashes(archive.path, body_spans(archive.path)))
    for _round in range(ROUNDS):
        # Both find a disk from which as much was just deleted: memory that was in use a moment ago is quick to fill.
        bench.clear()
        note("first, rsync", bench.rsync(old, f"{bench.root}/bare.pmtiles"))
        bench.clear()
        note("first", bench.sync(old))
        bench.rsync(old, f"{bench.root}/bare.pmtiles")
        bench.settle()
        note("unchanged", bench.sync(old))
        bench.be_active(old)
        note("2 % changed", bench.sync(new))
        bench.settle()
        note("2 % changed, rsync", bench.rsync(new, f"{bench.root}/bare.pmtiles", "--ignore-times"))
        bench.settle()
        bench.command(f"rm -rf {bench.root}/incoming")
        stranger = KnownArchives(tempfile.mkdtemp(dir=folder))
        note("2 % changed, listed", bench.sync(new, known=stranger))
        bench.settle()
    print(f"{ROUNDS} rounds, seconds (median, least, most) and bytes sent")
    for name, values in times.items():
        print(f"  {name:<20}{statistics.median(values):7.2f}{min(values):7.2f}{max(values):7.2f}{sent[name]:13,}")

    def ratio(one: str, other: str) -> float:
        return statistics.median(times[one]) / statistics.median(times[other])

    goals = [
        ("first sync / bare rsync", ratio("first", "first, rsync"), 1.15),
        ("unchanged, seconds", statistics.median(times["unchanged"]), 1.0),
        ("unchanged, bytes", float(sent["unchanged"]), 0.0),
        ("2 % changed, bytes sent / bytes changed", sent["2 % changed"] / changed_bytes, 1.2),
        ("2 % changed by a stranger, bytes sent / changed", sent["2 % changed, listed"] / changed_bytes, 1.2),
        ("2 % changed, time / rsync's delta", ratio("2 % changed", "2 % changed, rsync"), 1.0),
    ]
    for name, value, limit in goals:
        print(f"  {name:<49}{value:7.2f} (at most {limit:g}){'' if value <= limit else '  MISSED'}")
    return all(value <= limit for _name, value, limit in goals)


def main() -> int:
    """Start a companion and measure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        companion = companions.start_companion(
            "vehicle-01",
            container=f"gps-denied-bench-{os.getpid()}",
            image=companions.provisioned_image(),
            folder=folder / "companions",
            user=companions.CACHE_USER,
        )
        try:
            return int(not measure(Bench(companion, folder), folder))
        finally:
            companion.remove()


if __name__ == "__main__":
    sys.exit(main())
