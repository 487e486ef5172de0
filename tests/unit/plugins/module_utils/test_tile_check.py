# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_check import (
    ReceivedBody,
    TileChecker,
    TileVerdict,
    image_size,
    sniff_format,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_decoder import TileDecoder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tile_server import tile_image

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


@pytest.fixture(scope="module", autouse=True)
def decoder() -> Iterator[TileDecoder]:
    """One child process for all tests of this file, as one serves many tiles."""
    with TileDecoder() as started:
        DECODERS.append(started)
        yield started
        DECODERS.pop()


DECODERS: list[TileDecoder] = []


def check(body: bytes, **more: object) -> TileVerdict:
    content_type = more.pop("content_type", None)
    checker = TileChecker(**more)  # type: ignore[arg-type]
    (verdict,) = checker.check([ReceivedBody(body, content_type)], decoder=DECODERS[0])  # type: ignore[arg-type]
    assert verdict.sha256 == hashlib.sha256(body).digest()
    return verdict


def verdict_of(body: bytes, reason: str | None) -> TileVerdict:
    return TileVerdict(hashlib.sha256(body).digest(), sniff_format(body), reason)


def picture(
    colour: object, *, mode: str = "RGB", image_format: str = "PNG", size: tuple[int, int] = (256, 256)
) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, image_format)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size_px", [256, 512])
def test_good_tiles_pass(kind: str, size_px: int) -> None:
    body = tile_image(3, size_px, FORMATS[kind])
    assert sniff_format(body) == kind
    assert image_size(body, kind) == (size_px, size_px)
    assert check(body, tile_size_px=size_px) == verdict_of(body, None)
    assert check(body, tile_size_px=size_px, image_format=kind) == verdict_of(body, None)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_tile_cut_anywhere_is_refused(kind: str) -> None:
    body = tile_image(3, 256, FORMATS[kind])
    for length in [*range(40), *range(40, len(body) - 1, 97), len(body) - 1]:
        assert check(body[:length]).reason is not None, length


def test_a_jpeg_that_lost_data_and_has_its_end_is_refused() -> None:
    """Pillow alone, the positive control, takes it for a picture and paints the rest grey."""
    body = tile_image(3, 256, "JPEG")
    for length in range(len(body) // 3, len(body) - 40, 211):
        cut = body[:length] + b"\xff\xd9"
        Image.open(io.BytesIO(cut)).load()
        assert check(cut).reason == "truncated", length


def test_a_jpeg_with_bytes_too_many_is_good() -> None:
    body = tile_image(3, 256, "JPEG")
    assert check(body[:-2] + b"\0\0\0\0" + body[-2:]).reason is None


def test_two_colours_of_the_same_grey_are_a_picture() -> None:
    image = Image.merge("YCbCr", [Image.new("L", (256, 256), value) for value in (120, 90, 128)])
    image.paste((120, 170, 128), (64, 64, 192, 192))
    out = io.BytesIO()
    image.save(out, "JPEG")
    assert check(out.getvalue()).reason is None


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_bytes_changed_anywhere_never_crash(kind: str, data: st.DataObject) -> None:
    body = bytearray(tile_image(3, 256, FORMATS[kind]))
    places = st.dictionaries(st.integers(0, len(body) - 1), st.integers(1, 255), min_size=1, max_size=5)
    for place, change in data.draw(places).items():
        body[place] ^= change
    verdict = check(bytes(body))
    if kind == "png":
        assert verdict.reason is not None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"x" * (3 << 20), "too_large"),
        (b"  <!DOCTYPE html><html>", "not_an_image_but_text"),
        (b'{"error": 1}', "not_an_image_but_text"),
        (b"\xef\xbb\xbf<?xml", "not_an_image_but_text"),
        (b"II*\0" + b"\0" * 100, "not_an_image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, "damaged"),
        (tile_image(1, 128), "size_128x128"),
    ],
)
def test_what_is_no_tile_is_refused(body: bytes, reason: str) -> None:
    assert check(body) == verdict_of(body, reason)


def test_another_format_than_the_profile_says_is_refused() -> None:
    assert check(tile_image(1, 256, "PNG"), image_format="jpg").reason == "is_png"


@pytest.mark.parametrize("body", [
    picture((1, 2, 3)),
    picture((1, 2, 3), image_format="JPEG"),
    picture((1, 2, 3), image_format="WEBP"),
    picture(7, mode="L"),
    picture(7, mode="P"),
    picture((9, 9, 9, 0), mode="RGBA"),
    picture((9, 9, 9, 255), mode="RGBA"),
])  # fmt: skip
def test_one_colour_is_a_placeholder_unless_waived(body: bytes) -> None:
    assert check(body).placeholder
    assert check(body, single_colour_is_placeholder=False).reason is None


def test_one_pixel_of_another_colour_is_a_picture() -> None:
    image = Image.new("RGB", (256, 256), (1, 2, 3))
    image.putpixel((77, 99), (250, 250, 250))
    out = io.BytesIO()
    image.save(out, "PNG")
    assert check(out.getvalue()).reason is None


def test_a_listed_hash_is_a_placeholder() -> None:
    body = tile_image(1)
    verdict = check(body, placeholder_sha256=[hashlib.sha256(body).hexdigest()])
    assert verdict.placeholder


def test_an_animated_webp_is_refused() -> None:
    out = io.BytesIO()
    frames = [Image.open(io.BytesIO(tile_image(seed))) for seed in (1, 2)]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    assert check(out.getvalue()).reason == "damaged"


def test_a_bomb_of_text_is_refused() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("comment", "x" * 200_000, zip=False)
    out = io.BytesIO()
    Image.open(io.BytesIO(tile_image(1))).save(out, "PNG", pnginfo=info)
    assert check(out.getvalue()).reason == "bomb"
