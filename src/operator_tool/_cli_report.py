# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""Looking at a run: in words, as a page, as a picture."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from ._cli_completion import complete_files, complete_reports
from ._cli_options import config, format_option, reports_errors, setting_options

if TYPE_CHECKING:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._report import CacheBuildReport

__all__ = ["report", "write_page", "write_whole"]

PAGE_TILES_MAX = 5_000
"""A larger map takes seconds to make small: then the page is made when somebody asks for it."""


@click.command()
@click.argument("run", metavar="RUN|REPORT", shell_complete=complete_reports)
@click.option(
    "--html",
    "html_path",
    metavar="FILE",
    shell_complete=complete_files,
    help="Write a page with the map; it needs no network.",
)
@click.option("--png", "png_path", metavar="FILE", shell_complete=complete_files, help="Write a picture of the map.")
@setting_options
@format_option
@reports_errors
def report(run: str, html_path: str | None, png_path: str | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """Show a run again: RUN is its id or `last`, REPORT its report file."""
    from ._report_view import view_of_report, view_of_run
    from ._summary import human_summary

    settings = config(flags, assignments)
    by_file = os.sep in run or run.endswith(".json")
    view = view_of_report(run, settings) if by_file else view_of_run(run, settings)
    if html_path:
        from ._report_page import report_page

        write_whole(html_path, report_page(view).encode())
    if png_path:
        from ._report_picture import report_picture

        write_whole(png_path, report_picture(view))
    if flags["output_format"] == "json":
        click.echo(json.dumps(view.report.to_dict(), indent=2))
        return
    click.echo(human_summary(view.report, run if by_file else None))
    for path in filter(None, (html_path, png_path)):
        click.echo(f"  written     {os.path.abspath(path)}")


def write_whole(path: str, content: bytes) -> None:
    """Write a file, whole or not at all."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._atomic_file import write_atomically
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError

    try:
        write_atomically(path, content)
    except OSError as exc:
        raise SettingsError(
            f"cannot write {path}: {exc.strerror}", remediation="Choose another place, or free some space."
        ) from None


def write_page(
    report: CacheBuildReport, report_path: str, chosen: dict[str, Any], config_file: str | None
) -> str | None:
    """The page of a run beside its report; None where it did nothing new or is large.

    A page is never worth a failure: what keeps it from being written is a warning.
    """
    from ansible_collections.gps_denied.preflight.plugins.module_utils._config import load_config
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError
    from ansible_collections.gps_denied.preflight.plugins.module_utils._report import CacheBuildOutcome

    from ._report_page import report_page
    from ._report_view import view_of_run

    large = report.download is not None and report.download.requested > PAGE_TILES_MAX
    if report.outcome is CacheBuildOutcome.IDEMPOTENT_NO_OP or report.flight is None or large:
        return None
    path = os.path.splitext(report_path)[0] + ".html"
    try:
        settings = load_config(chosen, config_file=config_file)
        write_whole(path, report_page(view_of_run(report.run_id, settings)).encode())
    except CacheBuildError as exc:
        click.echo(f"operator-tool: warning: no page of this run: {exc.message}", err=True)
        return None
    return path
