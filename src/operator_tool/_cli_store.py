# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`operator-tool store`: how large the workstation's tile store is, and how to make it smaller."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from ._cli_options import config, format_option, reports_errors, setting_options


@click.command("store")
@click.option("--compact", is_flag=True, help="Give back the space of tiles that were replaced by newer ones.")
@click.option(
    "--limit-gb",
    type=click.FloatRange(min=0.0),
    metavar="GB",
    help="Forget the tiles fetched longest ago until the others need no more than this, and give their space back.",
)
@setting_options
@format_option
@reports_errors
def store(*, compact: bool, limit_gb: float | None, assignments: tuple[str, ...], **flags: Any) -> None:
    """Show what the store of tiles on this workstation takes, by source; make it smaller where asked."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store_compact import (
        compact_store,
        measure_store,
    )

    root = Path(config(flags, assignments).cache_staging_root).absolute() / "tiles"
    smaller = compact or limit_gb is not None
    done = None
    with TileStore(root, alone=smaller) as opened:
        if smaller:
            done = compact_store(opened, max_bytes=None if limit_gb is None else int(limit_gb * 1e9))
        size = measure_store(opened)
    if flags["output_format"] == "json":
        plain = {"size": dataclasses.asdict(size), "done": None if done is None else dataclasses.asdict(done)}
        click.echo(json.dumps(plain, indent=2))
        return
    if done is not None:
        click.echo(
            f"{done.freed_bytes / 1e6:.1f} MB given back; {done.forgotten_tiles} tiles forgotten, "
            f"{done.damaged} damaged bodies found"
        )
    click.echo(
        f"{size.tiles} tiles in {root}: {size.live_bytes / 1e6:.1f} MB, "
        f"and {size.dead_bytes / 1e6:.1f} MB that --compact gives back"
    )
    for source in size.sources:
        click.echo(f"  {source.tiles:>10} tiles {source.size_bytes / 1e6:>10.1f} MB  {source.source_key}")
