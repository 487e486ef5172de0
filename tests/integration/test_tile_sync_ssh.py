# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sync over real SSH to companions in containers: links that are cut, storage that fails, vehicles that freeze."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    CacheBuildError,
    CompanionUnreachableError,
    SyncError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._known_archives import KnownArchives
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job import CommandResult
from ansible_collections.gps_denied.preflight.plugins.module_utils._rsync import push_file
from ansible_collections.gps_denied.preflight.plugins.module_utils._ssh_feed import feed_file
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_sync import (
    CompanionArchive,
    ShippedArchive,
    sync_archive,
)
from companions import Companion, podman
from tcp_proxy import TcpProxy, tcp_proxy
from tile_archives import changed_bodies, random_bodies, write_archive

from operator_tool import BuildCacheRequest, CacheBuildOutcome, CacheBuildReport, FlightFromFile, build_cache

EXAMPLES = Path(__file__).parents[2] / "examples"
SSH_WINDOW_BYTES = 2 * 1024 * 1024
SURVEY = str(EXAMPLES / "flights" / "bali-survey.plan")


class Workstation:
    """Syncs to one companion, each question and each file over a connection of its own."""

    def __init__(self, companion: Companion, folder: Path) -> None:
        self.companion, self.folder = companion, folder
        alive = ("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3")
        self.ssh = ["ssh", *companion.ssh_options, *alive, "-l", companion.user]
        self.on_progress: Any = lambda _done, _text: None
        self.limit_kib_per_s = 0

    def command(self, command: str, data: bytes | None) -> CommandResult:
        done = subprocess.run(
            [*self.ssh, self.companion.address, command], input=data or b"", capture_output=True, check=False
        )
        if done.returncode == 255:
            raise CompanionUnreachableError(done.stderr.decode())
        return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())

    def sync(self, archive: ShippedArchive) -> int:
        root = self.companion.cache_root
        incoming = f"{root}/incoming/{archive.sha256[:16]}"
        sent, _has_index = sync_archive(
            archive,
            CompanionArchive(self.command, archive, name=self.companion.name, root=root, incoming=incoming),
            folders=[incoming],
            work_folder=str(self.folder),
            known=KnownArchives(str(self.folder)),
            push=lambda source, target: push_file(
                source,
                ssh=self.ssh,
                host=self.companion.address,
                target=target,
                deadline_s=60.0,
                limit_kib_per_s=self.limit_kib_per_s,
                on_progress=self.on_progress,
            ),
            feed=None
            if self.limit_kib_per_s
            else lambda command: feed_file(
                archive.path,
                ssh=self.ssh,
                host=self.companion.address,
                command=command,
                deadline_s=60.0,
                on_progress=self.on_progress,
            ),
            on_step=lambda _text: None,
        )
        assert self.companion.run(f"sha256sum {incoming}/tiles.pmtiles").stdout.startswith(archive.sha256)
        return sent


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShippedArchive, ShippedArchive, int]:
    """An archive of some 8 MB, the next one with 5 % of its tiles changed, and the bytes of these."""
    folder = tmp_path_factory.mktemp("archives")
    rng = random.Random(5)
    bodies = random_bodies(rng, 600)
    changed, changed_bytes = changed_bodies(rng, bodies, 0.05)
    return write_archive(folder / "old", bodies), write_archive(folder / "new", changed), changed_bytes


@pytest.fixture
def proxy(companion: Companion) -> Iterator[TcpProxy]:
    with tcp_proxy(companion.address, companion.port) as proxy:
        yield proxy


def through(proxy: TcpProxy, companion: Companion) -> Companion:
    return dataclasses.replace(companion, address="127.0.0.1", port=proxy.port)


def test_a_link_that_is_cut_and_then_on(
    companion: Companion,
    proxy: TcpProxy,
    archives: tuple[ShippedArchive, ShippedArchive, int],
    tmp_path: Path,
) -> None:
    """Counted at the link: two runs with a cut between them send together what one sends, and what was in flight."""
    old, new, changed_bytes = archives
    workstation = Workstation(through(proxy, companion), tmp_path)
    rng = random.Random(6)
    for position in [0.5 + 0.4 * rng.random() for _ in range(2)]:
        companion.reset_cache()
        proxy.forget(cut_at_bytes=int(position * old.size_bytes))
        with pytest.raises(CacheBuildError):
            workstation.sync(old)
        before = proxy.sent_bytes
        proxy.forget()
        workstation.sync(old)
        assert proxy.is_cut is False
        # lost in flight: at most a window of SSH; around the file: handshakes, and the program with each question
        assert before + proxy.sent_bytes <= 1.02 * old.size_bytes + SSH_WINDOW_BYTES + 300_000

    root = companion.cache_root
    companion.run(f"cd {root} && mkdir generations && mv incoming/* generations/1 && ln -s generations/1 current")
    proxy.forget(cut_at_bytes=60_000 + changed_bytes // 2)
    with pytest.raises(CacheBuildError):
        workstation.sync(new)
    proxy.forget()
    workstation.sync(new)
    assert proxy.sent_bytes <= 1.2 * changed_bytes + 300_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=2m", r"no space left on vehicle-01 for the tiles: 2.\d MB are free, and 8.4 MB are needed"),
        ("size=64m,nr_inodes=2", "No space left on device"),
        ("size=64m,ro", "Read-only file system"),
    ],
)
def test_storage_that_takes_no_more(
    companion: Companion,
    archives: tuple[ShippedArchive, ShippedArchive, int],
    tmp_path: Path,
    options: str,
    message: str,
) -> None:
    """A full disk, no inodes, a disk that has become read-only: said in one sentence, and mended by running again."""
    root = companion.cache_root
    pid = podman("inspect", companion.container, "--format", "{{.State.Pid}}").stdout.strip()
    mount = ["nsenter", "--target", pid, "--mount", "mount", "-t", "tmpfs", "-o"]
    uid = companion.run("id -u").stdout.strip()
    subprocess.run([*mount, f"{options},uid={uid}", "tmpfs", root], check=True)
    workstation = Workstation(companion, tmp_path)
    with pytest.raises(SyncError, match=message):
        workstation.sync(archives[0])
    subprocess.run(["nsenter", "--target", pid, "--mount", "umount", root], check=True)
    workstation.sync(archives[0])


