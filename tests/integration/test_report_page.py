# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a run and of a plan in a real browser, opened from disk with the network off.

`GPS_DENIED_SCREENSHOTS=1` writes the pictures of docs/img anew.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._config import load_config
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import CacheBuildReport
from click.testing import CliRunner
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from operator_tool import BuildCacheRequest, FlightFromFile, _cli, build_cache
from operator_tool._report_page import report_page
from operator_tool._report_picture import report_picture
from operator_tool._report_view import verdict_of, view_of_run

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "img"
SURVEY = ROOT / "examples" / "flights" / "bali-survey.plan"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[CacheBuildReport, dict[str, Any]]:
    """A build of the demo on folders of its own."""
    place = tmp_path_factory.mktemp("page")
    (place / "companion").mkdir()
    settings = {
        "cache_staging_root": str(place / "staging"),
        "companion_cache_root": str(place / "companion"),
        "tile_source": str(ROOT / "examples" / "imagery" / "bali.pmtiles"),
        "inventory": str(ROOT / "inventory" / "embedded" / "hosts.yml"),
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18-19",
        "camera_agl_m": 60,
    }
    report = build_cache(BuildCacheRequest(flight=FlightFromFile(str(SURVEY)), settings=settings))
    assert report.exit_code == 0, report.failure_message
    return report, settings


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # No background traffic: the browser must have nothing to ask of anybody.
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    arguments += ["--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def save_screenshot(name: str, packed: bytes) -> None:
    """A picture for the documentation, small enough to live in the repository."""
    Image.open(io.BytesIO(packed)).convert("RGB").quantize(96).save(IMAGES / name, optimize=True)


class Opened:
    """A page opened from disk, offline, with all that it said and asked for."""

    def __init__(self, browser: Browser, path: Path) -> None:
        context = browser.new_context(offline=True, viewport={"width": 1280, "height": 860})
        self.page: Page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".leaflet-container path", state="attached")

    @property
    def foreign(self) -> list[str]:
        return [url for url in self.asked if not url.startswith(("file:", "data:"))]

    def shown_tiles(self) -> int:
        return int(self.page.evaluate("document.querySelectorAll('img.map-tile').length"))

    def map_colours(self) -> int:
        """Different colours on the map: one or two where nothing is drawn."""
        # Not wait_for_function: asking again later is a script of its own, which the page's policy refuses.
        self.page.evaluate(
            """async () => {
                const tiles = () => [...document.querySelectorAll("img.map-tile")];
                const shown = (tile) => tile.complete && getComputedStyle(tile).opacity == 1;
                while (!tiles().every(shown)) { await new Promise(requestAnimationFrame); }
            }"""
        )
        picture = Image.open(io.BytesIO(self.page.locator("#map").screenshot())).convert("RGB")
        return len(picture.resize((160, 120)).getcolors(160 * 120) or ())


def test_the_page_opens_offline_and_draws(
    run: tuple[CacheBuildReport, dict[str, Any]], browser: Browser, tmp_path: Path
) -> None:
    report, settings = run
    path = tmp_path / "run.html"
    result = CliRunner().invoke(
        _cli.cli,
        ["report", "last", "--set", f"cache_staging_root={settings['cache_staging_root']}", "--html", str(path)],
    )
    assert result.exit_code == 0, result.output
    opened = Opened(browser, path)
    page = opened.page
    assert page.locator("h1").inner_text() == verdict_of(report).headline
    assert opened.shown_tiles() >= 4
    drawn = opened.map_colours()
    paths = page.locator(".leaflet-overlay-pane path")
    before = paths.count()
    page.get_by_label("How easily a place is recognised").check()
    assert paths.count() > before
    page.get_by_label("How easily a place is recognised").uncheck()
    if os.environ.get("GPS_DENIED_SCREENSHOTS"):
        save_screenshot("report.png", page.screenshot())
    page.get_by_label("Imagery").uncheck()
    assert opened.shown_tiles() == 0
    assert drawn > 5 * opened.map_colours(), "with the imagery off there is next to nothing on the map"
    assert (opened.said, opened.foreign) == ([], [])


def test_texts_of_a_report_are_never_markup(
    run: tuple[CacheBuildReport, dict[str, Any]], browser: Browser, tmp_path: Path
) -> None:
    report, settings = run
    view = view_of_run(report.run_id, load_config(settings, environ={}))
    assert view.flight and report.flight
    hostile = replace(
        view,
        report=replace(
            report,
            flight=replace(report.flight, flight_id=HOSTILE, name=HOSTILE),
            warnings=(HOSTILE,),
            companions=(replace(report.companions[0], host=HOSTILE),),
        ),
        flight=replace(view.flight, parts=tuple(replace(part, why=HOSTILE) for part in view.flight.parts)),
        attribution=HOSTILE,
        holes=({"z": 19, "x": 1, "y": 1, "reason": HOSTILE},),
    )
    path = tmp_path / "hostile.html"
    path.write_text(report_page(hostile), "utf-8")
    opened = Opened(browser, path)
    assert opened.page.evaluate("window.pwned") is None
    assert HOSTILE in opened.page.locator("body").inner_text()
    assert (opened.said, opened.foreign) == ([], [])
    # the control: a page that does not escape is convicted by the same question, its policy taken away
    broken = re.sub(r"<meta http-equiv[^>]*>", "", path.read_text("utf-8")).replace("<h1>", "<h1>" + HOSTILE, 1)
    (tmp_path / "broken.html").write_text(broken, "utf-8")
    assert Opened(browser, tmp_path / "broken.html").page.evaluate("window.pwned") == 1


