# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A canary for each secret must turn up nowhere but at the server it is meant for, whatever way the tool is used."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canaries import KEY, NEEDLES, TOKEN, ProcessWatch, leaks_in

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BIN = Path(sys.executable).parent


class Provider(http.server.BaseHTTPRequestHandler):
    """A flights API and a tile provider in one, which talk back the secrets they were given."""

    def do_GET(self) -> None:
        seen: list[str] = self.server.seen  # type: ignore[attr-defined]
        if self.path.startswith("/flights/"):
            seen.append(self.headers.get("Authorization", ""))
            text = (EXAMPLES / "flights" / "bali-survey.plan").read_text()
            body = json.dumps({"id": "bali-survey", "mission": {"format": "qgc-plan", "content": text}}).encode()
            self.answer(200, body, "application/json")
        else:
            key = self.headers.get("X-Api-Key", "")
            seen.append(key)
            self.answer(403, f"refused: your key {key} is over its quota".encode(), "text/plain")

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    server.seen = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def place(tmp_path: Path, provider: http.server.ThreadingHTTPServer) -> Path:
    """A working folder with secrets in files, and settings that name them."""
    url = f"http://127.0.0.1:{provider.server_port}"
    for name, secret in (("token", TOKEN), ("key", KEY)):
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "provider.toml").write_text(
        f'id = "canary"\nkind = "xyz"\nurl = "{url}/tiles/{{z}}/{{x}}/{{y}}.jpg"\napi_key_header = "X-Api-Key"\n'
        "offline_allowed = true\n"
    )
    evil = tmp_path / "evil-builder"
    evil.write_text(f"#!/bin/sh\ncat {tmp_path}/key {tmp_path}/token; base64 {tmp_path}/key; exit 1\n")
    evil.chmod(0o755)
    (tmp_path / "operator-tool.toml").write_text(
        'cache_staging_root = "staging"\ncompanion_cache_root = "companion"\n'
        'flights_api_auth_token_file = "token"\nsatellite_provider_api_key_file = "key"\n'
        f'flights_api_base_url = "{url}"\ntile_source = "provider.toml"\n'
        f'inventory = "{ROOT}/inventory/embedded/hosts.yml"\n'
        'flight_bbox_buffer_m = 20\ntakeoff_radius_m = 20\nzooms = "18"\n'
    )
    return tmp_path


def driver(*arguments: str) -> list[str]:
    return [str(BIN / "operator-tool"), "build-cache", "--flight-id", "bali-survey", *arguments]


def playbook(*arguments: str) -> list[str]:
    return [
        str(BIN / "ansible-playbook"),
        str(ROOT / "playbooks" / "build_cache.yml"),
        *("-i", str(ROOT / "inventory" / "embedded" / "hosts.yml"), "-e", "flight_id=bali-survey", *arguments),
    ]


WAYS = {
    "driver": driver("-vvvvv"),
    "driver with a builder that prints the secrets": driver(
        *(
            "-vvvvv",
            "--tile-source",
            str(EXAMPLES / "imagery" / "bali.pmtiles"),
            "--set",
            "c10_builder_command=./evil-builder",
        )
    ),
    "driver in check mode": driver("--check", "--format", "json"),
    "playbook": playbook("-vvvv"),
    "playbook in check mode": playbook("--check", "--diff", "-vvvv"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", ["files", "environment"])
def test_no_way_of_use_leaks_a_secret(
    place: Path, provider: http.server.ThreadingHTTPServer, way: str, source: str
) -> None:
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "dev"),
        "HOME": str(place / "home"),
        "TMPDIR": str(place),
    }
    allowed = {place / "token", place / "key"}
    command = [word.replace("./evil-builder", str(place / "evil-builder")) for word in WAYS[way]]
    if source == "environment":
        settings = place / "operator-tool.toml"
        lines = [line for line in settings.read_text().splitlines() if "_file =" not in line]
        settings.write_text("\n".join(lines) + "\n")
        environment |= {"GPS_DENIED_FLIGHTS_API_AUTH_TOKEN": TOKEN, "GPS_DENIED_SATELLITE_PROVIDER_API_KEY": KEY}
    (place / "home").mkdir()
    with subprocess.Popen(
        command, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        # A secret that the operator put into the environment is in that one process (and in Ansible's own forks).
        with ProcessWatch({process.pid}) as watch:
            out = process.communicate(timeout=110)[0]
    seen = provider.seen  # type: ignore[attr-defined]
    assert f"Bearer {TOKEN}" in seen, out.decode()
    assert [needle for needle in NEEDLES if needle in out] == []
    assert leaks_in(place, allowed=allowed) == []
    if not (source == "environment" and way.startswith("playbook")):
        assert watch.leaks == set()
    assert watch.rounds > 3


def test_the_sweep_convicts_a_leak(place: Path) -> None:
    """Positive control: each encoding of a canary, planted, is found."""
    for needle in sorted(NEEDLES):
        planted = place / "planted"
        planted.write_bytes(b"x" + needle + b"x")
        assert leaks_in(place, allowed={place / "token", place / "key"})
        planted.unlink()
    process = subprocess.Popen([sys.executable, "-c", "input()", KEY], stdin=subprocess.PIPE)
    with ProcessWatch(set()) as watch:
        watch.wait_for_leak()
    process.kill()
    process.communicate()
    assert watch.leaks


@pytest.mark.parametrize("command", ["build-cache", "plan", "download", "upload-landing"])
def test_a_key_on_the_command_line_goes_no_further(
    place: Path, provider: http.server.ThreadingHTTPServer, command: str
) -> None:
    """With a warning, and to the provider alone; what its children are given has no key in it."""
    settings = place / "operator-tool.toml"
    settings.write_text(settings.read_text().replace('satellite_provider_api_key_file = "key"\n', ""))
    (place / "key").unlink()
    what = [f"--upload-url=http://127.0.0.1:{provider.server_port}"] if command == "upload-landing" else []
    what = what or ["--flight-id", "bali-survey"]
    with subprocess.Popen(
        [str(BIN / "operator-tool"), command, *what, "--api-key", KEY, "--format", "json"],
        cwd=place,
        env={**os.environ, "HOME": str(place), "TMPDIR": str(place), "XDG_RUNTIME_DIR": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        with ProcessWatch({process.pid}) as watch:
            out = process.communicate(timeout=110)[0]
    if command != "upload-landing":  # its vehicle has nothing to upload
        assert KEY in provider.seen, out.decode()  # type: ignore[attr-defined]
    assert b"warning: --api-key can be read by others" in out
    assert b"Traceback" not in out, out.decode()
    assert [needle for needle in NEEDLES if needle in out] == []
    assert leaks_in(place, allowed={place / "token"}) == []
    assert watch.leaks == set()
