# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`operator-tool completion`: what a shell evaluates to complete commands, options and their values."""

from __future__ import annotations

import click

__all__ = ["completion"]


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
