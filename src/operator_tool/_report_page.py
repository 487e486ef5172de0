# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""A run, or a plan, as one HTML page that needs no network: the map of the cache's own tiles, the report beside it.

Texts of the report are data: they stand in tables escaped, and in the script's data as JSON that the page puts in as
text. The page's own policy allows its two scripts, by their hashes, and no request whatever.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import Flight, RouteKind
from ansible_collections.gps_denied.preflight.plugins.module_utils._report import CacheBuildReport, CompanionReport
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download_holes import describe_stretches

from ._map_previews import MapPreviews, preview_tiles
from ._report_view import MapView, ReportView, verdict_of

__all__ = ["plan_page", "report_page"]

FOLDER = Path(__file__).parent / "page"
MAX_HOLES = 5_000
WINDOWS = {"described": "described", "reused": "reused", "excluded": "without imagery"}
Rows = Iterable[tuple[str, str]]


def report_page(view: ReportView) -> str:
    """The page of a run. An archive that cannot be read leaves a page without imagery that says so."""
    previews, trouble = _previews(view)
    verdict = verdict_of(view.report)
    name = view.report.flight.flight_id if view.report.flight else view.report.run_id
    return _page(
        title=f"{name}: {verdict.level.upper()}",
        level=verdict.level,
        headline=verdict.headline,
        subtitle=f"Flight {name}, run {view.report.run_id}. The check at take-off decides, not this page.",
        remarks=verdict.reasons,
        note=_map_note(view, previews, trouble),
        sections=_sections(view.report),
        data=_map_data(view, previews),
    )


def plan_page(plan: Mapping[str, Any], flight: Flight, area: Mapping[str, Any]) -> str:
    """The page of a plan: where it goes and what it costs, before a tile is there to be shown.

    Args:
        plan: As `make_plan` gives it.
        flight: The flight it was made for.
        area: Its area, a GeoJSON MultiPolygon.
    """
    name, estimate, disk = flight.flight_id, plan["estimate"], plan["disk"]
    download_mb, here_mb, there_mb = (
        value / 1e6 for value in (estimate["download_bytes"], disk["workstation_bytes"], disk["companion_bytes"])
    )
    price = f"{estimate['price']:.2f} {estimate['price_currency'] or ''}" if estimate["price"] is not None else ""
    sections = [
        _table("Flight", (("id", name), ("name", flight.name or ""), ("format", flight.format))),
        _table(
            "Area",
            (
                ("kind", plan["area"]["kind"]),
                ("size", f"{plan['area']['area_km2']:.3f} km²"),
                ("buffer", f"{plan['area']['buffer_m']:g} m"),
            ),
        ),
        _table(
            "Tiles", ((f"zoom {z['zoom']}", f"{z['tiles']}, {z['present']} in the store") for z in estimate["zooms"])
        ),
        _table(
            "Cost",
            (
                ("source", plan["source_id"]),
                ("download", f"about {download_mb:.1f} MB in {estimate['seconds']:.0f} s"),
                ("disk", f"{here_mb:.0f} MB here, {there_mb:.0f} MB on each companion"),
                ("price", price),
                ("terms", estimate["terms_url"] or ""),
            ),
        ),
    ]
    return _page(
        title=f"{name}: plan",
        level="plan",
        headline=f"Plan of flight {name}",
        subtitle="Nothing has been downloaded but a small sample.",
        remarks=tuple(plan["flight"]["warnings"]),
        note='<p class="soft">A plan shows the route and the area alone; the page of the run shows the imagery.</p>',
        sections="\n".join(sections),
        data=_map_data(MapView(flight=flight, area=dict(area)), None),
    )


def _page(
    *,
    title: str,
    level: str,
    headline: str,
    subtitle: str,
    remarks: Sequence[str],
    note: str,
    sections: str,
    data: Mapping[str, Any],
) -> str:
    scripts = [(FOLDER / name).read_text("utf-8") for name in ("leaflet.js", "page.js")]
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    styles = "\n".join(_without_pictures((FOLDER / name).read_text("utf-8")) for name in ("leaflet.css", "page.css"))
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}"
    # `</script>` and `<!--` inside a text must not end the element that carries it
    carried = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    body = "\n".join(f"<script>{script}</script>" for script in scripts)
    listed = "".join(f"<li>{_text(remark)}</li>" for remark in remarks)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{styles}</style>
