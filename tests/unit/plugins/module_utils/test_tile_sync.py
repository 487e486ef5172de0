# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sync of one archive, with the real program and the real rsync over a link that a test can cut at any byte.

The link is a program in ssh's place: what is sent passes through a pump, which ends it at the wanted byte.
"""

from __future__ import annotations

import base64
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _ssh_feed, _tile_sync
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    CompanionUnreachableError,
    SyncError,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._known_archives import KEPT_ARCHIVES, KnownArchives
from ansible_collections.gps_denied.preflight.plugins.module_utils._remote_job import CommandResult
from ansible_collections.gps_denied.preflight.plugins.module_utils._rsync import push_file
from ansible_collections.gps_denied.preflight.plugins.module_utils._ssh_feed import feed_file
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_delta import (
    SHORT_HASH_BYTES,
    body_hashes,
    body_spans,
    hash_file,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_sync import (
    CompanionArchive,
    ShippedArchive,
    sync_archive,
)
from tile_archives import changed_bodies, random_bodies, write_archive

LINK = """
# link.py COUNT LIMIT [--] HOST COMMAND…: count what is sent, and cut it at LIMIT bytes.
import os, subprocess, sys, threading
count, left = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), int(sys.argv[2])
words = sys.argv[5:] if sys.argv[3] == "--" else sys.argv[4:]
process = subprocess.Popen(["sh", "-c", " ".join(words)], stdin=subprocess.PIPE, bufsize=0)
def pump(left):
    while left:
        block = os.read(0, min(left, 65536))
        if not block:
            break
        left -= len(block)
        os.write(count, block)
        process.stdin.write(block)
    process.stdin.close()
    os.close(0)
threading.Thread(target=pump, args=(left,), daemon=True).start()
os._exit(process.wait())
"""
NO_LIMIT = 10**12


@dataclass
class Vehicle:
    """A companion's cache root in a folder, and the link to it."""

    folder: Path
    limit_bytes: int = NO_LIMIT
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "link.py").write_text(LINK)
        self.root.mkdir()
        self.count.touch()

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def count(self) -> Path:
        return self.folder / "count"

    @property
    def arrived_bytes(self) -> int:
        """All that has come over the link for files."""
        return self.count.stat().st_size

    def incoming(self, archive: ShippedArchive) -> Path:
        return self.root / "incoming" / archive.sha256[:16]

    def run(self, command: str, data: bytes | None) -> CommandResult:
        done = subprocess.run(["sh", "-c", command], input=data, capture_output=True, check=False)
        return CommandResult(done.returncode, "Welcome!\n" + done.stdout.decode(), done.stderr.decode())

    @property
    def link(self) -> list[str]:
        return [sys.executable, "-I", "-S", str(self.folder / "link.py"), str(self.count), str(self.limit_bytes)]

    def push(self, source: str, target: str) -> int:
        return push_file(
            source,
            ssh=self.link,
            host="companion",
            target=target,
            deadline_s=60.0,
            on_progress=lambda _done, _text: None,
        )

    def feed(self, source: str, command: str) -> CommandResult:
        return feed_file(
            source,
            ssh=self.link,
            host="companion",
            command=command,
            deadline_s=60.0,
            on_progress=lambda _done, _text: None,
        )

    def sync(
        self,
        archive: ShippedArchive,
        known: KnownArchives,
        *,
        run: Callable[[str, bytes | None], CommandResult] | None = None,
        push: Callable[[str, str], int] | None = None,
        fed: str | None = None,
    ) -> int:
        """Bytes sent; what is fed comes from the file `fed`, where one is given."""
        incoming = str(self.incoming(archive))
        work = self.folder / f"work-{random.randrange(10**9)}"
        work.mkdir()
        companion = CompanionArchive(
            run or self.run, archive, name="vehicle-01", root=str(self.root), incoming=incoming
        )
        self.steps.clear()
        sent, _has_index = sync_archive(
            archive,
            companion,
            folders=[incoming],
            work_folder=str(work),
            known=known,
            push=push or self.push,
            feed=lambda command: self.feed(fed or archive.path, command),
            on_step=self.steps.append,
        )
        assert hash_file(companion.target) == archive.sha256
        return sent

    def be_active(self, archive: ShippedArchive, name: str = "current") -> Path:
        """Make an archive that of the active generation; returns its file."""
        generation = self.root / "generations" / f"of-{name}"
        generation.mkdir(parents=True)
        shutil.copyfile(archive.path, generation / "tiles.pmtiles")
        (generation / "MANIFEST").write_text(f"{archive.sha256} {archive.size_bytes} tiles.pmtiles\n")
        (self.root / name).symlink_to(f"generations/of-{name}")
        return generation / "tiles.pmtiles"


