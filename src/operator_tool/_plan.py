# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The plan: what a build will fetch and cost, written down before anything is downloaded, and held to afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._atomic_file import write_atomically
from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight_source import resolve_flight
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import to_plain
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download_sample import estimate_download
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_plan import plan_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_settings import (
    configured_limits,
    configured_source,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore

from ._staging import staging_root

SCHEMA_VERSION = 1
COMPANION_DISK_FACTOR = 3
COMPANION_RESERVE_BYTES = 64 * 1024 * 1024
NOT_KEPT = ("report", "progress_socket", "expected_flight_fingerprint", "attach_run")


def make_plan(
    config: PreflightConfig, *, flight_id: str | None, flight_file: str | None, api_key: str | None = None
) -> dict[str, Any]:
    """Resolve the flight, sample the source, and reckon bytes, seconds, disk at both ends and price.

    Raises:
        CacheBuildError: as the phases up to the download do.
    """
    return make_plan_and_page(config, flight_id=flight_id, flight_file=flight_file, api_key=api_key)[0]


def make_plan_and_page(
    config: PreflightConfig, *, flight_id: str | None, flight_file: str | None, api_key: str | None = None
) -> tuple[dict[str, Any], Callable[[], str]]:
    """The plan, and what makes its page: the same flight, resolved once."""
    flight = resolve_flight(config, flight_id=flight_id, flight_file=flight_file)
    area, tiles = plan_tiles(flight, config)
    source = configured_source(config, api_key=api_key)
    with TileStore(staging_root(config) / "tiles") as store:
        estimate = estimate_download(tiles=tiles, source=source, store=store, limits=configured_limits(config))
    box = area.bbox
    plan = {
        "schema_version": SCHEMA_VERSION,
        "flight": {
            "flight_id": flight.flight_id,
            "given": {"flight_id": flight_id, "flight_file": os.path.abspath(flight_file) if flight_file else None},
            "fingerprint": flight.fingerprint,
            "warnings": list(flight.warnings),
        },
        "area": {
            "kind": str(area.kind),
            "area_km2": area.area_km2,
            "buffer_m": area.buffer_m,
            "bbox": [box.west, box.south, box.east, box.north],
        },
        "source_id": source.id,
        "estimate": to_plain(estimate),
        "disk": {
            "workstation_bytes": estimate.download_bytes + estimate.size_bytes,
            "companion_bytes": COMPANION_DISK_FACTOR * estimate.size_bytes + COMPANION_RESERVE_BYTES,
        },
        "settings": {
            name: value for name, value in config.to_dict().items() if value is not None and name not in NOT_KEPT
        },
    }

    def page() -> str:
        from ._report_page import plan_page

        return plan_page(plan, flight, area.to_geojson())

    return plan, page


def write_plan(plan: dict[str, Any], path: str) -> None:
    """Write the plan file, whole or not at all."""
    try:
        write_atomically(path, (json.dumps(plan, indent=2) + "\n").encode())
    except OSError as exc:
        raise SettingsError(f"cannot write the plan to {path}: {exc.strerror}") from None


def read_plan(path: str) -> dict[str, Any]:
    """A plan that `write_plan` wrote."""
    try:
        plan = json.loads(Path(path).read_bytes())
        version = plan["schema_version"]
        if version == SCHEMA_VERSION and plan["flight"]["fingerprint"] and isinstance(plan["settings"], dict):
            return dict(plan)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise SettingsError(f"{path} is no plan: {exc}", remediation="Make one with `operator-tool plan`.") from None
    raise SettingsError(f"{path} is a plan of schema version {version}, and this release reads {SCHEMA_VERSION}")


def human_plan(plan: dict[str, Any]) -> str:
    """The plan in a few lines for people."""
    estimate, area = plan["estimate"], plan["area"]
    size = f"{area['kind']} of {area['area_km2']:.3f} km², {area['buffer_m']:g} m buffer"
    attribution = f" ({estimate['attribution']})" if estimate["attribution"] else ""
    lines = [
        f"plan for flight {plan['flight']['flight_id']}: {size}",
        f"  source      {plan['source_id']}{attribution}",
    ]
    for zoom in estimate["zooms"]:
        missing = (
            f", {zoom['missing_in_sample']} of {zoom['sampled']} sampled missing" if zoom["missing_in_sample"] else ""
        )
        lines.append(
            f"  zoom {zoom['zoom']:<6} {zoom['tiles']} tiles, {zoom['present']} in the store,"
            f" about {zoom['tile_bytes'] / 1000:.0f} kB each{missing}"
        )
    absent, size_mb = estimate["tiles"] - estimate["present"], estimate["download_bytes"] / 1e6
    lines.append(f"  download    {absent} tiles, about {size_mb:.1f} MB in {estimate['seconds']:.0f} s")
    disk = plan["disk"]
    lines.append(
        f"  disk        {disk['workstation_bytes'] / 1e6:.0f} MB here,"
        f" {disk['companion_bytes'] / 1e6:.0f} MB on each companion"
    )
    if estimate["price"] is not None:
        lines.append(f"  price       {estimate['price']:.2f} {estimate['price_currency'] or ''}".rstrip())
    if estimate["terms_url"]:
        note = f": {estimate['terms_note']}" if estimate["terms_note"] else ""
        lines.append(f"  terms       {estimate['terms_url']}{note}")
    return "\n".join(lines + [f"  warning     {text}" for text in plan["flight"]["warnings"]])
