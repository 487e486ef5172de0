# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tile that ends its decoder is a bad tile; the decoder is bounded, knows no secret and outlives nobody."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils import _tile_decoder
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import DownloadError
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_decode_program import MAX_MEMORY_BYTES
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_decoder import DecodeTask, TileDecoder
from tile_server import tile_image

GOOD = [DecodeTask(tile_image(seed), "jpg") for seed in range(6)]
POISONED = """
import importlib.util, mmap, os, signal, sys
spec = importlib.util.spec_from_file_location("program", {program!r})
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)
decode = program.decode_fault
program.MAX_CPU_S = 0

def poisoned(body, image_format, *, single_colour):
    if body == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if body == b"spin":
        while True:
            pass
    if body == b"fill":
        mmap.mmap(-1, 2 << 30)
        return None
    if body == b"write":
        with open({scratch!r}, "wb") as stream:
            stream.write(b"x")
        return None
    return decode(body, image_format, single_colour=single_colour)

program.decode_fault = poisoned
{more}
program.main()
"""


def poisoned(tmp_path: Path, more: str = "") -> str:
    """A decoder whose library has holes, one for each kind of poison."""
    path = tmp_path / "program.py"
    path.write_text(POISONED.format(program=_tile_decoder.PROGRAM, scratch=str(tmp_path / "scratch"), more=more))
    return str(path)


@pytest.mark.parametrize("poison", [b"crash", b"spin", b"fill", b"write"])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_tile_that_ends_its_decoder_is_bad_and_the_others_are_not(poison: bytes, place: int, tmp_path: Path) -> None:
    tasks = [*GOOD[:place], DecodeTask(poison, "png"), *GOOD[place:]]
    with TileDecoder(program=poisoned(tmp_path)) as decoder:
        decoder.begin(tasks, single_colour=True)
        expected: list[str | None] = [None] * 7
        expected[place] = "decoder_ended"
        assert decoder.faults() == expected
        decoder.begin(GOOD, single_colour=True)
        assert decoder.faults() == [None] * 6
    assert not (tmp_path / "scratch").exists() or not (tmp_path / "scratch").read_bytes()


@pytest.mark.parametrize("poison", [b"fill", b"write"])
def test_the_limits_are_what_ends_it(poison: bytes, tmp_path: Path) -> None:
    """Positive control: the same poison gets through where the program sets no limits."""
    with TileDecoder(program=poisoned(tmp_path, "program._limit = lambda: None")) as decoder:
        decoder.begin([DecodeTask(poison, "png")], single_colour=True)
        assert decoder.faults() == [None]


def test_what_it_imports_leaves_room_under_its_limit() -> None:
    """numpy's threads, one for each processor, would fill it on a large machine."""
    with TileDecoder() as decoder:
        decoder.begin(GOOD, single_colour=True)
        assert decoder.faults() == [None] * 6
        assert decoder._process is not None
        process = Path(f"/proc/{decoder._process.pid}")
        (size,) = [line.split()[1] for line in (process / "status").read_text().splitlines() if "VmSize" in line]
        assert int(size) * 1024 < MAX_MEMORY_BYTES // 2
        assert len(list((process / "task").iterdir())) == 1


def test_a_package_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with TileDecoder() as decoder, pytest.raises(DownloadError, match="needs simplejpeg"):
        decoder.begin(GOOD, single_colour=True)


def test_a_decoder_that_hangs_is_ended(tmp_path: Path) -> None:
    endless = poisoned(tmp_path, "program._limit_cpu = lambda: None")
    with TileDecoder(program=endless, timeout_s=0.3) as decoder:
        decoder.begin([DecodeTask(b"spin", "png"), GOOD[0]], single_colour=True)
        assert decoder.faults() == ["decoder_ended", None]


def test_a_decoder_that_always_ends_is_said_and_not_tried_for_ever(tmp_path: Path) -> None:
    with TileDecoder(program="/dev/null") as decoder:
        decoder.begin(GOOD[:4] * 16, single_colour=True)
        with pytest.raises(DownloadError, match="the decoder of tiles ended 64 times"):
            decoder.faults()


def test_a_decoder_that_was_killed_between_two_batches_costs_no_tile() -> None:
    with TileDecoder() as decoder:
        for _round in range(3):
            decoder.begin(GOOD, single_colour=True)
            assert decoder.faults() == [None] * 6
            assert decoder._process is not None
            decoder._process.kill()
            decoder._process.wait()


def test_what_a_decoder_gone_astray_writes_is_no_good_tile(tmp_path: Path) -> None:
    astray = poisoned(tmp_path, "def junk(shared, items):\n    shared[0] = 77\nprogram._batch = junk")
    with TileDecoder(program=astray) as decoder:
        decoder.begin(GOOD[:1], single_colour=True)
        assert decoder.faults() == ["undecodable"]


def test_a_look_gives_edges_and_a_thumbnail() -> None:
    with TileDecoder() as decoder:
        look = decoder.look(DecodeTask(tile_image(1, 512, "WEBP"), "webp"), width_px=512)
        assert look is not None
        assert (len(look.top), len(look.bottom), len(look.thumbnail)) == (512, 512, 1024)
        assert len(set(look.thumbnail)) > 50
        assert decoder.look(DecodeTask(b"nothing", "png"), width_px=256) is None
        decoder.begin(GOOD, single_colour=True)
        assert decoder.faults() == [None] * 6


def test_the_decoder_has_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPS_DENIED_SATELLITE_PROVIDER_API_KEY", "canary-5up3r-s3cr3t")
    with TileDecoder() as decoder:
        decoder.begin(GOOD, single_colour=True)
        assert decoder.faults() == [None] * 6
        assert decoder._process is not None
        process = Path(f"/proc/{decoder._process.pid}")
        assert b"canary" not in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()


def test_a_killed_run_leaves_no_decoder() -> None:
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_decoder import *\n"
        "decoder = TileDecoder(); decoder.begin([DecodeTask(b'x', 'png')], single_colour=True); decoder.faults()\n"
        "print(decoder._process.pid, flush=True); sys.stdin.read()\n"
    )
    dev = str(Path(__file__).parents[4] / "dev")
    run = subprocess.Popen([sys.executable, "-c", script, dev], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdin is not None
    handle = os.pidfd_open(int(run.stdout.readline()))
    try:
        run.kill()
        run.wait()
        assert select.select([handle], [], [], 20)[0]
    finally:
        os.close(handle)
        run.stdin.close()
        run.stdout.close()


@pytest.mark.parametrize("spare", range(4))
def test_a_machine_without_descriptors_left_is_said(spare: int) -> None:
    """One for the memory, two for the link, and some for the start of the child."""
    code = f"""
import os, resource
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import DownloadError
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_decode_program import MAX_MEMORY_BYTES
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_decoder import DecodeTask, TileDecoder
import PIL
held = os.open("/dev/null", os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (held + 1 + {spare}, held + 1 + {spare}))
try:
    with TileDecoder() as decoder:
        decoder.begin([DecodeTask(b"no picture", "jpg")], single_colour=False)
except DownloadError as exc:
    print(exc.message)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[5] / "dev")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "cannot start the decoder of tiles: Too many open files\n"
