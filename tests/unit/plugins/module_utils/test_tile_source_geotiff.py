# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GeoTIFF files become tiles that lie where pyproj says; what is no picture of a place is one sentence."""

from __future__ import annotations

import io
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import TileSourceError
from ansible_collections.gps_denied.preflight.plugins.module_utils._geo import LonLat
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_download import download_tiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import open_source, spec_from_location
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source_geotiff import GeotiffTiles
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_store import TileStore
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import Tile, TileSet, tile_at, tile_bounds
from PIL import Image
from pyproj import Transformer
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin
from shared_data import shared_files

CENTRE = LonLat(lon=8.5417, lat=47.3769)
EDGE_PX, PIXEL_M = 512, 0.5
WAVE_DEG = 0.0003


def colours(lon: Any, lat: Any) -> Any:
    """Red tells the longitude, green the latitude: waves of about 25 m."""
    red = 127.5 + 100 * np.sin((lon - CENTRE.lon) / WAVE_DEG * 2 * np.pi)
    green = 127.5 + 100 * np.sin((lat - CENTRE.lat) / WAVE_DEG * 2 * np.pi)
    noise = np.indices(np.shape(lon)).sum(axis=0) % 2 * 40 + 100 if np.ndim(lon) else 120
    return np.stack([red, green, np.broadcast_to(noise, np.shape(red))]).clip(1, 254)


def placed(epsg: int) -> tuple[Affine, Any]:
    """Where a file around the centre lies in a coordinate system, and the colours of its pixels."""
    there = Transformer.from_crs(4326, epsg, always_xy=True)
    x, y = there.transform(CENTRE.lon, CENTRE.lat)
    pixel = PIXEL_M if epsg != 4326 else PIXEL_M / 80_000
    left, top = x - EDGE_PX / 2 * pixel, y + EDGE_PX / 2 * pixel
    columns, rows = np.meshgrid(np.arange(EDGE_PX) + 0.5, np.arange(EDGE_PX) + 0.5)
    lon, lat = there.transform(left + columns * pixel, top - rows * pixel, direction="INVERSE")
    return from_origin(left, top, pixel, pixel), colours(lon, lat).astype(np.uint8)


def write(path: Path, bands: Any, transform: Affine | None, *, epsg: int | None = 32632, **more: Any) -> Path:
    mask, alpha, colormap = more.pop("mask", None), more.pop("alpha", None), more.pop("colormap", None)
    if alpha is not None:
        bands = np.concatenate([bands, alpha[None]])
    profile = {"driver": "GTiff", "width": bands.shape[2], "height": bands.shape[1], "count": len(bands)}
    profile |= {"dtype": bands.dtype, "crs": None if epsg is None else f"EPSG:{epsg}", **more}
    if transform is not None:
        profile["transform"] = transform
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
            if alpha is not None:
                dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
            dataset.write(bands)
            if mask is not None:
                dataset.write_mask(mask)
            if colormap is not None:
                dataset.write_colormap(1, colormap)
    return path


def picture(body: bytes) -> Any:
    with Image.open(io.BytesIO(body)) as image:
        return np.asarray(image.convert("RGBA")).astype(int)


INSIDE = tile_at(CENTRE, 19)


def expected(tile: Tile) -> Any:
    box = tile_bounds(tile)
    share = (np.arange(256) + 0.5) / 256
    lon, lat = np.meshgrid(box.west + share * (box.east - box.west), box.north + share * (box.south - box.north))
    return np.moveaxis(colours(lon, lat), 0, -1)


@pytest.mark.parametrize(
    ("epsg", "kind"),
    [(32632, "png"), (3857, "png"), (4326, "auto"), (2056, "png"), (3395, "webp"), (3035, "png"), (32632, "jpg")],
)
def test_each_pixel_lies_where_it_belongs(tmp_path: Path, epsg: int, kind: str) -> None:
    transform, bands = placed(epsg)
    with GeotiffTiles(str(write(tmp_path / "a.tif", bands, transform, epsg=epsg)), image_format=kind) as source:
        found = source.read(INSIDE)
        assert found is not None
        again = source.read(INSIDE)
        assert again == found
    pixels = picture(found.body)
    seen = pixels[..., 3] > 0
    assert seen.mean() > 0.9
    apart = np.abs(pixels[..., :2] - expected(INSIDE)[..., :2])[seen]
    # A metre is 20 to 30 steps, a pixel of the file half of that; lossy formats take some more.
    assert np.percentile(apart, 95) <= (5 if kind == "png" else 12)
    # Positive control: the same picture a metre and a half to the side would not do.
    moved = np.abs(np.roll(pixels, 5, axis=1)[..., :2] - expected(INSIDE)[..., :2])[seen]
    assert np.percentile(moved, 95) > 20