def test_a_companion_that_freezes_in_mid_sync(
    companion: Companion, archives: tuple[ShippedArchive, ShippedArchive, int], tmp_path: Path
) -> None:
    """The link stands and nothing answers: ssh notices, and the next run goes on where this one was."""
    workstation = Workstation(companion, tmp_path)
    workstation.limit_kib_per_s = 2000
    frozen = threading.Event()

    def freeze(done: int, text: str) -> None:
        assert re.fullmatch(r"[\d.]+[kMG]B/s, \d+:\d\d:\d\d left", text)
        if done > 100_000 and not frozen.is_set():
            companion.pause()
            frozen.set()

    workstation.on_progress = freeze
    started = time.monotonic()
    with pytest.raises(CompanionUnreachableError):
        workstation.sync(archives[0])
    assert frozen.is_set()
    assert time.monotonic() - started < 60
    companion.unpause()
    workstation.limit_kib_per_s = 0
    assert workstation.sync(archives[0]) < archives[0].size_bytes


def test_a_link_that_hangs_in_mid_sync(
    companion: Companion, proxy: TcpProxy, archives: tuple[ShippedArchive, ShippedArchive, int], tmp_path: Path
) -> None:
    """It stands, and nothing arrives: ssh notices, and the next run goes on, though the program waits over there."""
    workstation = Workstation(through(proxy, companion), tmp_path)
    proxy.hangs = True
    proxy.forget(cut_at_bytes=archives[0].size_bytes // 2)
    started = time.monotonic()
    with pytest.raises(CompanionUnreachableError, match="the link broke while sending the tiles"):
        workstation.sync(archives[0])
    assert time.monotonic() - started < 60
    arrived = int(companion.run(f"cat {companion.cache_root}/incoming/*/tiles.pmtiles | wc -c").stdout)
    assert arrived > archives[0].size_bytes // 4
    proxy.forget()
    assert workstation.sync(archives[0]) < archives[0].size_bytes - arrived + 300_000


def build(companion: Companion, folder: Path, **kwargs: Any) -> CacheBuildReport:
    folder.mkdir(exist_ok=True)
    inventory = folder / "companions.yml"
    inventory.write_text(json.dumps({"companions": {"hosts": {companion.name: companion.inventory_vars}}}))
    settings = {
        "cache_staging_root": str(folder / "staging"),
        "tile_source": str(EXAMPLES / "imagery" / "bali.pmtiles"),
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18-19",
        "camera_agl_m": 60,
        "companion_boot_timeout_s": 2,
        "inventory": str(inventory),
        "companion_known_hosts_file": str(companion.known_hosts_path),
        **kwargs.pop("settings", {}),
    }
    return build_cache(BuildCacheRequest(flight=FlightFromFile(SURVEY), settings=settings), **kwargs)


@pytest.mark.timeout(300)
def test_a_whole_run_whose_link_is_cut_in_mid_sync(
    companion: Companion, proxy: TcpProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails with its own reason; a second workstation was kept out; run again, it sends the rest and succeeds."""
    monkeypatch.chdir(tmp_path)  # away from the checkout's own settings
    others: list[CacheBuildReport] = []
    ended = threading.Event()

    def has_begun() -> bool:
        return "tiles.pmtiles" in companion.exec_root(f"ls {companion.cache_root}/incoming/*", check=False).stdout

    def meanwhile() -> None:
        while not has_begun() and not ended.is_set():
            time.sleep(0.2)
        others.append(build(companion, tmp_path / "other"))
        proxy.cut()

    thread = threading.Thread(target=meanwhile)
    thread.start()
    slow = {"sync_limit_kib_per_s": 1}  # minutes, which the cut ends
    report = build(through(proxy, companion), tmp_path / "own", settings=slow)
    ended.set()
    thread.join()
    (other,) = others
    assert (other.exit_code, other.failure_exception_type) == (50, "BuildLockHeldError"), other.failure_message
    assert (report.exit_code, report.failure_phase) == (30, "sync"), report.failure_message
    assert companion.run(f"readlink {companion.cache_root}/current", check=False).stdout == ""

    again = build(through(proxy, companion), tmp_path / "own")
    assert again.outcome is CacheBuildOutcome.SUCCESS, again.failure_message
    (row,) = again.companions
    assert row.sync is not None
    assert row.sync.bytes_sent > 0
