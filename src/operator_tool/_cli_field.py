# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`operator-tool upload-landing` and `operator-tool reloc`: after the landing, and help in flight."""

from __future__ import annotations

import functools
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ._cli_options import (
    api_key_option,
    companion,
    companion_options,
    format_option,
    literal_api_key,
    reports_errors,
    setting_options,
    settings,
)

if TYPE_CHECKING:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_report import (
        LandingRecordingReport,
        LandingReport,
    )
    from ansible_collections.gps_denied.preflight.plugins.module_utils._reloc_report import HintReport

    from ._field import FieldRequest


def _request(flags: dict[str, Any], assignments: tuple[str, ...], *, vehicle_alone: bool = False) -> FieldRequest:
    from ._field import FieldRequest

    api_key = literal_api_key(flags) if "api_key" in flags else None
    return FieldRequest(
        settings=settings(flags, assignments),
        secrets={"satellite_provider_api_key": api_key} if api_key else {},
        config_file=flags["config_file"],
        companion=companion(flags, vehicle_alone=vehicle_alone),
        check=flags["check"],
        verbosity=max(0, flags["verbose"] - 1),
    )


def _perform(job: Any, request: FieldRequest, summary: Any, flags: dict[str, Any]) -> None:
    """Run a job with progress, show its report, and end with its exit code."""
    from ._build import UnexpectedRunError
    from ._progress_view import progress_view

    as_json = flags["output_format"] == "json"
    show_text = (lambda text: click.echo(text, err=True)) if flags["verbose"] else None
    try:
        with progress_view(as_json=as_json) as on_progress:
            report = job(request, on_progress=on_progress, on_text=show_text)
    except UnexpectedRunError as exc:
        click.echo(f"operator-tool: this is a defect of the tool: {exc}", err=True)
        raise SystemExit(1) from None
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else summary(report))
    raise SystemExit(report.exit_code)


@click.command("upload-landing")
@companion_options
@click.option("--upload-url", "landing_upload_url", metavar="URL", help="Base URL of the provider's upload API.")
@api_key_option
@click.option("--check", is_flag=True, help="Dry run: check the vehicles and list what they brought, change nothing.")
@click.option("-v", "--verbose", count=True, help="Show Ansible's own output; more for more.")
@setting_options
@format_option
@reports_errors
def upload_landing(assignments: tuple[str, ...], **flags: Any) -> None:
    """Bring home what landed vehicles recorded, and hand it to the tile provider."""
    from . import _field

    if flags["landing_upload_url"]:
        assignments = (*assignments, f"landing_upload_url={flags['landing_upload_url']}")
    _perform(_field.upload_landing, _request(flags, assignments), landing_summary, flags)


@click.command("reloc")
@click.option("--lat", "lat_deg", type=float, required=True, metavar="DEG", help="Latitude of its likely place.")
@click.option("--lon", "lon_deg", type=float, required=True, metavar="DEG", help="Longitude of its likely place.")
@click.option(
    "--radius-m", "radius_m", type=float, required=True, metavar="METRES", help="How far from there it may be."
)
@click.option("--yes", is_flag=True, help="The position is confirmed: do not ask.")
@click.option("--all", "for_all", is_flag=True, help="Give it to every companion of the inventory.")
@companion_options
@click.option("--check", is_flag=True, help="Dry run: let the companion check the hint, write nothing.")
@click.option("-v", "--verbose", count=True, help="Show Ansible's own output; more for more.")
@setting_options
@format_option
@reports_errors
def reloc(assignments: tuple[str, ...], **flags: Any) -> None:
    """Tell a vehicle that has lost itself about where it is, and wait until it has understood."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import PositionHintError
    from ansible_collections.gps_denied.preflight.plugins.module_utils._reloc_hint import check_place

    place = {name: flags[name] for name in ("lat_deg", "lon_deg", "radius_m")}
    check_place(**place)
    if not flags["yes"] and not flags["check"]:
        one = flags["vehicle_id"] or flags["companion_host"] or flags["limit"] or "the vehicle"
        vehicle = f"ALL vehicles{' of ' + flags['limit'] if flags['limit'] else ''}" if flags["for_all"] else one
        click.echo(
            f"{vehicle}: lat {flags['lat_deg']:.6f}, lon {flags['lon_deg']:.6f}, within {flags['radius_m']:g} m",
            err=True,
        )
        if not sys.stdin.isatty():
            raise PositionHintError("nobody is there to confirm the position", remediation="Give --yes knowingly.")
        click.confirm("Is the vehicle there?", abort=True, err=True)
    from . import _field

    where = _field.HintPlace(**place, vehicle_id=flags["vehicle_id"], for_all=flags["for_all"])
    request = _request(flags, assignments, vehicle_alone=True)
    _perform(functools.partial(_field.give_hint, place=where), request, hint_summary, flags)


def hint_summary(report: HintReport) -> str:
    """The end of a hint in a few lines for people."""
    lines = [_headline(report)]
    for row in report.companions:
        if row.failure_message:
            lines.append(f"  {row.host:<11} {row.failure_message}")
        else:
            within = "" if row.windows is None else f", {row.windows} windows of its index within"
            lines.append(f"  {row.host:<11} hint {row.sequence}: {row.outcome.value}{within}")
    return "\n".join(lines)


def _headline(report: Any) -> str:
    if not report.exit_code:
        return str(report.outcome.value)
    where = f" in phase {report.failure_phase}" if report.failure_phase else ""
    kind = f"exit code {report.exit_code}, {report.failure_exception_type}"
    message = str(report.failure_message).rstrip(".")
    return f"failure{where} ({kind}): {message}. {report.remediation}"


def _recording(item: LandingRecordingReport) -> str:
    counts = (
        f"{item.sent} sent, {item.known + item.found} there before, {item.rejected} rejected, {item.failed} failed, "
        f"{item.damaged} damaged"
    )
    return f"{item.id}: {item.state.value}, {item.tiles} tiles: {counts}" + (f" ({item.reason})" if item.reason else "")


def landing_summary(report: LandingReport) -> str:
    """The end of an upload in a few lines for people."""
    lines = [_headline(report)]
    for row in report.companions:
        if row.failure_message:
            lines.append(f"  {row.host:<11} {row.failure_message}")
        lines += [f"  {row.host:<11} {_recording(item)}" for item in row.recordings]
        if not row.recordings and not row.failure_message:
            lines.append(f"  {row.host:<11} nothing recorded")
    lines += [f"  warning     {text}" for text in report.warnings]
    return "\n".join(lines)