@pytest.fixture
def vehicle(tmp_path: Path) -> Vehicle:
    return Vehicle(tmp_path)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShippedArchive, ShippedArchive, int]:
    """An archive of some 4 MB, the next one with 2 % of its tiles changed, and the bytes of these."""
    folder = tmp_path_factory.mktemp("archives")
    rng = random.Random(3)
    bodies = random_bodies(rng, 300)
    changed, changed_bytes = changed_bodies(rng, bodies, 0.02)
    return write_archive(folder / "old", bodies), write_archive(folder / "new", changed), changed_bytes


@pytest.fixture
def known(tmp_path: Path, archives: tuple[ShippedArchive, ShippedArchive, int]) -> KnownArchives:
    """What a workstation knows that cut both archives itself."""
    known = KnownArchives(str(tmp_path / "staging"))
    for archive in archives[:2]:
        known.save(archive.sha256, body_hashes(archive.path, body_spans(archive.path)))
    return known


@pytest.fixture
def stranger(tmp_path: Path) -> KnownArchives:
    """What a workstation knows that never cut an archive."""
    return KnownArchives(str(tmp_path / "another" / "staging"))


Archives = tuple[ShippedArchive, ShippedArchive, int]


def test_first_all_then_nothing(vehicle: Vehicle, archives: Archives, stranger: KnownArchives) -> None:
    old = archives[0]
    assert vehicle.sync(old, stranger) >= old.size_bytes
    before = vehicle.arrived_bytes
    assert vehicle.sync(old, stranger) == 0
    assert vehicle.arrived_bytes == before
    assert vehicle.steps == ["the companion has the tiles already"]


@pytest.mark.parametrize("who", ["known", "stranger"])
@pytest.mark.parametrize("name", ["current", "previous"])
def test_only_changed_tiles_travel(
    vehicle: Vehicle, archives: Archives, who: str, name: str, request: pytest.FixtureRequest
) -> None:
    """Also where another workstation filled the companion, and where the fitting archive is the one before."""
    old, new, changed_bytes = archives
    vehicle.be_active(old, name)
    if name == "previous":
        rng = random.Random(4)
        vehicle.be_active(write_archive(vehicle.folder / "unrelated", random_bodies(rng, 20)), "current")
    sent = vehicle.sync(new, request.getfixturevalue(who))
    assert changed_bytes < sent <= 1.2 * changed_bytes
    assert vehicle.arrived_bytes <= 1.2 * changed_bytes
    assert sorted(os.listdir(vehicle.incoming(new))) == ["tiles.pmtiles"]


def test_a_generation_with_these_very_tiles_sends_nothing(
    vehicle: Vehicle, archives: Archives, stranger: KnownArchives
) -> None:
    vehicle.be_active(archives[0])
    assert vehicle.sync(archives[0], stranger) == 0
    assert vehicle.arrived_bytes == 0


