# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`operator-tool plan` and `operator-tool download`: what a build will fetch, and the download phase alone."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from ._cli_completion import complete_files, complete_flights
from ._cli_options import api_key_option, config, format_option, literal_api_key, reports_errors, setting_options


@click.command("download")
@click.option(
    "--flight-id",
    metavar="ID",
    shell_complete=complete_flights,
    help="The flight's id in the flights API or the folder of flights.",
)
@click.option("--flight-file", metavar="FILE", shell_complete=complete_files, help="A mission file.")
@click.option(
    "--retry-failed",
    metavar="REPORT",
    shell_complete=complete_files,
    help="Take just the tiles that this report lists as failed or missing.",
)
@api_key_option
@setting_options
@format_option
@reports_errors
def download(
    flight_id: str | None, flight_file: str | None, retry_failed: str | None, assignments: tuple[str, ...], **flags: Any
) -> None:
    """Bring the tiles that a flight needs into the workstation's store, and prove the coverage."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_source import resolve_flight
    from ansible_collections.gps_denied.preflight.plugins.module_utils._lock import acquire_lock, release_lock
    from ansible_collections.gps_denied.preflight.plugins.module_utils._report import to_plain
    from ansible_collections.gps_denied.preflight.plugins.module_utils._run import new_run_id
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_coverage import read_failed_tiles
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import (
        DownloadProgress,
        download_tiles,
    )
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download_holes import describe_stretches
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_plan import plan_tiles
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_proof import (
        check_download,
        examine_download,
    )
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_settings import (
        configured_limits,
        configured_source,
    )
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore

    from ._progress_view import progress_view
    from ._staging import staging_root

    if sum(map(bool, (flight_id, flight_file, retry_failed))) != 1:
        raise click.UsageError("give one of --flight-id, --flight-file and --retry-failed")
    api_key = literal_api_key(flags)
    settings = config(flags, assignments)
    flight = None
    if retry_failed:
        tiles = read_failed_tiles(retry_failed)
    else:
        flight = resolve_flight(settings, flight_id=flight_id, flight_file=flight_file)
        tiles = plan_tiles(flight, settings)[1]
    source = configured_source(settings, api_key=api_key)
    root = staging_root(settings)
    as_json = flags["output_format"] == "json"
    holder = acquire_lock(
        str(root / settings.lock_filename),
        run_id=new_run_id(),
        serves_pid=os.getpid(),
        timeout_s=settings.lock_timeout_s,
    )
    try:
        with progress_view(as_json=as_json) as show, TileStore(root / "tiles") as store:

            def on_progress(progress: DownloadProgress) -> None:
                show(
                    {
                        "t": "progress",
                        "phase": "download",
                        "done": progress.done,
                        "total": progress.total,
                        "unit": "tiles",
                    }
                )

            report = download_tiles(
                tiles=tiles,
                source=source,
                store=store,
                on_progress=on_progress,
                limits=configured_limits(settings),
                ask_again=bool(retry_failed),
            )
            report = examine_download(report, tiles=tiles, source=source, store=store, flight=flight)
    finally:
        release_lock(holder)
    if as_json:
        click.echo(json.dumps(to_plain(report), indent=2))
    else:
        click.echo(
            f"{report.present} of {report.requested} tiles from {report.source_id}: {report.downloaded} downloaded, "
            f"{report.reused + report.revalidated} from the store, {report.missing} missing, {report.failed} failed, "
            f"{report.placeholder} placeholders; {report.bytes / 1e6:.1f} MB in {report.elapsed_s:.1f} s"
        )
        along = describe_stretches(report.route_holes)
        lines = [f"  holes       {along}"] if along else []
        if report.placement:
            lines.append(f"  placement   {str(report.placement['verdict']).replace('_', ' ')}")
        for line in [*lines, *(f"  warning     {text}" for text in report.warnings)]:
            click.echo(line)
    check_download(report, source=source, tolerance_ratio=settings.coverage_tolerance_ratio)


@click.command("plan")
@click.option(
    "--flight-id",
    metavar="ID",
    shell_complete=complete_flights,
    help="The flight's id in the flights API or the folder of flights.",
)
@click.option("--flight-file", metavar="FILE", shell_complete=complete_files, help="A mission file.")
@click.option(
    "--out", metavar="FILE", shell_complete=complete_files, help="Write the plan, for `build-cache --plan FILE`."
)
@click.option(
    "--html",
    "html_path",
    metavar="FILE",
    shell_complete=complete_files,
    help="Write a page with the map; it needs no network.",
)
@api_key_option
@setting_options
@format_option
@reports_errors
def plan(
    flight_id: str | None,
    flight_file: str | None,
    out: str | None,
    html_path: str | None,
    assignments: tuple[str, ...],
    **flags: Any,
) -> None:
    """Show tiles, bytes, seconds, disk and price of a build before anything but a small sample is downloaded."""
    from ._cli_report import write_whole
    from ._plan import human_plan, make_plan_and_page, write_plan

    if bool(flight_id) == bool(flight_file):
        raise click.UsageError("give either --flight-id or --flight-file")
    made, page = make_plan_and_page(
        config(flags, assignments), flight_id=flight_id, flight_file=flight_file, api_key=literal_api_key(flags)
    )
    if out:
        write_plan(made, out)
    if html_path:
        write_whole(html_path, page().encode())
    click.echo(json.dumps(made, indent=2) if flags["output_format"] == "json" else human_plan(made))