def test_a_plan_has_a_page_before_anything_is_downloaded(
    run: tuple[CacheBuildReport, dict[str, Any]], browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "plan.html"
    sets = [f"--set={name}={value}" for name, value in run[1].items() if name != "inventory"]
    result = CliRunner().invoke(_cli.cli, ["plan", "--flight-file", str(SURVEY), "--html", str(path), *sets])
    assert result.exit_code == 0, result.output
    opened = Opened(browser, path)
    assert opened.page.locator("h1").inner_text() == "Plan of flight bali-survey"
    assert opened.page.locator(".leaflet-overlay-pane path").count() >= 3
    if os.environ.get("GPS_DENIED_SCREENSHOTS"):
        save_screenshot("plan.png", opened.page.screenshot())
    assert (opened.said, opened.foreign) == ([], [])


def test_the_picture(run: tuple[CacheBuildReport, dict[str, Any]]) -> None:
    report, settings = run
    packed = report_picture(view_of_run(report.run_id, load_config(settings, environ={})))
    picture = Image.open(io.BytesIO(packed)).convert("RGB")
    colours = picture.getcolors(1 << 24) or []
    assert {(255, 212, 0), (31, 111, 235), (208, 28, 139)} <= {colour for _count, colour in colours}
    if os.environ.get("GPS_DENIED_SCREENSHOTS"):
        save_screenshot("report-map.png", packed)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no report"),
        ("[]", "has no schema version"),
        ('{"schema_version": 0}', "schema version 0"),
        ('{"schema_version": 1, "run_id": 5}', "report"),
        (None, "cannot read the report"),
    ],
)
def test_what_is_no_report(content: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    result = CliRunner().invoke(_cli.cli, ["report", str(path)])
    assert (result.exit_code, "Traceback" in result.output) == (2, False)
    assert words in result.output


def test_an_unwritable_place_and_a_run_whose_folder_is_gone(
    run: tuple[CacheBuildReport, dict[str, Any]], tmp_path: Path
) -> None:
    report, settings = run
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report.to_dict()))
    here = f"--set=cache_staging_root={settings['cache_staging_root']}"
    refused = CliRunner().invoke(_cli.cli, ["report", str(path), here, "--html", str(tmp_path / "none" / "a.html")])
    assert (refused.exit_code, "cannot write" in refused.output) == (2, True)
    alone = CliRunner().invoke(
        _cli.cli, ["report", str(path), f"--set=cache_staging_root={tmp_path}", "--html", str(tmp_path / "a.html")]
    )
    assert alone.exit_code == 0, alone.output
    assert "folder of this run is gone" in (tmp_path / "a.html").read_text("utf-8")
    no_picture = CliRunner().invoke(
        _cli.cli, ["report", str(path), f"--set=cache_staging_root={tmp_path}", "--png", str(tmp_path / "a.png")]
    )
    assert (no_picture.exit_code, (tmp_path / "a.png").exists()) == (2, False)


@pytest.mark.parametrize("flag", ["--html", "--png"])
def test_a_full_disk_leaves_a_sentence_and_no_half_file(
    run: tuple[CacheBuildReport, dict[str, Any]], tmp_path: Path, flag: str
) -> None:
    """On a file system of 16 KiB, which only this command sees."""
    full, listing = tmp_path / "full", tmp_path / "listing"
    full.mkdir()
    script = (
        'mount -t tmpfs -o size=16k tmpfs "$1"\n'
        f'"$4" report last --set cache_staging_root="$2" {flag} "$1/a"\n'
        'code=$?; ls -A "$1" > "$3"; exit $code'
    )
    tool = str(Path(sys.executable).with_name("operator-tool"))
    words = [
        "unshare",
        "--mount",
        "/bin/sh",
        "-c",
        script,
        "sh",
        str(full),
        run[1]["cache_staging_root"],
        str(listing),
        tool,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, "No space left on device" in done.stderr) == (2, True), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert listing.read_text() == ""


def test_the_map_library_is_the_published_one() -> None:
    # The hashes that its makers publish for version 1.9.4.
    for name, sha256 in (
        ("leaflet.js", "20nQCchB9co0qIjJZRGuk2/Z9VM+kNiyxNV1lvTlZBo="),
        ("leaflet.css", "p4NxAoJBhIIN+hmNHrzRCf9tD/miZyoHS5obTRR9BMY="),
    ):
        data = (ROOT / "src" / "operator_tool" / "page" / name).read_bytes()
        assert base64.b64encode(hashlib.sha256(data).digest()).decode() == sha256