@pytest.mark.parametrize("how", ["alpha", "mask", "nodata"])
def test_what_is_no_imagery_is_transparent_and_half_a_tile_of_it_a_hole(tmp_path: Path, how: str) -> None:
    transform, bands = placed(3857)
    west = np.zeros((EDGE_PX, EDGE_PX), dtype=np.uint8)
    west[:, : EDGE_PX // 2] = 255
    more: dict[str, Any] = {how: west}
    if how == "nodata":
        more = {"nodata": 0}
        bands = bands * (west > 0)
    path = write(tmp_path / "a.tif", bands, transform, epsg=3857, **more)
    with GeotiffTiles(str(path)) as source:
        tiles = [Tile(20, 2 * INSIDE.x + dx, 2 * INSIDE.y + dy) for dx in range(-2, 4) for dy in range(-2, 4)]
        shares = {}
        for tile in tiles:
            box = tile_bounds(tile)
            found = source.read(tile)
            inside = box.east < CENTRE.lon and found is not None
            if found is not None:
                shares[tile] = (picture(found.body)[..., 3] > 0).mean()
                assert shares[tile] >= 0.5
                assert not inside or shares[tile] > 0.4
            if box.west > CENTRE.lon:
                assert found is None
        assert shares
    assert any(share == 1 for share in shares.values())


def test_a_palette_becomes_colours(tmp_path: Path) -> None:
    transform, _bands = placed(32632)
    index = (np.indices((EDGE_PX, EDGE_PX)).sum(axis=0) // 32 % 2 + 1).astype(np.uint8)[None]
    table = {1: (200, 10, 10, 255), 2: (10, 10, 200, 255)}
    path = write(tmp_path / "a.tif", index, transform, colormap=table, photometric="palette")
    with GeotiffTiles(str(path), image_format="png") as source:
        found = source.read(INSIDE)
        assert found is not None
        colour = picture(found.body)[..., :3].reshape(-1, 3)
        assert {tuple(row) for row in np.unique(colour, axis=0).tolist()} <= {(200, 10, 10), (10, 10, 200), (0, 0, 0)}


def test_grey_becomes_grey_and_a_fourth_band_is_no_colour(tmp_path: Path) -> None:
    transform, bands = placed(32632)
    with GeotiffTiles(str(write(tmp_path / "grey.tif", bands[:1], transform)), image_format="png") as source:
        found = source.read(INSIDE)
        assert found is not None
        pixels = picture(found.body)
        assert (pixels[..., 0] == pixels[..., 2]).all()
    infrared = np.concatenate([bands, np.full((1, EDGE_PX, EDGE_PX), 7, dtype=np.uint8)])
    path = write(tmp_path / "nir.tif", infrared, transform, photometric="rgb", alpha=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [*dataset.colorinterp[:3], ColorInterp.undefined]
    with GeotiffTiles(str(path)) as source:
        found = source.read(INSIDE)
        assert found is not None
        assert np.abs(picture(found.body)[128, 128, :2] - expected(INSIDE)[128, 128, :2]).max() < 12


def test_the_finest_zoom_follows_from_the_file(tmp_path: Path) -> None:
    transform, bands = placed(32632)
    path = write(tmp_path / "Ortho 1.TIF", bands, transform)
    # Half a metre at 47° north is zoom 18 (0.40 m), and one finer is made of it.
    source = open_source(spec_from_location(str(path)))
    assert (source.id, source.spec.kind, source.spec.max_zoom) == ("Ortho-1", "geotiff", 19)
    source.check_zooms([19])
    with pytest.raises(TileSourceError, match="has zooms 0 to 19, and the flight asks for 20"):
        source.check_zooms([20])


def test_tiles_go_through_the_same_check_into_the_store_and_a_new_file_is_another_source(tmp_path: Path) -> None:
    transform, bands = placed(32632)
    path = write(tmp_path / "a.tif", bands, transform)
    around = [Tile(19, INSIDE.x + dx, INSIDE.y + dy) for dx in (-9, 0) for dy in (0, 1)]
    with TileStore(tmp_path / "tiles") as store:
        source = open_source(spec_from_location(str(path)))
        report = download_tiles(tiles=TileSet.from_tiles(around), source=source, store=store)
        assert (report.downloaded, report.missing, report.failed) == (2, 2, 0)
        write(path, bands[::-1], transform)
        other = open_source(spec_from_location(str(path)))
        assert other.source_key != source.source_key
        assert download_tiles(tiles=TileSet.from_tiles(around), source=other, store=store).downloaded == 2


def broken(tmp_path: Path, name: str) -> tuple[str, str]:
    transform, bands = placed(32632)
    path = tmp_path / "a.tif"
    if name == "no crs":
        return str(write(path, bands, transform, epsg=None)), "has no georeference .no coordinate system."
    if name == "no position":
        return str(write(path, bands, None)), "has no georeference .no position."
    if name == "control points":
        points = [rasterio.control.GroundControlPoint(row=r, col=c, x=8 + c / 1e5, y=47 - r / 1e5)
                  for r, c in ((0, 0), (0, 500), (500, 0))]  # fmt: skip
        return str(write(path, bands, None, epsg=4326, gcps=points)), "has no georeference"
    if name == "16 bit":
        return str(write(path, bands.astype(np.uint16), transform)), "has uint16 values, and 8-bit pictures are read"
    if name == "the pole":
        return str(write(path, bands, from_origin(0, 89, 1e-5, 1e-5), epsg=4326)), "where Web Mercator has no tiles"
    if name == "degrees as metres":
        return str(write(path, bands, from_origin(8.5, 47.4, 1e9, 1e9), epsg=32632)), "no place on earth|no tiles"
    if name == "no tiff":
        path.write_bytes(b"<html>sign in</html>" * 100)
        return str(path), "cannot be read as a GeoTIFF"
    if name == "cut in its head":
        write(path, bands, transform)
        path.write_bytes(path.read_bytes()[:40])
        return str(path), "cannot be read as a GeoTIFF"
    if name == "absent":
        return str(tmp_path / "absent.tif"), "cannot open the tile source .*absent.tif: No such file"
    if name == "folder":
        return str(tmp_path), "is not a file"
    return "/vsicurl/http://127.0.0.1:9/a.tif", "a tile source by /vsicurl is not read"


@pytest.mark.parametrize(
    "name",
    [
        "no crs", "no position", "control points", "16 bit", "the pole", "degrees as metres", "no tiff",
        "cut in its head", "absent", "folder", "virtual path",
    ],
)  # fmt: skip
def test_what_is_no_picture_of_a_place_is_one_sentence(tmp_path: Path, name: str) -> None:
    path, words = broken(tmp_path, name)
    with pytest.raises(TileSourceError, match=words) as caught:
        open_source({"id": "a", "kind": "geotiff", "path": path})
    assert "\n" not in caught.value.message


def test_a_file_cut_in_the_middle_ends_the_download_and_stores_nothing_of_the_rest(tmp_path: Path) -> None:
    transform, bands = placed(32632)
    path = write(tmp_path / "a.tif", bands, transform, tiled=True, blockxsize=128, blockysize=128)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    tiles = TileSet.from_tiles([Tile(19, INSIDE.x, INSIDE.y + dy) for dy in range(-3, 4)])
    with TileStore(tmp_path / "tiles") as store:
        source = open_source(spec_from_location(str(path)))
        with pytest.raises(TileSourceError, match="is damaged"):
            download_tiles(tiles=tiles, source=source, store=store)


def test_a_zoom_far_below_a_file_without_overviews_says_what_to_do(tmp_path: Path) -> None:
    transform, bands = placed(32632)
    path = write(tmp_path / "a.tif", bands, transform)
    with GeotiffTiles(str(path)) as source:
        with pytest.raises(TileSourceError, match="has no overviews") as caught:
            source.read(tile_at(CENTRE, 9))
        assert "gdaladdo" in caught.value.remediation


def test_a_file_on_the_network_is_to_be_downloaded_first() -> None:
    with pytest.raises(TileSourceError, match="not read over the network: a.example") as caught:
        spec_from_location("https://a.example/ortho.tif?sig=canary-5up3r-s3cr3t")
    assert "canary" not in str(caught.value.to_dict())


@pytest.mark.parametrize("kind", ["geotiff", "pmtiles", "folder"])
@pytest.mark.parametrize(
    "path",
    [
        "https://a.example/o.tif?sig=canary", "s3://canary/o.tif", "/vsicurl/https://a.example/canary.tif",
        "/vsizip/vsicurl/https://a.example/canary.zip", "zip+https://a.example/canary.zip",
    ],
)  # fmt: skip
def test_a_path_is_of_this_disk(path: str, kind: str, tmp_path: Path) -> None:
    profile = tmp_path / "a.toml"
    profile.write_text(f'id = "a"\nkind = "{kind}"\npath = "{path}"\n')
    for spec in (lambda: {"id": "a", "kind": kind, "path": path}, lambda: spec_from_location(str(profile))):
        with pytest.raises(TileSourceError, match="disk alone") as caught:
            open_source(spec())
        assert "Download the file first" in caught.value.remediation
        assert "canary" not in str(caught.value.to_dict())


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """A server on this machine that nobody has any business with."""
    with socket.create_server(("127.0.0.1", 0)) as server, rasterio.Env(GDAL_HTTP_TIMEOUT=1, GDAL_HTTP_MAX_RETRY=0):
        server.setblocking(False)
        yield server


def was_asked(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def pointing(tmp_path: Path, how: str, url: str) -> Path:
    """A file that names another one on a server."""
    transform, bands = placed(32632)
    path = write(tmp_path / "a.tif", bands, transform)
    source = f"<SourceFilename>/vsicurl/{url}</SourceFilename><SourceBand>1</SourceBand>"
    vrt = '<VRTDataset rasterXSize="512" rasterYSize="512"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    vrt += source + "</SimpleSource></VRTRasterBand></VRTDataset>"
    if how == "metadata":
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=url)
    elif how == "a virtual raster":
        path.write_text(vrt)
    elif how == "aux.xml":
        named = f'<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{url}</MDI></Metadata>'
        Path(f"{path}.aux.xml").write_text(f"<PAMDataset>{named}</PAMDataset>")
    else:
        Path(f"{path}.{how}").write_text(vrt)
    return path


@pytest.mark.parametrize("how", ["metadata", "a virtual raster", "aux.xml", "ovr", "msk"])
def test_a_file_that_names_a_server_makes_nobody_ask_it(how: str, tmp_path: Path, stranger: socket.socket) -> None:
    path = pointing(tmp_path, how, f"http://127.0.0.1:{stranger.getsockname()[1]}/a.tif")
    if how in {"aux.xml", "ovr"}:
        with GeotiffTiles(str(path)) as source:
            assert source.read(INSIDE) is not None
            with pytest.raises(TileSourceError, match="has no overviews"):
                source.read(tile_at(CENTRE, 9))
    else:
        words = "names other files|may point to other files|and only the GeoTIFF itself is read"
        with pytest.raises(TileSourceError, match=words) as caught:
            GeotiffTiles(str(path))
        assert "gdal_translate -of COG" in caught.value.remediation
    assert not was_asked(stranger)


def test_the_server_would_hear_of_it(tmp_path: Path, stranger: socket.socket) -> None:
    """Positive control: opened as rasterio does it, the same file makes GDAL ask."""
    path = pointing(tmp_path, "metadata", f"http://127.0.0.1:{stranger.getsockname()[1]}/a.tif")
    with rasterio.open(path) as dataset:
        dataset.overviews(1)
    assert was_asked(stranger)


@pytest.mark.parametrize("word", ["<NoDataValue>0</NoDataValue>", "<SRS>EPSG:3857</SRS>"])
def test_what_lies_beside_and_would_change_the_picture_is_said(tmp_path: Path, word: str) -> None:
    transform, bands = placed(32632)
    path = write(tmp_path / "a.tif", bands, transform)
    Path(f"{path}.aux.xml").write_text(f"<PAMDataset>{word}</PAMDataset>")
    with pytest.raises(TileSourceError, match=r"a.tif.aux.xml changes what a.tif shows"):
        GeotiffTiles(str(path))


def test_without_rasterio_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transform, bands = placed(32632)
    path = write(tmp_path / "a.tif", bands, transform)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(TileSourceError, match="need rasterio") as caught:
        open_source(spec_from_location(str(path)))
    assert "gps-denied-preflight[geotiff]" in caught.value.remediation


@pytest.mark.parametrize("path", shared_files("imagery/open", "*.tif"), ids=lambda path: path.name)
def test_real_files_give_tiles_or_say_why_not(path: Path) -> None:
    with GeotiffTiles(str(path)) as source, rasterio.open(path) as dataset:
        x, y = dataset.xy(dataset.height // 2, dataset.width // 2)
        lon, lat = Transformer.from_crs(dataset.crs, 4326, always_xy=True).transform(x, y)
        tile = tile_at(LonLat(lon=lon, lat=lat), source.max_zoom)
        if path.name == "rasterio_corrupt.tif":
            with pytest.raises(TileSourceError, match="is damaged"):
                source.read(tile)
        else:
            found = source.read(tile)
            assert found is None or picture(found.body).shape == (256, 256, 4)
            assert found is not None or path.name == "rasterio_alpha_nz.tif"
