# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`operator-tool flight show` and `operator-tool serve-flights`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ._cli_completion import complete_files
from ._cli_options import config, format_option, reports_errors, setting_options


@click.group()
def flight() -> None:
    """Look at flights."""


@flight.command("show")
@click.argument("file", metavar="FILE", shell_complete=complete_files)
@setting_options
@format_option
@reports_errors
def show(file: str, assignments: tuple[str, ...], **flags: Any) -> None:
    """What the tool reads out of a mission file: waypoints, ignored items and why, take-off, area, tiles."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import AreaError
    from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_file import read_flight_file
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_plan import plan_tiles

    settings = config(flags, assignments)
    found = read_flight_file(file)
    failure: AreaError | None = None
    description = describe_flight(found)
    try:
        area, tiles = plan_tiles(found, settings)
        box = area.bbox
        description["area"] = {
            "kind": str(area.kind),
            "area_km2": area.area_km2,
            "buffer_m": area.buffer_m,
            "bbox": [box.west, box.south, box.east, box.north],
        }
        description["tiles"] = {"total": len(tiles), "by_zoom": {str(z): n for z, n in tiles.counts_by_zoom.items()}}
    except AreaError as exc:
        failure = exc
    click.echo(json.dumps(description, indent=2) if flags["output_format"] == "json" else _human(description))
    if failure:
        raise failure


def describe_flight(found: Any) -> dict[str, Any]:
    """The flight as plain JSON values, each ignored item with its reason."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._report import to_plain

    return {
        "flight_id": found.flight_id,
        "name": found.name,
        "format": found.format,
        "fingerprint": found.fingerprint,
        "takeoff_origin": to_plain(found.takeoff_origin),
        "waypoints": [to_plain(waypoint) for waypoint in found.waypoints],
        "parts": [
            {
                "kind": part.kind.value,
                "why": part.why,
                "vertices": len(part.vertices),
                "half_width_m": part.half_width_m,
            }
            for part in found.parts
        ],
        "ignored": [to_plain(item) for item in found.ignored],
        "warnings": list(found.warnings),
        "area": None,
        "tiles": None,
    }


def _human(flight_data: dict[str, Any]) -> str:
    origin, area, tiles = flight_data["takeoff_origin"], flight_data["area"], flight_data["tiles"]
    altitude = "" if origin["alt_m"] is None else f", {origin['alt_m']:g} m"
    lines = [
        f"{flight_data['flight_id']} ({flight_data['format']}): {len(flight_data['waypoints'])} waypoints",
        f"  take-off    {origin['lat_deg']:.7f}, {origin['lon_deg']:.7f}{altitude} (rule: {origin['rule']})",
    ]
    for part in flight_data["parts"]:
        width = f", {part['half_width_m']:g} m to each side" if part["half_width_m"] else ""
        lines.append(f"  footprint   {part['why']}: {part['kind']} of {part['vertices']} vertices{width}")
    for waypoint in flight_data["waypoints"]:
        position = waypoint["position"]
        lines.append(f"  waypoint    {waypoint['source']}: {position['lat']:.7f}, {position['lon']:.7f}")
    for item in flight_data["ignored"]:
        command = "" if item["command"] is None else f" (command {item['command']})"
        lines.append(f"  ignored     {item['source']}{command}: {item['reason']}")
    lines += [f"  warning     {text}" for text in flight_data["warnings"]]
    if area:
        west, south, east, north = area["bbox"]
        lines.append(f"  area        {area['kind']}, {area['buffer_m']:g} m buffer, {area['area_km2']:.3f} km²")
        lines.append(f"  bounds      {south:.6f}, {west:.6f} to {north:.6f}, {east:.6f}")
    if tiles:
        counts = ", ".join(f"z{zoom}: {count}" for zoom, count in tiles["by_zoom"].items())
        lines.append(f"  tiles       {tiles['total']} ({counts})")
    return "\n".join(lines)


@click.command("serve-flights")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="Port; 0 for any free one."
)
@click.option(
    "--token-file",
    metavar="FILE",
    shell_complete=complete_files,
    help="File with the bearer token that requests must carry.",
)
@reports_errors
def serve_flights(folder: Path, host: str, port: int, token_file: str | None) -> None:
    """Serve a folder of mission files by the flights API's contract, until interrupted."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig, read_secret
    from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_server import FlightServer

    secret = PreflightConfig(flights_api_auth_token_file=token_file)
    token = read_secret(secret, "flights_api_auth_token", environ={}) if token_file else None
    server = FlightServer(folder, host=host, port=port, token=token, on_request=lambda line: click.echo(line, err=True))
    click.echo(f"serving {folder} at {server.base_url} (interrupt to end)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("ended", err=True)