</head>
<body>
<header class="{level}"><h1>{_text(headline)}</h1><p>{_text(subtitle)}</p></header>
<main>
<section><div id="map"></div>{note}</section>
<section>
{f"<h2>Remarks</h2><ul>{listed}</ul>" if listed else ""}
{sections}
</section>
</main>
<script type="application/json" id="data">{carried}</script>
{body}
</body>
</html>
"""


def _text(value: object) -> str:
    return html.escape(str(value))


def _without_pictures(style: str) -> str:
    """Leaflet's style without its icon files, which a page in one piece does not have and does not use."""
    return "\n".join(line for line in style.splitlines() if "url(" not in line)


def _previews(view: ReportView) -> tuple[MapPreviews | None, str]:
    if view.archive_path is None:
        return None, ""
    try:
        return preview_tiles(view.archive_path), ""
    except (OSError, ValueError, CacheBuildError) as exc:
        return None, f"The tiles of this run cannot be read: {exc}"


def _map_note(view: ReportView, previews: MapPreviews | None, trouble: str) -> str:
    if trouble:
        note = trouble
    elif view.folder_gone:
        note = "The folder of this run is gone from this workstation: there is no map to show."
    elif previews is None:
        note = "This run has no tiles to show."
    elif previews.unreadable:
        note = f"{previews.unreadable} tiles cannot be shown. The pictures are small copies of the cache's tiles."
    else:
        note = "The pictures are small copies of the cache's own tiles."
    return f'<p class="soft">{_text(note)}</p>'


def _map_data(view: MapView, previews: MapPreviews | None) -> dict[str, Any]:
    holes = list(view.holes)[:MAX_HOLES]
    tiles = {
        f"{z}/{x}/{y}": "data:image/jpeg;base64," + base64.b64encode(data).decode()
        for (z, x, y), data in (previews.tiles.items() if previews else ())
    }
    return {
        "tiles": tiles,
        "map": {
            "nativeMinZoom": previews.min_zoom if previews else None,
            "nativeMaxZoom": previews.max_zoom if previews else None,
            "maxZoom": (previews.max_zoom + 4) if previews else 19,
            "bounds": _bounds(view),
            "attribution": view.attribution,
        },
        "area": view.area,
        "route": list(_route(view.flight)) if view.flight else [],
        "takeoff": [view.flight.takeoff_origin.lat_deg, view.flight.takeoff_origin.lon_deg] if view.flight else None,
        "holes": [_hole(tile) for tile in holes],
        "zones": view.zones,
    }


def _route(flight: Flight) -> Iterable[dict[str, Any]]:
    for part in flight.parts:
        points = [[vertex.position.lat, vertex.position.lon] for vertex in part.vertices]
        if points:
            why = part.why.replace("_", " ")
            yield {"points": points, "closed": part.kind is RouteKind.POLYGON, "why": why}


def _tile_bounds(z: int, x: int, y: int) -> list[list[float]]:
    """South-west and north-east corner of a tile, degrees (Web Mercator)."""
    count = float(1 << z)

    def lat(row: float) -> float:
        return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / count))))

    return [[lat(y + 1), x / count * 360 - 180], [lat(y), (x + 1) / count * 360 - 180]]


def _hole(tile: Any) -> dict[str, Any]:
    z, x, y = int(tile["z"]), int(tile["x"]), int(tile["y"])
    why = str(tile.get("reason") or tile.get("error") or "missing")
    return {"bounds": _tile_bounds(z, x, y), "text": f"{z}/{x}/{y}: {why}"}