def test_a_damaged_older_cache_costs_its_damaged_tiles(
    vehicle: Vehicle, archives: Archives, known: KnownArchives
) -> None:
    """The manifest says what it was; what it is now shows when the archive is made, and the wrong tiles travel too."""
    old, new, changed_bytes = archives
    base = vehicle.be_active(old)
    kept = Path(new.path).read_bytes()
    content = base.read_bytes()
    offset = next(start for start, size in body_spans(old.path) if content[start : start + size] in kept)
    base.write_bytes(content[:offset] + b"rot" + content[offset + 3 :])
    sent = vehicle.sync(new, known)
    assert sent <= 2.4 * changed_bytes + 3 * 20_000
    assert any("are not what they were" in step for step in vehicle.steps)


@pytest.mark.parametrize("content", [b"", b"PMTiles\3 and nothing else", b"\0" * 100_000])
def test_an_older_cache_that_is_no_archive_is_no_help(
    vehicle: Vehicle, archives: Archives, known: KnownArchives, content: bytes
) -> None:
    old, new, _changed_bytes = archives
    vehicle.be_active(old).write_bytes(content)
    vehicle.sync(new, known)


def test_a_companion_that_lies_about_its_tiles(vehicle: Vehicle, archives: Archives, stranger: KnownArchives) -> None:
    """It claims to hold all tiles already: the hash of the archive decides, and all of it travels."""
    old, new, _changed_bytes = archives
    vehicle.be_active(old)
    stranger.save(old.sha256, body_hashes(new.path, body_spans(new.path)))
    lie = body_hashes(new.path, body_spans(new.path))

    def run(command: str, data: bytes | None) -> CommandResult:
        answer = vehicle.run(command, data)
        said = re.sub(r'"hashes": "[^"]*"', f'"hashes": "{base64.b64encode(lie).decode()}"', answer.stdout)
        return CommandResult(answer.rc, said, answer.stderr)

    assert vehicle.sync(new, stranger, run=run) >= new.size_bytes


