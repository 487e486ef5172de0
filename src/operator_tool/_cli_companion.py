# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`operator-tool verify`, `sign` and `wheelhouse`: what concerns companions beside the build."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from ._cli_completion import complete_files, complete_flights
from ._cli_options import companion, companion_options, config, format_option, reports_errors, setting_options


@click.command("verify")
@click.option(
    "--flight-id", metavar="ID", shell_complete=complete_flights, help="The flight that the cache must be for."
)
@click.option("--content-id", metavar="SHA256", help="The content that the cache must have.")
@click.option("--route", metavar="PATH", help="A route file on the companion whose coverage is checked.")
@click.option("--fast", is_flag=True, help="Sizes and signature only, without hashing every byte.")
@companion_options
@setting_options
@format_option
@reports_errors
def verify(assignments: tuple[str, ...], **flags: Any) -> None:
    """Ask each companion for GO or NO-GO, as it answers itself before take-off."""
    from . import _runner
    from ._host_answers import silence_error
    from ._inventory import inventory_for

    settings = config(flags, assignments)
    variables = {
        "companion_known_hosts_file": os.path.abspath(settings.companion_known_hosts_file),
        "companion_cache_root": settings.companion_cache_root,
        "ssh_connect_timeout_s": settings.ssh_connect_timeout_s,
        "flight_id": flags["flight_id"] or "",
        "content_id": flags["content_id"] or "",
        "route": flags["route"] or "",
        "verify_mode": "fast" if flags["fast"] else "full",
    }
    with _runner.private_folder() as folder:
        inventory = inventory_for(companion(flags), settings, folder)
        result = _runner.run_playbook("verify_cache", private_dir=folder, inventory=inventory, variables=variables)
    answers = [_answer(host, outcome) for host, outcome in sorted(result.last_results.items())]
    if not result.finished or not answers:
        raise silence_error(result)
    if flags["output_format"] == "json":
        click.echo(json.dumps(answers, indent=2))
    else:
        for answer in answers:
            verdict = "GO" if answer["go"] else f"NO-GO ({answer['reason']}): {answer['message']}"
            until = f", valid until {answer['valid_until']}" if answer.get("valid_until") and answer["go"] else ""
            click.echo(f"{answer['host']}: {verdict}{until}")
    sys.exit(max(answer["exit_code"] for answer in answers))


def _answer(host: str, outcome: dict[str, Any]) -> dict[str, Any]:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._link_error import link_error

    cache = outcome.get("cache")
    if isinstance(cache, dict) and "go" in cache:
        return {"host": host, **cache, "exit_code": 0 if cache["go"] else 33}
    error = link_error(host, str(outcome.get("msg")))
    return {"host": host, "go": False, "reason": "no-answer", "message": error.message, "exit_code": int(error.code)}


@click.command("sign")
@click.argument("grant", metavar="GRANT", type=click.Path(path_type=Path))
@click.option(
    "--key-file",
    required=True,
    metavar="FILE",
    shell_complete=complete_files,
    help="Private key, or public half of an agent's or FIDO key.",
)
@format_option
@reports_errors
def sign(grant: Path, key_file: str, output_format: str) -> None:
    """Sign a grant's exact bytes; the signature is written beside it as GRANT.sig."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._atomic_file import write_atomically
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError
    from ansible_collections.gps_denied.preflight.plugins.module_utils._grant import Grant
    from ansible_collections.gps_denied.preflight.plugins.module_utils._ssh_signature import sign_text

    try:
        content = grant.read_bytes()
        Grant.parse(content)
        write_atomically(f"{grant}.sig", sign_text(content, key_path=key_file))
    except OSError as exc:
        raise SettingsError(f"cannot sign {grant}: {exc.strerror}") from None
    as_json = output_format == "json"
    click.echo(json.dumps({"signature": f"{grant}.sig"}, indent=2) if as_json else f"{grant}.sig")


@click.command("wheelhouse")
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--builder", metavar="PATH", type=click.Path(path_type=Path), required=True, help="Wheel or source of the builder."
)
@click.option(
    "--platform",
    default="x86_64-cp311",
    show_default=True,
    help="Machine and Python of the companion, such as aarch64-cp38.",
)
@click.option(
    "--extra", "extras", multiple=True, default=("orb", "lite0"), show_default=True, help="Parts of the builder."
)
@format_option
@reports_errors
def wheelhouse(target: Path, builder: Path, platform: str, extras: tuple[str, ...], output_format: str) -> None:
    """Collect the builder and all it needs, with hashes, for companions without a network."""
    from ._wheelhouse import TargetPlatform, make_wheelhouse

    made = make_wheelhouse(
        builder=builder,
        target=target,
        platform=TargetPlatform.parse(platform),
        extras=extras,
    )
    if output_format == "json":
        plain = {"path": str(made.path), "identity": made.identity}
        click.echo(json.dumps({**plain, "wheels": made.wheel_count, "size_bytes": made.size_bytes}, indent=2))
        return
    click.echo(f"{made.path}: {made.wheel_count} wheels, {made.size_bytes / 1e6:.0f} MB, identity {made.identity[:12]}")
