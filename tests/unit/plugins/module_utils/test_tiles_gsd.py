# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import AreaError
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles import ground_resolution_m
from ansible_collections.gps_denied.preflight.plugins.module_utils._tiles_gsd import (
    ground_sample_distance_m,
    zooms_for_camera,
)

CAMERA = {"hfov_deg": 84.0, "width_px": 4000, "lat_deg": 47.0}


def test_a_field_of_view_of_ninety_degrees_sees_twice_the_height():
    assert ground_sample_distance_m(agl_m=100, hfov_deg=90, width_px=2000) == pytest.approx(0.1)


@pytest.mark.parametrize(("low_m", "high_m"), [(50, 50), (60, 120), (100, 1000), (300, 3000)])
def test_the_zooms_are_as_fine_as_the_camera_and_no_finer(low_m, high_m):
    zooms = zooms_for_camera(agl_m=(low_m, high_m), **CAMERA)
    for zoom, height_m in ((zooms[-1], low_m), (zooms[0], high_m)):
        gsd_m = ground_sample_distance_m(agl_m=height_m, hfov_deg=84, width_px=4000)
        assert ground_resolution_m(47, zoom) <= gsd_m < ground_resolution_m(47, zoom - 1)
    assert zooms == tuple(range(zooms[0], zooms[-1] + 1))


def test_the_source_bounds_the_zooms():
    assert zooms_for_camera(agl_m=(20, 5000), source_zooms=(14, 18), **CAMERA) == (16, 17, 18)
    assert zooms_for_camera(agl_m=(20, 30), source_zooms=(14, 18), **CAMERA) == (18,)
    assert zooms_for_camera(agl_m=(9e5, 9e6), source_zooms=(14, 18), **CAMERA) == (14,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agl_m": (0, 100)}, "height above ground is 0"),
        ({"agl_m": (100, math.inf)}, "height above ground is inf"),
        ({"agl_m": (100, 50)}, "the lowest comes first"),
        ({"hfov_deg": 180}, "field of view is 180"),
        ({"width_px": 0}, "width of the image is 0"),
        ({"source_zooms": (5, 4)}, "zooms of the tile source"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(AreaError, match=message):
        zooms_for_camera(**{"agl_m": (50, 100), **CAMERA, **changes})
