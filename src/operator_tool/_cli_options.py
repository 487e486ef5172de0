# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""Options that several commands share, and the one way in which a command fails."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ._cli_completion import complete_files, complete_folders, complete_sources

if TYPE_CHECKING:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig

    from ._inventory import Companion, InventoryPart

SSH_PORT = 22
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
    ("--tile-source", "tile_source", "PATH", "Provider profile (.toml), .pmtiles, .mbtiles, .tif, or z/x/y folder."),
    ("--api-key-file", "satellite_provider_api_key_file", "FILE", "File with the tile provider's API key."),
    ("--area", "flight_area_kind", "KIND", "corridor, bbox or polygon."),
    ("--buffer-m", "flight_bbox_buffer_m", "METRES", "Buffer around the route or its box."),
    ("--zoom", "zooms", "ZOOMS", "Zoom levels, as 16-18 or 16,18; default: by camera and height."),
    ("--refresh-after", "refresh_after_h", "HOURS", "Ask again for stored tiles that are older than this."),
    ("--coverage-tolerance", "coverage_tolerance_ratio", "RATIO", "Share of tiles that may be missing."),
    ("--sync-limit", "sync_limit_kib_per_s", "KIB/S", "Largest rate of the sync to each companion."),
    ("--lock-timeout-s", "lock_timeout_s", "SECONDS", "How long to wait for another run's lock."),
    ("--known-hosts-file", "companion_known_hosts_file", "FILE", "Pinned host keys of the companions."),
    ("--signing-key-file", "grant_signing_key_file", "FILE", "OpenSSH key that signs the grant of an activation."),
    ("--inventory", "inventory", "PATH", "Ansible inventory with the group companions."),
    ("--build-lease-s", "build_lease_s", "SECONDS", "End a build that nobody has followed for this long."),
    ("--report", "report", "PATH", "Where the report is written."),
)
CONTRADICTIONS = (
    ("--tile-source", "--satellite-provider-url"),
    ("--flights-api-base-url", "--flights-dir"),
)
"""Either names the same thing: given both, nobody could tell which is meant."""
COMPLETED = {"FILE": complete_files, "PATH": complete_files, "DIR": complete_folders}


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag, name, metavar, text in reversed(SETTING_FLAGS):
        complete = complete_sources if name == "tile_source" else COMPLETED.get(metavar)
        command = click.option(flag, name, metavar=metavar, help=text, shell_complete=complete)(command)
    command = click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any other setting.")(
        command
    )
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        shell_complete=complete_files,
        help="Settings file (default: operator-tool.toml here).",
    )(command)


def api_key_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--api-key",
        metavar="KEY",
        help="Tile provider's API key; others can read a command line: prefer --api-key-file.",
    )(command)


def literal_api_key(flags: dict[str, Any]) -> str | None:
    """The key that was given on the command line, with a warning that it is no secret there."""
    key: str | None = flags["api_key"]
    if not key:
        return None
    if flags["satellite_provider_api_key_file"]:
        raise click.UsageError("give --api-key-file or --api-key, not both")
    click.echo("operator-tool: warning: --api-key can be read by others on this machine; use --api-key-file", err=True)
    return key


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(["human", "json"]),
        default="human",
        show_default=True,
        help="Output.",
    )(command)


def settings(flags: dict[str, Any], assignments: tuple[str, ...]) -> dict[str, Any]:
    settings = {name: flags[name] for _flag, name, _metavar, _text in SETTING_FLAGS if flags.get(name) is not None}
    given = {flag for flag, name, _metavar, _text in SETTING_FLAGS if name in settings}
    for pair in CONTRADICTIONS:
        if given.issuperset(pair):
            raise click.UsageError(f"give {pair[0]} or {pair[1]}, not both")
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator:
            raise click.UsageError(f"--set wants NAME=VALUE, not {assignment!r}")
        settings[name.strip()] = value
    return settings


def reports_errors(command: Callable[..., Any]) -> Callable[..., Any]:
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


def companion_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--companion-host", metavar="HOST", help="One companion instead of an inventory."),
            click.option(
                "--companion-port", metavar="PORT", type=click.IntRange(1, 65535), default=SSH_PORT, show_default=True
            ),
            click.option("--companion-user", metavar="USER", help="SSH user on the companion."),
            click.option(
                "--companion-key-file",
                metavar="FILE",
                shell_complete=complete_files,
                help="SSH private key for the companion.",
            ),
            click.option(
                "--vehicle-id", metavar="ID", help="Name under which its host key is pinned (default: its host)."
            ),
            click.option(
                "--limit", metavar="PATTERN", help="These companions of the inventory alone, as drone-1,drone-4."
            ),
        )
    ):
        command = option(command)
    return command


def companion(flags: dict[str, Any], *, vehicle_alone: bool = False) -> Companion | InventoryPart | None:
    """The companion that the flags name, or the part of the inventory, or None for the whole of it.

    Args:
        flags: what was given.
        vehicle_alone: `--vehicle-id` names a host of the inventory where no companion is given.
    """
    from ._inventory import Companion, InventoryPart

    if flags["companion_host"] and flags.get("inventory"):
        raise click.UsageError("give --companion-host or --inventory, not both")
    if flags["companion_host"] and flags["limit"]:
        raise click.UsageError("--limit chooses from an inventory: give --companion-host or --limit, not both")
    if not flags["companion_host"]:
        names = ("companion_user", "companion_key_file", *(() if vehicle_alone else ("vehicle_id",)))
        alone = [name for name in names if flags[name]]
        alone += ["companion_port"] if flags["companion_port"] != SSH_PORT else []
        if alone:
            flag = "--" + alone[0].replace("_", "-")
            raise click.UsageError(f"{flag} goes with --companion-host; companions of an inventory have theirs in it")
        return InventoryPart(flags["limit"]) if flags["limit"] else None
    return Companion(
        host=flags["companion_host"],
        port=flags["companion_port"],
        user=flags["companion_user"],
        private_key_file=flags["companion_key_file"],
        vehicle_id=flags["vehicle_id"],
    )


def config(flags: dict[str, Any], assignments: tuple[str, ...]) -> PreflightConfig:
    """The settings in force under these flags."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._config import load_config

    return load_config(settings(flags, assignments), config_file=flags["config_file"])