def _bounds(view: MapView) -> list[list[float]] | None:
    points: list[Sequence[float]] = []
    if view.area:
        for polygon in view.area.get("coordinates", ()):
            points += [(lat, lon) for ring in polygon for lon, lat in ring]
    elif view.flight:
        points += [point for part in _route(view.flight) for point in part["points"]]
    if not points:
        return None
    lats, lons = [point[0] for point in points], [point[1] for point in points]
    return [[min(lats), min(lons)], [max(lats), max(lons)]]


def _table(title: str, rows: Rows) -> str:
    cells = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows if value)
    return f"<h2>{_text(title)}</h2><table>{cells}</table>" if cells else ""


def _sections(report: CacheBuildReport) -> str:
    parts = [_table("Result", _result(report)), _table("Flight", _flight(report)), _table("Map", _map(report))]
    parts += [_table(f"Companion {row.host}", _companion(row)) for row in report.companions]
    parts.append(
        _table("Seconds", ((name.replace("_", " "), f"{value:.1f}") for name, value in report.timings_s.items()))
    )
    parts.append(_table("Versions", report.versions.items()))
    return "\n".join(part for part in parts if part)


def _result(report: CacheBuildReport) -> Rows:
    yield "outcome", report.outcome.value
    yield "exit code", str(report.exit_code)
    yield "failed in", (report.failure_phase or "").replace("_", " ")
    yield "because", report.failure_message or ""
    yield "next step", report.remediation or ""


def _flight(report: CacheBuildReport) -> Rows:
    flight = report.flight
    if flight is None:
        return
    yield "id", flight.flight_id
    yield "name", flight.name or ""
    yield "format", f"{flight.format}, {flight.waypoint_count} waypoints"
    origin = flight.takeoff_origin
    yield "take-off", f"{origin.get('lat_deg')}, {origin.get('lon_deg')} ({str(origin.get('rule')).replace('_', ' ')})"
    if flight.area:
        yield "area", f"{flight.area.kind}, {flight.area.area_km2:.3f} km², {flight.area.buffer_m:g} m buffer"


def _map(report: CacheBuildReport) -> Rows:
    download = report.download
    if download is None:
        return
    yield "source", download.source_id
    yield "zooms", ", ".join(map(str, download.zooms))
    new, kept = download.downloaded, download.reused
    yield "tiles", f"{download.present} of {download.requested} ({new} downloaded, {kept} from the store)"
    yield "holes on the route", describe_stretches(download.route_holes)
    if download.imagery:
        known = {key: value for key, value in download.imagery.items() if value not in (None, "", 0)}
        yield "imagery", ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in known.items())
    if download.placement:
        yield "placement", str(download.placement.get("verdict", ""))


def _companion(row: CompanionReport) -> Rows:
    yield "outcome", row.outcome.value
    yield "failed in", (row.failure_phase or "").replace("_", " ")
    yield "because", row.failure_message or ""
    yield "next step", row.remediation or ""
    if row.cache:
        yield "generation", row.cache.generation
        yield "content", row.cache.content_id
    if row.sync:
        yield "sent", f"{row.sync.bytes_sent / 1e6:.1f} of {row.sync.bytes_total / 1e6:.1f} MB"
    if row.build:
        build = row.build
        coverage, windows, quality = build.coverage or {}, build.windows or {}, build.quality or {}
        if coverage.get("covered_ratio") is not None:
            yield "covered", f"{coverage['covered_ratio']:.1%} of the area"
        if coverage.get("localisable_ratio") is not None:
            yield "easily recognised", f"{coverage['localisable_ratio']:.0%} of the map"
        if windows.get("planned"):
            parts = ((windows.get(key, 0), text) for key, text in WINDOWS.items())
            yield "windows", ", ".join(f"{count} {text}" for count, text in parts)
        yield "model", str((build.model or {}).get("id") or "")
        if quality.get("hard_r1") is not None:
            yield "found again in the air (made pictures)", f"{quality['hard_r1']:.0%}"
    if row.timings_s:
        yield "seconds", ", ".join(f"{name.replace('_', ' ')} {value:.1f}" for name, value in row.timings_s.items())
