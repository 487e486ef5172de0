# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Landings and position hints, with one SSH companion in a container.

Fetching 20,000 tiles beside rsync of the same bytes as one file, the memory of the whole upload, and how long a hint
takes to lie on the companion, over an open connection and over one of a kilobyte a second.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "dev"), str(REPO / "src"), str(REPO / "tests" / "companion"), str(REPO / "tests/fixtures")]

import companions  # noqa: E402
import landed  # noqa: E402
import sample_cache  # noqa: E402
from landing_recorder import Recorder  # noqa: E402
from upload_provider import UploadProvider  # noqa: E402

from operator_tool._field import FieldRequest, HintPlace, give_hint, upload_landing  # noqa: E402

TILES, TILE_BYTES, ROUNDS = 20_000, 12_000, 3
HERE = HintPlace(lat_deg=15.027, lon_deg=39.7293, radius_m=250.0)
LINK_BYTES_PER_S = 1000
THROTTLE = r"""
import os, select, socket, sys, time
host, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
link = socket.create_connection((host, port))
ways = {0: (lambda: os.read(0, 64), link.sendall), link.fileno(): (lambda: link.recv(64), lambda b: os.write(1, b))}
while True:
    for source in select.select(list(ways), [], [])[0]:
        take, give = ways[source]
        part = take()
        if not part:
            sys.exit(0)
        give(part)
        time.sleep(len(part) / rate)
"""


def record(root: Path, name: str, seed: int) -> Path:
    """A flight's 20,000 tiles."""
    recorder = Recorder(str(root), name)
    dice = random.Random(seed)
    for index in range(TILES):
        recorder.add(17, index % 5000, index // 5000 + 10 * seed, dice.randbytes(TILE_BYTES))
    recorder.finish()
    return Path(recorder.folder)


def one_stream(companion: companions.Companion, target: Path, path: str) -> float:
    """Seconds for rsync to bring one file."""
    target.unlink(missing_ok=True)
    ssh = shlex.join(["ssh", *companion.ssh_options])
    began = time.monotonic()
    subprocess.run(["rsync", "--rsh", ssh, f"{companion.user}@{companion.address}:{path}", str(target)], check=True)
    return time.monotonic() - began


def measure_landing(companion: companions.Companion, folder: Path) -> None:
    """Print the figures of a landing."""
    settings = {
        "cache_staging_root": str(folder / "staging"),
        "inventory": landed.inventory_file(folder, companion),
        "companion_known_hosts_file": str(companion.known_hosts_path),
        "landing_flag_max_age_s": 3600,
    }
    ratios = []
    for number in range(1, ROUNDS + 1):
        tree = folder / f"spool-{number}"
        archive = record(tree, f"flight-{number}", number) / "tiles.tar"
        landed.put_tree(companion, tree / "landing", f"{companion.cache_root}/landing")
        landed.say_ground(companion, tree)
        archive.unlink()
        source = f"{companion.cache_root}/landing/flight-{number}/tiles.tar"
        stream_s = one_stream(companion, folder / "stream", source)
        with UploadProvider() as provider:
            request = FieldRequest(settings={**settings, "landing_upload_url": provider.url})
            began = time.monotonic()
            report = upload_landing(request)
            whole_s = time.monotonic() - began
            assert report.exit_code == 0, report.failure_message
            assert (len(provider.accepted), provider.sent_twice) == (TILES, [])
        fetch = report.companions[0].fetch
        assert fetch is not None
        ratios.append(fetch.elapsed_s / stream_s)
        sys.stdout.write(
            f"round {number}: fetch {fetch.elapsed_s:.2f} s, rsync as one stream {stream_s:.2f} s, "
            f"upload {TILES / report.timings_s['upload']:.0f} tiles/s, whole job {whole_s:.1f} s\n"
        )
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    sys.stdout.write(f"fetch / rsync as one stream: {statistics.median(ratios):.2f} (median of {ROUNDS})\n")
    sys.stdout.write(f"largest process of the job: {peak_mib:.0f} MiB\n")


def measure_hints(companion: companions.Companion, folder: Path) -> None:
    """Print the figures of a hint."""
    sample_cache.main(str(folder / "cache"))
    landed.put_tree(companion, folder / "cache", companion.cache_root)
    program = f"{companion.cache_root}/bin/gps-denied-hint"
    reader = ["exec", "--detach", "--user", companion.user, companion.container, program, "take", "--follow"]
    companions.podman(*reader)
    settings = {
        "cache_staging_root": str(folder / "staging"),
        "inventory": landed.inventory_file(folder, companion),
        "companion_known_hosts_file": str(companion.known_hosts_path),
        "hint_ack_timeout_s": 30,
        "ssh_connect_timeout_s": 60,
    }
    arrivals = [_arrival_s(companion, settings) for _round in range(ROUNDS + 1)]
    sys.stdout.write(f"hint on the companion after: cold {arrivals[0]:.2f} s, ")
    sys.stdout.write(f"warm {statistics.median(arrivals[1:]):.2f} s (median of {ROUNDS})\n")

    throttle = folder / "throttle.py"
    throttle.write_text(THROTTLE)
    values = companion.inventory_vars
    proxy = f"{sys.executable} {throttle} {companion.address} {companion.port} {LINK_BYTES_PER_S}"
    extra = shlex.quote(f"ProxyCommand={proxy}")
    words = f"{values['ansible_ssh_common_args']} -o {extra}"
    slow = {**values, "ansible_host": "slow-link", "ansible_ssh_common_args": words, "vehicle_id": companion.name}
    path = folder / "slow.json"
    path.write_text(json.dumps({"companions": {"hosts": {companion.name + "-slow": slow}}}))
    arrivals = [_arrival_s(companion, {**settings, "inventory": str(path)}) for _round in range(2)]
    sys.stdout.write(f"over {LINK_BYTES_PER_S} bytes/s: cold {arrivals[0]:.1f} s, warm {arrivals[1]:.1f} s\n")


def _arrival_s(companion: companions.Companion, settings: dict[str, object]) -> float:
    """From the call to the moment at which the hint has its name on the companion; both read the same clock."""
    began = time.time()
    report = give_hint(FieldRequest(settings=settings), HERE)
    assert report.exit_code == 0, report.failure_message
    stamp = companion.exec_root(f"stat -c %.Y {companion.cache_root}/hints/hint.json").stdout
    return float(stamp) - began


def main() -> None:
    """Run all of it."""
    with tempfile.TemporaryDirectory(prefix="gps-denied-bench-") as text:
        folder = Path(text)
        os.chdir(folder)
        companion = companions.start_companion(
            "vehicle-01",
            container=f"gps-denied-bench-{os.getpid()}",
            image=companions.provisioned_image(),
            folder=folder / "companions",
        )
        try:
            measure_hints(companion, folder)
            measure_landing(companion, folder)
        finally:
            companion.remove()


if __name__ == "__main__":
    main()
