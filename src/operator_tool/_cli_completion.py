# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`operator-tool completion`: what a shell evaluates to complete commands, options and their values.

Values come from the settings that the line so far has in force: `--staging-root` and `--config` count. A completion
that cannot be had is none; it never fails and never prints.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig

__all__ = [
    "Completer",
    "complete_files",
    "complete_flights",
    "complete_folders",
    "complete_reports",
    "complete_runs",
    "complete_sources",
    "completion",
]

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
MAX_SHOWN = 200


def _config(context: click.Context) -> PreflightConfig | None:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError

    from ._cli_options import config

    flags = {"config_file": None, **context.params}
    try:
        return config(flags, tuple(flags.get("assignments") or ()))
    except (CacheBuildError, click.ClickException, OSError):
        return None


def _items(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)][:MAX_SHOWN]


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder), reverse=True)
    except OSError:
        return []


def complete_files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files, by the shell itself."""
    return [CompletionItem(incomplete, type="file")]


def complete_folders(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Folders, by the shell itself."""
    return [CompletionItem(incomplete, type="dir")]


def complete_runs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Runs of this workstation, the newest first."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._run import RUN_ID_PATTERN

    config = _config(context)
    names = _names(os.path.join(config.cache_staging_root, "runs")) if config else []
    return _items((name for name in names if re.fullmatch(RUN_ID_PATTERN, name)), incomplete)


def complete_reports(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`last`, runs, and report files."""
    files = complete_files(context, parameter, incomplete)
    return [*_items(["last"], incomplete), *complete_runs(context, parameter, incomplete), *files]


def complete_flights(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids in the folder of flights; an API is not asked."""
    config = _config(context)
    if config is None or config.flights_api_base_url or not config.flights_dir:
        return []
    stems = {os.path.splitext(name)[0] for name in _names(config.flights_dir) if not name.startswith(".")}
    return _items(sorted(stems), incomplete)


def complete_sources(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shipped profiles that may be used offline, and files."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._provider_profiles import (
        load_profile,
        profile_ids,
    )

    usable = (name for name in profile_ids() if load_profile(name).get("offline_allowed", True))
    return [*_items(usable, incomplete), *complete_files(context, parameter, incomplete)]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell's completion of operator-tool; its documentation says where to put it."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    root = click.get_current_context().find_root().command
    # not `source()`: it starts a shell to learn its version
    script = kind(root, {}, "operator-tool", "_OPERATOR_TOOL_COMPLETE")
    click.echo(script.source_template % script.source_vars())
