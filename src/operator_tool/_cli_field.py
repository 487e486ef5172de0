# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`operator-tool upload-landing` and `operator-tool reloc`: after the landing, and help in flight."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ._cli_options import companion, companion_options, format_option, reports_errors, setting_options, settings

if TYPE_CHECKING:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_report import (
        LandingRecordingReport,
        LandingReport,
    )

    from ._field import FieldRequest


def _request(flags: dict[str, Any], assignments: tuple[str, ...]) -> FieldRequest:
    from ._field import FieldRequest

    return FieldRequest(
        settings=settings(flags, assignments),
        config_file=flags["config_file"],
        companion=companion(flags),
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
