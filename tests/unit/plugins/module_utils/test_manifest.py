# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheVerifyError
from ansible_collections.gps_denied.preflight.plugins.module_utils._generation_faults import Reason, reason_of
from ansible_collections.gps_denied.preflight.plugins.module_utils._manifest import (
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    Manifest,
    ManifestEntry,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SUM = "0" * 64


def refused(content: bytes) -> Reason:
    with pytest.raises(CacheVerifyError) as caught:
        Manifest.parse(content)
    return reason_of(caught.value)


def line(path: str, size: str = "1", digest: str = SUM) -> bytes:
    return f"{digest} {size} {path}\n".encode("utf-8", "surrogateescape")


def test_the_content_id_is_the_sha256_of_the_file() -> None:
    content = line("a") + line("index/b.bin", "4294967297") + line("tiles.pmtiles")
    manifest = Manifest.parse(content)
    assert manifest.to_bytes() == content
    assert manifest.content_id == hashlib.sha256(content).hexdigest()
    assert manifest.size_bytes == 4294967299


@pytest.mark.parametrize(
    "path",
    [
        "../x", "/x", "a/../b", "a//b", "a/", "./a", ".hidden", "-rf", "a/-rf", "a b", "a\tb", "caf\u00e9",
        "cafe\u0301",
        "a\\b", "a;b", "$(a)", "a\u202eb", "x" * 101, "/".join(["d" * 99] * 3), "/".join("abcdefghi"), "MANIFEST",
        "grant.json", "grant.json.sig", "report.json", "a\x00b", "a\x7f", "~", "a/.", "*",
    ],
)  # fmt: skip
def test_a_path_that_is_a_trick_is_refused(path: str) -> None:
    assert refused(line(path)) in (Reason.MANIFEST_PATH, Reason.MANIFEST_MALFORMED)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.MANIFEST_MALFORMED),
        (b"\n", Reason.MANIFEST_MALFORMED),
        (line("a")[:-1], Reason.MANIFEST_MALFORMED),
        (line("a") + b"\n", Reason.MANIFEST_MALFORMED),
        (line("a").replace(b"\n", b"\r\n"), Reason.MANIFEST_MALFORMED),
        (b"\xef\xbb\xbf" + line("a"), Reason.MANIFEST_MALFORMED),
        (line("a", digest="0" * 63), Reason.MANIFEST_MALFORMED),
        (line("a", digest="A" * 64), Reason.MANIFEST_MALFORMED),
        (line("a", "01"), Reason.MANIFEST_MALFORMED),
        (line("a", "-1"), Reason.MANIFEST_MALFORMED),
        (line("a", "9" * 16), Reason.MANIFEST_MALFORMED),
        (line("a", "9" * 400), Reason.MANIFEST_MALFORMED),
        (line("a", "\u0661"), Reason.MANIFEST_MALFORMED),
        (line("b") + line("a"), Reason.MANIFEST_ORDER),
        (line("a") + line("a"), Reason.MANIFEST_DUPLICATE),
        (line("A") + line("a"), Reason.MANIFEST_DUPLICATE),
        (line("Index") + line("index/a"), Reason.MANIFEST_DUPLICATE),
        (line("a") + line("a/b"), Reason.MANIFEST_DUPLICATE),
        (b"0" * (MAX_MANIFEST_BYTES + 1), Reason.MANIFEST_TOO_LARGE),
        (b"".join(line(f"f{number:05}") for number in range(MAX_FILES + 1)), Reason.MANIFEST_TOO_LARGE),
    ],
)
def test_each_way_to_be_wrong_has_its_reason(content: bytes, reason: Reason) -> None:
    assert refused(content) is reason


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_give_a_manifest_that_writes_itself_or_a_typed_refusal(content: bytes) -> None:
    try:
        assert Manifest.parse(content).to_bytes() == content
    except CacheVerifyError as exc:
        assert reason_of(exc).value.startswith("manifest-")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}\.bin)?", fullmatch=True), st.integers(0, 1 << 53)),
        min_size=1,
        unique_by=lambda item: item[0].split("/")[0],
    )
)
def test_what_is_written_is_read_back(files: list[tuple[str, int]]) -> None:
    manifest = Manifest(ManifestEntry(SUM, size, path) for path, size in sorted(files))
    assert Manifest.parse(manifest.to_bytes()).entries == manifest.entries