@pytest.mark.parametrize("damage", ["byte", "cut", "longer", "garbage", "link"])
def test_wrong_bytes_that_lie_there_are_mended(
    vehicle: Vehicle, archives: Archives, stranger: KnownArchives, damage: str
) -> None:
    """Same size and time do not mean the same bytes; what is right of them does not travel again."""
    old = archives[0]
    vehicle.sync(old, stranger)
    target = vehicle.incoming(old) / "tiles.pmtiles"
    status, content = target.stat(), target.read_bytes()
    if damage == "byte":
        target.write_bytes(content[:1_000_000] + b"wrong" + content[1_000_005:])
    elif damage == "cut":
        target.write_bytes(content[: len(content) // 2])
    elif damage == "longer":
        target.write_bytes(content + b"more")
    elif damage == "garbage":
        target.write_bytes(os.urandom(len(content)))
    else:
        target.rename(vehicle.root / "elsewhere")
        target.symlink_to(vehicle.root / "elsewhere")
        (vehicle.root / "elsewhere").write_bytes(content[:-1])
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    sent = vehicle.sync(old, stranger)
    limit = {"byte": 0.02, "longer": 0.02, "cut": 0.55}.get(damage, 1.1)
    assert 0 < sent <= limit * old.size_bytes
    assert not target.is_symlink()


@pytest.mark.parametrize("kind", ["whole", "delta"])
def test_cuts_at_any_byte_and_then_on(tmp_path: Path, archives: Archives, known: KnownArchives, kind: str) -> None:
    """Cut twice: each run sends what had not arrived, and all of them together at most 2 % more than one would have."""
    old, new, changed_bytes = archives
    whole_bytes = new.size_bytes if kind == "whole" else changed_bytes
    rng = random.Random(11)
    for position in sorted(rng.randrange(1, whole_bytes) for _ in range(5)):
        (tmp_path / str(position)).mkdir()
        vehicle = Vehicle(tmp_path / str(position))
        if kind == "delta":
            vehicle.be_active(old)
        for limit_bytes in (position, (whole_bytes - position) // 2):
            vehicle.limit_bytes = limit_bytes
            with pytest.raises(CompanionUnreachableError, match="the link broke while sending the tiles") as caught:
                vehicle.sync(new, known)
            assert "what has arrived is kept" in caught.value.remediation
        vehicle.limit_bytes = NO_LIMIT
        vehicle.sync(new, known)
        # rsync holds back up to 256 KiB that it has received; what it sends around a file is some hundred bytes
        assert vehicle.arrived_bytes <= 1.02 * whole_bytes + 300_000, position


def altered(archive: ShippedArchive, folder: Path) -> str:
    """A file that is the archive but for its first byte."""
    path = folder / "altered"
    path.write_bytes(b"?" + Path(archive.path).read_bytes()[1:])
    return str(path)


def test_what_arrives_otherwise_than_it_was_sent_is_mended(
    vehicle: Vehicle, archives: Archives, stranger: KnownArchives, tmp_path: Path
) -> None:
    """Its hash, taken on the way, convicts it; only the wrong block travels again."""
    sent = vehicle.sync(archives[0], stranger, fed=altered(archives[0], tmp_path))
    assert sent <= 1.02 * archives[0].size_bytes
    assert any("is not what was sent" in step for step in vehicle.steps)


def test_a_storage_that_does_not_keep_what_it_gets(
    vehicle: Vehicle, archives: Archives, stranger: KnownArchives, tmp_path: Path
) -> None:
    wrong = altered(archives[0], tmp_path)
    with pytest.raises(SyncError, match=r"does not hold what was sent, twice; it was removed"):
        vehicle.sync(archives[0], stranger, fed=wrong, push=lambda _source, target: vehicle.push(wrong, target))
    assert not (vehicle.incoming(archives[0]) / "tiles.pmtiles").exists()


def test_a_storage_error_is_said_with_its_place(vehicle: Vehicle, archives: Archives, stranger: KnownArchives) -> None:
    (vehicle.root / "incoming").write_text("a file where a folder should be")
    with pytest.raises(
        SyncError, match=r"vehicle-01 cannot take the tiles: .*incoming.*: (Not a directory|File exists)"
    ):
        vehicle.sync(archives[0], stranger)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (CommandResult(127, "", "sh: timeout: not found"), "ended with 127 and said: sh: timeout: not found"),
        (CommandResult(124, "", ""), "did not answer within 121 s: its storage is stuck or very slow"),
        (CommandResult(0, "gps-denied-sync {", ""), "ended with 0"),
        (CommandResult(0, "gps-denied-sync []", ""), "ended with 0"),
        (CommandResult(0, "", ""), "said: nothing"),
    ],
)
def test_an_answer_that_is_none(
    vehicle: Vehicle, archives: Archives, stranger: KnownArchives, answer: CommandResult, message: str
) -> None:
    with pytest.raises(SyncError, match=message):
        vehicle.sync(archives[0], stranger, run=lambda _command, _data: answer)


def test_a_program_of_a_killed_run_leaves_its_part(
    vehicle: Vehicle, archives: Archives, stranger: KnownArchives
) -> None:
    vehicle.incoming(archives[0]).mkdir(parents=True)
    (vehicle.incoming(archives[0]) / ".part-abc").write_bytes(b"half")
    vehicle.sync(archives[0], stranger)
    assert os.listdir(vehicle.incoming(archives[0])) == ["tiles.pmtiles"]


def test_known_archives_are_bounded_and_never_trusted_when_damaged(tmp_path: Path) -> None:
    known = KnownArchives(str(tmp_path))
    for number in range(KEPT_ARCHIVES + 3):
        known.save(f"{number:064x}", b"12345678")
    assert len(os.listdir(tmp_path / "archives")) == KEPT_ARCHIVES
    last = f"{KEPT_ARCHIVES + 2:064x}"
    assert known.load(last) == b"12345678"
    (tmp_path / "archives" / f"{last}.hashes").write_bytes(b"x" * (SHORT_HASH_BYTES + 1))
    assert known.load(last) is None
    assert known.load("../../etc/passwd") is None


def ask_through(tmp_path: Path, archive: ShippedArchive, script: str, *, deadline_s: float = 60.0) -> CommandResult:
    """Feed the archive through something in ssh's place."""
    (tmp_path / "ssh.sh").write_text(script)
    return feed_file(
        archive.path,
        ssh=["sh", str(tmp_path / "ssh.sh")],
        host="companion",
        command="true",
        deadline_s=deadline_s,
        on_progress=lambda _done, _text: None,
    )


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("cat >/dev/null; exec sleep 600", SyncError, "took longer than 2 s"),
        ("exec sleep 600", CompanionUnreachableError, "nothing was taken or answered for 1 s"),
        ("exec yes", CompanionUnreachableError, "answered with more than 1024 KiB"),
        ("echo Connection reset by peer >&2; exit 255", CompanionUnreachableError, "Connection reset by peer"),
        ("kill -9 $$", CompanionUnreachableError, "no word from ssh"),
    ],
)
def test_feeding_ends_typed(
    tmp_path: Path,
    archives: Archives,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(_ssh_feed, "SILENCE_S", 60.0 if "took" in message else 1.0)
    with pytest.raises(error, match=message):
        ask_through(tmp_path, archives[0], script, deadline_s=2.0 if "took" in message else 60.0)


SLOW_LINK = """
# slow.py [--] HOST COMMAND: take all at once, as the buffers of a link do, and pass it on in pieces.
import subprocess, sys, time
data = sys.stdin.buffer.read()
process = subprocess.Popen(["sh", "-c", sys.argv[3]], stdin=subprocess.PIPE)
for start in range(0, len(data), len(data) // 8):
    process.stdin.write(data[start : start + len(data) // 8])
    process.stdin.flush()
    time.sleep(0.5)
process.stdin.close()
sys.exit(process.wait())
"""


@pytest.mark.parametrize("sign_every_s", [0.1, 60.0])
def test_a_slow_link_that_has_taken_all_is_not_silent(
    vehicle: Vehicle,
    archives: Archives,
    stranger: KnownArchives,
    monkeypatch: pytest.MonkeyPatch,
    sign_every_s: float,
) -> None:
    """The program gives signs while it receives what lies in the link's buffers; without them it would be given up."""
    (vehicle.folder / "slow.py").write_text(SLOW_LINK)
    monkeypatch.setattr(Vehicle, "link", [sys.executable, "-I", "-S", str(vehicle.folder / "slow.py")])
    monkeypatch.setattr(_ssh_feed, "SILENCE_S", 2.0)
    monkeypatch.setattr(_tile_sync, "SIGN_EVERY_S", sign_every_s)
    if sign_every_s < 1:
        assert vehicle.sync(archives[0], stranger) == archives[0].size_bytes
        return
    with pytest.raises(CompanionUnreachableError, match="nothing was taken or answered for 2 s"):
        vehicle.sync(archives[0], stranger)


def test_an_early_answer_is_heard(tmp_path: Path, archives: Archives) -> None:
    """A program that cannot go on says so, and reads no further."""
    answer = ask_through(tmp_path, archives[0], "head -c 100 >/dev/null; echo full; exit 3")
    assert (answer.rc, answer.stdout) == (3, "full\n")


def test_rsync_ends_at_the_deadline(tmp_path: Path, archives: Archives) -> None:
    """A link that takes everything and never answers."""
    silent = tmp_path / "silent.sh"
    silent.write_text("cat >/dev/null\n:\n")
    with pytest.raises(SyncError, match=r"took longer than 0 s"):
        push_file(
            archives[0].path,
            ssh=["sh", str(silent)],
            host="companion",
            target="/nowhere",
            deadline_s=0.5,
            on_progress=lambda _done, _text: None,
        )
