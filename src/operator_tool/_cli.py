# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The command line. Commands import what they need when they run, so that `--help` stays quick."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from ._cli_companion import sign, verify, wheelhouse
from ._cli_completion import complete_files, complete_flights, complete_runs, completion
from ._cli_doctor import doctor
from ._cli_enrol import enrol, provision
from ._cli_field import reloc, upload_landing
from ._cli_flight import flight, serve_flights
from ._cli_options import (
    api_key_option,
    companion,
    companion_options,
    config,
    format_option,
    literal_api_key,
    reports_errors,
    setting_options,
    settings,
)
from ._cli_report import report, write_page
from ._cli_store import store
from ._cli_tiles import download, plan
from ._terminal import forgiving_streams


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="gps-denied-preflight", prog_name="operator-tool")
def cli() -> None:
    """Prepare a drone's companion computer to find itself by camera when satellite navigation drops out."""


@cli.command("build-cache")
@click.option(
    "--flight-id",
    metavar="ID",
    shell_complete=complete_flights,
    help="The flight's id in the flights API or the folder of flights.",
)
@click.option(
    "--flight-file",
    metavar="FILE",
    shell_complete=complete_files,
    help="A mission file (QGroundControl .plan, QGC WPL, …).",
)
@click.option(
    "--plan",
    "plan_file",
    metavar="FILE",
    shell_complete=complete_files,
    help="Apply a plan; refused where its flight has changed.",
)
@click.option(
    "--attach",
    "attach_run",
    metavar="RUN",
    shell_complete=complete_runs,
    help="Follow on the build of an earlier run of this workstation.",
)
@companion_options
@api_key_option
@click.option("--check", is_flag=True, help="Dry run: resolve and check, change nothing.")
@click.option("-v", "--verbose", count=True, help="Show Ansible's own output; more for more.")
@setting_options
@format_option
@reports_errors
def build_cache(flight_id: str | None, flight_file: str | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """Build, verify and activate the cache that a flight needs, on every companion."""
    from . import _build
    from ._attach import earlier_run
    from ._plan import read_plan
    from ._progress_view import progress_view
    from ._summary import human_summary

    chosen = settings(flags, assignments)
    if flags["plan_file"]:
        planned = read_plan(flags["plan_file"])
        flight_id, flight_file = planned["flight"]["given"]["flight_id"], planned["flight"]["given"]["flight_file"]
        chosen = {**planned["settings"], **chosen, "expected_flight_fingerprint": planned["flight"]["fingerprint"]}
    if sum(map(bool, (flight_id, flight_file, flags["attach_run"]))) != 1:
        raise click.UsageError("give one of --flight-id, --flight-file, --plan and --attach")
    if flags["attach_run"]:
        flight_source, earlier = earlier_run(config(flags, assignments), flags["attach_run"])
        chosen = {**earlier, **chosen}
    else:
        flight_source = _build.FlightById(flight_id) if flight_id else _build.FlightFromFile(str(flight_file))
    api_key = literal_api_key(flags)
    request = _build.BuildCacheRequest(
        flight=flight_source,
        settings=chosen,
        secrets={"satellite_provider_api_key": api_key} if api_key else {},
        config_file=flags["config_file"],
        companion=companion(flags),
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
    path = _build.report_path(request, report)
    page = write_page(report, path, chosen, flags["config_file"]) if path else None
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else human_summary(report, path, page))
    raise SystemExit(report.exit_code)


cli.add_command(flight)
cli.add_command(serve_flights)
cli.add_command(plan)
cli.add_command(download)
cli.add_command(store)
cli.add_command(report)
cli.add_command(provision)
cli.add_command(enrol)
cli.add_command(verify)
cli.add_command(sign)
cli.add_command(wheelhouse)
cli.add_command(doctor)
cli.add_command(completion)
cli.add_command(upload_landing)
cli.add_command(reloc)


def run() -> int:
    """Run the command line; returns the exit code. A reader that goes away (`| head`) is no error."""
    with forgiving_streams() as streams:
        code = _code()
        sys.stdout.flush()
        lost = streams.lost_output()
        if lost:
            click.echo(
                f"operator-tool: the output cannot be written: {lost.strerror}. The command itself ended with code "
                f"{code}; free some space, or write to another place.",
                err=True,
            )
    return code or (2 if lost else 0)


def _code() -> int:
    try:
        result = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("operator-tool: cancelled. What is complete is kept, and the next run goes on from there.", err=True)
        return 130
    except click.ClickException as exc:
        exc.show()
        return 2
    except SystemExit as exc:
        return int(exc.code or 0)
    return int(result or 0)
