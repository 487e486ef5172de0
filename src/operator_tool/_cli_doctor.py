# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`operator-tool doctor`: is this workstation ready, and are its companions?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ._cli_options import companion, companion_options, format_option, reports_errors, setting_options, settings

if TYPE_CHECKING:
    from ._doctor import Finding
    from ._inventory import Companion, InventoryPart

__all__ = ["doctor"]

SIGNS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@click.command("doctor")
@click.option("--workstation", "workstation_only", is_flag=True, help="Look at this workstation only.")
@companion_options
@setting_options
@format_option
@reports_errors
def doctor(*, workstation_only: bool, assignments: tuple[str, ...], **flags: Any) -> None:
    """Check this workstation and the companions; each finding comes with its mend. Changes nothing.

    Companions are asked where --companion-host or an inventory names them. Exit code 0 where nothing fails; otherwise
    the code that a run would end with.
    """
    from ._doctor import exit_code_of

    for flag in ("companion_host", "limit"):
        if workstation_only and flags[flag]:
            raise click.UsageError(f"give --workstation or --{flag.replace('_', '-')}, not both")
    one = companion(flags)
    found: list[Finding] = []
    as_json = flags["output_format"] == "json"
    heading = None
    for finding in _findings(settings(flags, assignments), flags["config_file"], one, ask=not workstation_only):
        found.append(finding)
        if as_json:
            continue
        if not heading or heading[0] != finding.host:
            heading = (finding.host,)
            click.echo("this workstation" if finding.host is None else f"companion {finding.host}")
        sign, colour = SIGNS[finding.level]
        shown = click.style(sign, fg=colour) if not os.environ.get("NO_COLOR") else sign
        click.echo(f"  {shown}  {finding.check:<20} {finding.text}")
        if finding.hint and finding.level != "ok":
            click.echo(f"  {'':<4}  {'':<20} mend: {finding.hint}")
    code = exit_code_of(found)
    if as_json:
        document = {"ok": code == 0, "exit_code": int(code), "findings": [finding.to_dict() for finding in found]}
        click.echo(json.dumps(document, indent=2))
    else:
        failures, warnings = (sum(finding.level == level for finding in found) for level in ("fail", "warn"))
        click.echo(_verdict(failures, warnings))
    sys.exit(int(code))


def _findings(
    chosen: dict[str, Any], config_file: str | None, one: Companion | InventoryPart | None, *, ask: bool
) -> Iterator[Finding]:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._config import load_config
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError

    from ._doctor import examine_workstation, failed

    yield from examine_workstation(chosen, config_file=config_file)
    if not ask:
        return
    try:
        config = load_config(chosen, config_file=config_file)
    except CacheBuildError:
        return  # told already
    if one is None and not config.inventory:
        return
    from ._doctor_companion import examine_companions

    try:
        yield from examine_companions(config, one)
    except CacheBuildError as exc:
        yield failed("companions", exc)


def _verdict(failures: int, warnings: int) -> str:
    if not failures and not warnings:
        return "nothing is wrong"
    said = [
        f"{count} {word}{'s' * (count != 1)}" for count, word in ((failures, "failure"), (warnings, "warning")) if count
    ]
    return ", ".join(said)
