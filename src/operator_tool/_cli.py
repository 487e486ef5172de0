# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The command line. Commands import what they need when they run, so that `--help` stays quick."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click

SETTING_FLAGS = (
    ("--staging-root", "cache_staging_root", "DIR", "Folder on this workstation for tiles, runs and reports."),
    ("--companion-cache-root", "companion_cache_root", "DIR", "Folder of the caches on the companion."),
    ("--flights-api-base-url", "flights_api_base_url", "URL", "Flights API in which ids resolve."),
    ("--flights-api-token-file", "flights_api_auth_token_file", "FILE", "File with the flights API's bearer token."),
    ("--flights-dir", "flights_dir", "DIR", "Folder in which ids resolve where there is no flights API."),
    (
        "--satellite-provider-url",
        "satellite_provider_url",
        "URL",
        "XYZ template of the tile provider: …/{z}/{x}/{y}.jpg",
    ),
    ("--tile-source", "tile_source", "PATH", "Provider profile (.toml), .pmtiles, .mbtiles, or z/x/y folder."),
    ("--api-key-file", "satellite_provider_api_key_file", "FILE", "File with the tile provider's API key."),
    ("--area", "flight_area_kind", "KIND", "corridor, bbox or polygon."),
    ("--buffer-m", "flight_bbox_buffer_m", "METRES", "Buffer around the route or its box."),
    ("--zoom", "zooms", "ZOOMS", "Zoom levels, as 16-18 or 16,18."),
    ("--coverage-tolerance", "coverage_tolerance_ratio", "RATIO", "Share of tiles that may be missing."),
    ("--lock-timeout-s", "lock_timeout_s", "SECONDS", "How long to wait for another run's lock."),
    ("--known-hosts-file", "companion_known_hosts_file", "FILE", "Pinned host keys of the companions."),
    ("--signing-key-file", "grant_signing_key_file", "FILE", "OpenSSH key that signs the grant of an activation."),
    ("--inventory", "inventory", "PATH", "Ansible inventory with the group companions."),
    ("--report", "report", "PATH", "Where the report is written."),
)


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag, name, metavar, text in reversed(SETTING_FLAGS):
        command = click.option(flag, name, metavar=metavar, help=text)(command)
    command = click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any other setting.")(
        command
    )
    return click.option(
        "--config", "config_file", metavar="FILE", help="Settings file (default: operator-tool.toml here)."
    )(command)


def _format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(["human", "json"]),
        default="human",
        show_default=True,
        help="Output.",
    )(command)


def _settings(flags: dict[str, Any], assignments: tuple[str, ...]) -> dict[str, Any]:
    settings = {name: flags[name] for _flag, name, _metavar, _text in SETTING_FLAGS if flags.get(name) is not None}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator:
            raise click.UsageError(f"--set wants NAME=VALUE, not {assignment!r}")
        settings[name.strip()] = value
    return settings


def _reports_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """A recognised failure becomes one sentence on stderr and its exit code."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError

        try:
            return command(*args, **kwargs)
        except CacheBuildError as exc:
            click.echo(f"operator-tool: {exc.message.rstrip('.')}. {exc.remediation}", err=True)
            raise SystemExit(int(exc.code)) from None

    return wrapper


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="gps-denied-preflight", prog_name="operator-tool")
def cli() -> None:
    """Prepare a drone's companion computer to find itself by camera when satellite navigation drops out."""


@cli.command("build-cache")
@click.option("--flight-id", metavar="ID", help="The flight's id in the flights API or the folder of flights.")
@click.option("--flight-file", metavar="FILE", help="A mission file (QGroundControl .plan, QGC WPL, …).")
@click.option(
    "--companion-host", metavar="HOST", help="One companion instead of an inventory; localhost is this machine."
)
@click.option("--companion-port", metavar="PORT", type=click.IntRange(1, 65535), default=22, show_default=True)
@click.option("--companion-user", metavar="USER", help="SSH user on the companion.")
@click.option("--companion-key-file", metavar="FILE", help="SSH private key for the companion.")
@click.option(
    "--vehicle-id", metavar="ID", help="Name under which the companion's host key is pinned (default: its host)."
)
@click.option(
    "--api-key", metavar="KEY", help="Tile provider's API key; others can read a command line: prefer --api-key-file."
)
@click.option("--check", is_flag=True, help="Dry run: resolve and check, change nothing.")
@click.option("-v", "--verbose", count=True, help="Show Ansible's own output; more for more.")
@_setting_options
@_format_option
@_reports_errors
def build_cache(flight_id: str | None, flight_file: str | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """Build, verify and activate the cache that a flight needs, on every companion."""
    from . import _build
    from ._progress_view import progress_view
    from ._summary import human_summary

    if bool(flight_id) == bool(flight_file):
        raise click.UsageError("give either --flight-id or --flight-file")
    secrets = {}
    if flags["api_key"]:
        click.echo(
            "operator-tool: warning: --api-key can be read by others on this machine; use --api-key-file", err=True
        )
        secrets["satellite_provider_api_key"] = flags["api_key"]
    companion = None
    if flags["companion_host"]:
        companion = _build.Companion(
            host=flags["companion_host"],
            port=flags["companion_port"],
            user=flags["companion_user"],
            private_key_file=flags["companion_key_file"],
            vehicle_id=flags["vehicle_id"],
        )
    request = _build.BuildCacheRequest(
        flight=_build.FlightById(flight_id) if flight_id else _build.FlightFromFile(str(flight_file)),
        settings=_settings(flags, assignments),
        secrets=secrets,
        config_file=flags["config_file"],
        companion=companion,
        check=flags["check"],
        verbosity=max(0, flags["verbose"] - 1),
    )
    as_json = flags["output_format"] == "json"
    show_text = (lambda text: click.echo(text, err=True)) if flags["verbose"] else None
    try:
        with progress_view(as_json=as_json) as on_progress:
            report = _build.build_cache(request, on_progress=on_progress, on_text=show_text)
    except _build.UnexpectedRunError as exc:
        click.echo(f"operator-tool: this is a defect of the tool: {exc}", err=True)
        raise SystemExit(1) from None
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else human_summary(report, request.settings))
    raise SystemExit(report.exit_code)


def run() -> int:
    """Run the command line; returns the exit code. A reader that goes away (`| head`) is no error."""
    try:
        result = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        return 130
    except click.ClickException as exc:
        exc.show()
        return 2
    except SystemExit as exc:
        return int(exc.code or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    return int(result or 0)
