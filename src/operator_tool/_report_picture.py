# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""A run as one picture, for a message or a notebook: the map with area, route, take-off and holes, and the verdict."""

from __future__ import annotations

import io
import math

from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError, SettingsError
from ansible_collections.gps_denied.preflight.plugins.module_utils._flight import RouteKind
from PIL import Image, ImageDraw, ImageFont

from ._map_previews import TILE_PX, Key, preview_tiles
from ._report_view import ReportView, verdict_of

__all__ = ["report_picture"]

MAX_SIDE_PX = 1600
BANNER_PX = 64
COLOURS = {"go": (20, 113, 61), "look": (138, 90, 0), "no-go": (179, 38, 30)}


def report_picture(view: ReportView) -> bytes:
    """A PNG, at most 1600 pixels a side and a banner.

    Raises:
        SettingsError: the run has no tiles to draw.
    """
    parts: dict[tuple[int, int], Image.Image] = {}
    zooms: list[int] = []

    def keep(picture: Image.Image, key: Key) -> None:
        parts[key[1], key[2]] = picture
        zooms.append(key[0])

    try:
        previews = preview_tiles(view.archive_path, on_tile=keep) if view.archive_path else None
    except (OSError, ValueError, CacheBuildError) as exc:
        raise SettingsError(f"the tiles of this run cannot be read: {exc}") from None
    if previews is None:
        raise SettingsError("this run has no tiles to draw", remediation="Use --html, which shows the report alone.")
    zoom = zooms[0]
    left, top = (min(place[axis] for place in parts) for axis in (0, 1))
    right, bottom = (max(place[axis] for place in parts) + 1 for axis in (0, 1))
    scale = min(1.0, MAX_SIDE_PX / (TILE_PX * max(right - left, bottom - top)))
    side = max(1, round(TILE_PX * scale))
    canvas = Image.new("RGB", ((right - left) * side, (bottom - top) * side + BANNER_PX), (233, 237, 241))
    for (x, y), picture in parts.items():
        canvas.paste(picture.resize((side, side)), ((x - left) * side, (y - top) * side + BANNER_PX))
    draw = ImageDraw.Draw(canvas, "RGBA")

    def place(lat: float, lon: float) -> tuple[float, float]:
        count = float(1 << zoom)
        row = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * count
        return ((lon + 180) / 360 * count - left) * side, (row - top) * side + BANNER_PX

    for polygon in (view.area or {}).get("coordinates", ()):
        for ring in polygon:
            draw.line([place(lat, lon) for lon, lat in ring], fill=(31, 111, 235, 255), width=3)
    for tile in view.holes:
        x, y, size = int(tile["x"]), int(tile["y"]), 2.0 ** (zoom - int(tile["z"])) * side
        factor = size / side
        corner = ((x * factor - left) * side, (y * factor - top) * side + BANNER_PX)
        draw.rectangle((*corner, corner[0] + size, corner[1] + size), fill=(224, 0, 0, 120), outline=(224, 0, 0, 255))
    if view.flight:
        for part in view.flight.parts:
            points = [place(vertex.position.lat, vertex.position.lon) for vertex in part.vertices]
            points += points[:1] if part.kind is RouteKind.POLYGON else []
            if len(points) > 1:
                draw.line(points, fill=(255, 212, 0, 255), width=3)
        x_px, y_px = place(view.flight.takeoff_origin.lat_deg, view.flight.takeoff_origin.lon_deg)
        draw.ellipse((x_px - 8, y_px - 8, x_px + 8, y_px + 8), fill=(208, 28, 139, 255), outline="white", width=2)
    verdict = verdict_of(view.report)
    draw.rectangle((0, 0, canvas.width, BANNER_PX), fill=COLOURS[verdict.level])
    name = view.report.flight.flight_id if view.report.flight else ""
    # the built-in face knows Latin only; anything else in a flight's name must not end in an error
    line = f"{name}  {view.report.run_id}  {view.attribution}".encode("latin-1", "replace").decode("latin-1")
    draw.text((12, 8), verdict.headline, fill="white", font=ImageFont.load_default(22))
    draw.text((12, 38), line, fill="white", font=ImageFont.load_default(16))
    packed = io.BytesIO()
    canvas.save(packed, "PNG")
    return packed.getvalue()
