# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`operator-tool provision` and `enrol`: the rare jobs that make a companion ready, and trusted both ways."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._cli_completion import complete_files
from ._cli_options import companion, companion_options, config, format_option, reports_errors, setting_options

if TYPE_CHECKING:
    from ._provision import RootAccess

TASK = re.compile(r"TASK \[(?:[\w.]+ : )?([^\]]+)\]")
MAX_KEYS_BYTES = 64 * 1024


def _shown(verbose: int) -> Callable[[str], None]:
    """Ansible's own output, or the names of its steps alone."""

    def show(text: str) -> None:
        if verbose:
            click.echo(text, err=True)
        else:
            for step in TASK.findall(text):
                click.echo(f"  {step}", err=True)

    return show


def _access(flags: dict[str, Any], assignments: tuple[str, ...]) -> RootAccess:
    from ._provision import RootAccess

    password = None
    if flags["ask_become_pass"]:
        password = click.prompt("Password for sudo on the companion", hide_input=True, err=True)
    return RootAccess(
        config=config(flags, assignments),
        companion=companion(flags),
        become_password=password,
        check=flags["check"],
    )


ask_become_pass = click.option(
    "--ask-become-pass", "-K", is_flag=True, help="Ask for the password of sudo on the companion."
)
check_option = click.option("--check", is_flag=True, help="Dry run: say what would change, change nothing.")
verbose_option = click.option("-v", "--verbose", count=True, help="Show Ansible's own output.")


@click.command("provision")
@click.option(
    "--wheelhouse",
    "wheelhouse_path",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder made by `operator-tool wheelhouse` for this kind of companion.",
)
@click.option(
    "--authorized-keys",
    "authorized_keys_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Public SSH keys, one a line, that may log in as the account of the caches.",
)
@ask_become_pass
@companion_options
@check_option
@verbose_option
@setting_options
@format_option
@reports_errors
def provision(assignments: tuple[str, ...], **flags: Any) -> None:
    """Give companions their account, folders and builder, offline. Needs an account there that may sudo."""
    from ._provision import provision

    keys = _public_keys(flags["authorized_keys_path"]) if flags["authorized_keys_path"] else []
    done = provision(
        _access(flags, assignments),
        wheelhouse=flags["wheelhouse_path"],
        authorized_keys=keys,
        on_text=_shown(flags["verbose"]),
    )
    if flags["output_format"] == "json":
        click.echo(json.dumps({"check": flags["check"], "companions": done}, indent=2))
        return
    for name in done:
        click.echo(f"{name}: {'would be provisioned' if flags['check'] else 'provisioned'}")


def _public_keys(path: Path) -> list[str]:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError

    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            text = stream.read(MAX_KEYS_BYTES)
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror}") from None
    if "PRIVATE KEY" in text:
        raise SettingsError(f"{path} is a private key", remediation="Give its public half (.pub).")
    keys = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not keys:
        raise SettingsError(f"{path} holds no public key")
    return keys


@click.command("enrol")
@click.option("--fingerprint", metavar="SHA256:…", help="Fingerprint read off the companion's label or console.")
@click.option("--replace", is_flag=True, help="Replace another key that is pinned, after a known re-installation.")
@click.option(
    "--signer",
    "signers",
    multiple=True,
    metavar="KEY.pub",
    help="Public key whose grants the companion takes from now on; give all that count.",
)
@click.option(
    "--allowed-signers",
    metavar="FILE",
    shell_complete=complete_files,
    help="The same as a whole allowed_signers file, with times of validity.",
)
@click.option(
    "--revoke", "revoked", multiple=True, metavar="KEY", help="Public key file or SHA256: fingerprint to revoke."
)
@ask_become_pass
@companion_options
@check_option
@verbose_option
@setting_options
@format_option
@reports_errors
def enrol(assignments: tuple[str, ...], **flags: Any) -> None:
    """Make a companion and this workstation trust each other: pin its host key, give it your signing keys.

    The host key is pinned only against a fingerprint that you give or confirm. With --signer or --allowed-signers the
    companion gets its vehicle id and the keys, and takes signed grants only from then on; that needs an account there
    that may sudo. Without --companion-host the signers and revocations go to all companions of the inventory.
    """
    from ansible_collections.gps_denied.preflight.plugins.module_utils._trust_files import revoked_line, signer_lines

    from ._provision import install_trust

    # All that was given is looked at before anything is changed.
    lines = signer_lines(key_paths=flags["signers"], list_path=flags["allowed_signers"] or "")
    revoked = [revoked_line(key) for key in flags["revoked"]]
    host_key: dict[str, Any] | None = None
    done: list[str] = []
    if flags["companion_host"]:
        if not flags["vehicle_id"]:
            raise click.UsageError("--companion-host wants --vehicle-id: the key is pinned under the vehicle's name")
        host_key = _pin(flags, config(flags, assignments).companion_known_hosts_file)
    elif flags["fingerprint"] or not (lines or revoked):
        raise click.UsageError("give --companion-host, or --signer, --allowed-signers or --revoke for an inventory")
    if lines or revoked:
        access = _access(flags, assignments)
        done = install_trust(access, signers=lines, revoked=revoked, on_text=_shown(flags["verbose"]))
    if flags["output_format"] == "json":
        said = {"companions": done, "signers": len(lines), "revoked": len(revoked)}
        click.echo(json.dumps({"check": flags["check"], "host_key": host_key, **said}, indent=2))
        return
    for name in done:
        words = [f"takes grants of {len(lines)} key{'s' * (len(lines) != 1)} only"] if lines else []
        words += [f"{len(revoked)} key{'s' * (len(revoked) != 1)} revoked"] if revoked else []
        click.echo(f"{name}: {'dry run: ' if flags['check'] else ''}{', '.join(words)}")


def _pin(flags: dict[str, Any], path: str) -> dict[str, Any]:
    """Pin the key that the companion offers, where it is the one that is meant; what was done."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CompanionNotTrustedError
    from ansible_collections.gps_denied.preflight.plugins.module_utils._host_keys import (
        pin_host_key,
        pinned_keys,
        scan_host_key,
    )

    vehicle_id, host, fingerprint = flags["vehicle_id"], flags["companion_host"], flags["fingerprint"]
    key = scan_host_key(host, port=flags["companion_port"])
    if fingerprint is None and key in pinned_keys(path, vehicle_id):
        return {"fingerprint": key.fingerprint, "pinned": False, "file": path}  # confirmed once already
    if fingerprint is None:
        click.echo(f"{vehicle_id} at {host} offers {key.fingerprint}", err=True)
        if not sys.stdin.isatty():
            raise CompanionNotTrustedError(
                "nobody is there to confirm the fingerprint", remediation="Give it with --fingerprint."
            )
        click.confirm("Is that the fingerprint on the companion's label or console?", abort=True, err=True)
        fingerprint = key.fingerprint
    pinned = not flags["check"] and pin_host_key(
        path, vehicle_id, key, fingerprint=fingerprint, replace=flags["replace"]
    )
    if flags["output_format"] != "json":
        done = f"{'pinned' if pinned else 'was pinned already'} in {path}"
        dry = f"dry run: {key.fingerprint} not pinned"
        click.echo(f"{vehicle_id}: {dry if flags['check'] else f'{key.fingerprint} {done}'}")
    return {"fingerprint": key.fingerprint, "pinned": pinned, "file": path}
