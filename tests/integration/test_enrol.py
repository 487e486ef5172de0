# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolment against a real sshd: who a companion is, and whom it trusts from then on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from companions import ADMIN_USER, Companion, make_key

from operator_tool import BuildCacheRequest, CacheBuildOutcome, CacheBuildReport, FlightFromFile, build_cache
from operator_tool import Companion as OneCompanion
from operator_tool._cli import cli

EXAMPLES = Path(__file__).parents[2] / "examples"
TRUST = "/var/lib/gps-denied/trust"


@pytest.fixture
def known_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "trust" / "known_hosts"


def enrol(companion: Companion, known_hosts: Path, *arguments: str) -> Result:
    address = ("--companion-host", companion.address, "--vehicle-id", companion.name)
    return CliRunner().invoke(cli, ("enrol", *address, "--known-hosts-file", str(known_hosts), *arguments))


def fingerprint_on_console(companion: Companion) -> str:
    return companion.exec_root("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[1]


def test_enrolment(companion: Companion, known_hosts: Path) -> None:
    right = fingerprint_on_console(companion)
    blind = enrol(companion, known_hosts)
    assert blind.exit_code == 31
    assert right in blind.output
    wrong = enrol(companion, known_hosts, "--fingerprint", "SHA256:" + "A" * 43)
    assert wrong.exit_code == 31
    assert right in wrong.output
    assert not known_hosts.exists()

    assert enrol(companion, known_hosts, "--fingerprint", right).exit_code == 0
    assert known_hosts.read_text().startswith(f"{companion.name} ssh-ed25519 ")
    assert known_hosts.stat().st_mode & 0o077 == 0
    told = json.loads(enrol(companion, known_hosts, "--fingerprint", right, "--format", "json").stdout)
    assert told["host_key"] == {"fingerprint": right, "pinned": False, "file": str(known_hosts)}
    again = enrol(companion, known_hosts, "--fingerprint", right)
    assert (again.exit_code, "was pinned already" in again.output) == (0, True)
    companion.known_hosts_path = known_hosts
    assert companion.run("hostname").returncode == 0

    companion.replace_host_key()
    other = fingerprint_on_console(companion)
    changed = enrol(companion, known_hosts, "--fingerprint", other)
    assert changed.exit_code == 31
    assert right in changed.output
    assert other in changed.output
    assert enrol(companion, known_hosts, "--fingerprint", other, "--replace").exit_code == 0
    assert len(known_hosts.read_text().splitlines()) == 1


def test_a_companion_that_does_not_answer(companion: Companion, known_hosts: Path) -> None:
    companion.stop()
    result = enrol(companion, known_hosts, "--fingerprint", "SHA256:x")
    assert result.exit_code == 30
    assert not known_hosts.exists()


def trusting(companion: Companion, *arguments: str, vehicle_id: str = "") -> Result:
    """`operator-tool enrol` as its administrator, against the host key that is pinned."""
    where = ["--companion-host", companion.address, "--vehicle-id", vehicle_id or companion.name]
    where += ["--companion-user", ADMIN_USER, "--companion-key-file", str(companion.private_key_path)]
    where += ["--known-hosts-file", str(companion.known_hosts_path)]
    return CliRunner().invoke(cli, ["enrol", *where, *arguments])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the checkout, whose own settings file a run would take."""
    monkeypatch.chdir(tmp_path)


def build(companion: Companion, folder: Path, key: Path | None = None, vehicle_id: str = "") -> CacheBuildReport:
    settings: dict[str, Any] = {
        "cache_staging_root": str(folder / "staging"),
        "tile_source": str(EXAMPLES / "imagery" / "bali.pmtiles"),
        "flight_bbox_buffer_m": 20,
        "takeoff_radius_m": 20,
        "zooms": "18",
        "camera_agl_m": 60,
        "companion_known_hosts_file": str(companion.known_hosts_path),
        "grant_signing_key_file": str(key) if key else None,
    }
    one = OneCompanion(
        host=companion.address,
        user=companion.user,
        private_key_file=str(companion.private_key_path),
        vehicle_id=vehicle_id or companion.name,
    )
    flight = FlightFromFile(str(EXAMPLES / "flights" / "bali-survey.plan"))
    return build_cache(BuildCacheRequest(flight=flight, settings=settings, companion=one))


@pytest.mark.timeout(240)
def test_from_enrolment_on_signed_grants_alone_count(companion: Companion, tmp_path: Path) -> None:
    keys = {name: make_key(tmp_path / name) for name in ("first", "second", "foreign")}
    # Control: before it, an unsigned cache is activated.
    assert build(companion, tmp_path).outcome is CacheBuildOutcome.SUCCESS

    done = trusting(companion, "--signer", f"{keys['first']}.pub")
    assert done.exit_code == 0, done.output
    assert "takes grants of 1 key only" in done.output
    for key, reason in ((None, "no signature"), (keys["foreign"], "no allowed signer")):
        refused = build(companion, tmp_path, key)
        row = refused.companions[0]
        assert (refused.exit_code, row.failure_exception_type) == (33, "CacheVerifyError"), row.failure_message
        assert reason in str(row.failure_message)
    assert build(companion, tmp_path, keys["first"]).outcome is CacheBuildOutcome.SUCCESS
    assert build(companion, tmp_path, keys["first"]).outcome is CacheBuildOutcome.IDEMPOTENT_NO_OP

    # The account that builds caches cannot choose whom its companion trusts.
    for attempt in (f"echo x >> {TRUST}/allowed_signers", f"mv {TRUST} {TRUST}.old", f"rm -rf {TRUST}"):
        assert companion.run(attempt, check=False).returncode != 0
    # Hints to a vehicle in flight are signed with the same keys, for another purpose.
    assert "gps-denied-grant@v1,gps-denied-hint@v1" in companion.run(f"cat {TRUST}/allowed_signers").stdout
    assert companion.run(f"cat {TRUST}/vehicle_id; stat -c %U:%a {TRUST} {TRUST}/..").stdout.split() == [
        companion.name,
        "root:755",
        "root:1775",
    ]

    other = trusting(companion, "--signer", f"{keys['foreign']}.pub", vehicle_id="vehicle-09")
    assert (other.exit_code, "not the pinned one" in other.output or "fingerprint" in other.output) == (31, True)
    pinned = companion.known_hosts_path.read_text()
    companion.known_hosts_path.write_text(pinned + pinned.replace(companion.name, "vehicle-09"))
    other = trusting(companion, "--signer", f"{keys['foreign']}.pub", vehicle_id="vehicle-09")
    assert (other.exit_code, "enrolled as 'vehicle-01'" in other.output) == (31, True)
    mistaken = build(companion, tmp_path, keys["first"], vehicle_id="vehicle-09")
    assert (mistaken.exit_code, mistaken.companions[0].failure_exception_type) == (31, "VehicleIdMismatchError")

    # Rotation: the second key counts, the first is revoked; what it signed is refused and made anew.
    rotated = trusting(companion, "--signer", f"{keys['second']}.pub", "--revoke", f"{keys['first']}.pub")
    assert rotated.exit_code == 0, rotated.output
    assert build(companion, tmp_path, keys["first"]).exit_code == 33
    assert build(companion, tmp_path, keys["second"]).outcome is CacheBuildOutcome.SUCCESS


def test_a_trust_folder_that_the_account_has_planted_is_refused(companion: Companion, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    companion.run(f"ln -s /etc {TRUST}")
    refused = trusting(companion, "--signer", f"{key}.pub")
    assert (refused.exit_code, "is not a folder of root's" in refused.output) == (30, True)
    assert companion.exec_root("ls /etc/vehicle_id", check=False).returncode != 0
    companion.exec_root(f"rm {TRUST}")
    assert trusting(companion, "--signer", f"{key}.pub").exit_code == 0


def test_what_is_no_public_key_never_travels(tmp_path: Path, companion: Companion) -> None:
    key = make_key(tmp_path / "key")
    cert = tmp_path / "signers"
    cert.write_text(f"operator cert-authority {key.with_suffix('.pub').read_text()}")
    for arguments, said in (
        (("--signer", str(key)), "is a private key"),
        (("--signer", __file__), "is no OpenSSH public key"),
        (("--allowed-signers", str(cert)), "line 1 of allowed_signers is not understood"),
        (("--revoke", "SHA256:short"), "is no fingerprint"),
    ):
        refused = trusting(companion, *arguments)
        assert (refused.exit_code, said in refused.output) == (2, True), refused.output
    assert companion.exec_root(f"ls {TRUST}", check=False).returncode != 0
