# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._config import (
    PreflightConfig,
    load_config,
    parse_zooms,
    read_secret,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError


def load(tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, **overrides: Any) -> PreflightConfig:
    path = tmp_path / "operator-tool.toml"
    path.write_text(text)
    return load_config(overrides, environ=environ or {}, config_file=str(path))


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    text, environ = "lock_timeout_s = 3\n", {"GPS_DENIED_LOCK_TIMEOUT_S": "2"}
    assert load(tmp_path).lock_timeout_s == 0
    assert load(tmp_path, text).lock_timeout_s == 3
    assert load(tmp_path, text, environ).lock_timeout_s == 2
    assert load(tmp_path, text, environ, lock_timeout_s=1).lock_timeout_s == 1


def test_a_flag_of_zero_is_given(tmp_path: Path) -> None:
    assert load(tmp_path, "lock_timeout_s = 3\n", lock_timeout_s=0).lock_timeout_s == 0


def test_relative_paths_count_from_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, 'flights_dir = "flights"\n').flights_dir == str(tmp_path / "flights")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("16-18", (16, 17, 18)), ("18,16", (16, 18)), (17, (17,)), ([18, 17, 18], (17, 18)), ("16..17", (16, 17))],
)
def test_zooms(text: Any, expected: tuple[int, ...]) -> None:
    assert parse_zooms(text) == expected


@pytest.mark.parametrize(("given", "expected"), [("true", True), (True, True), ("No", False), (False, False)])
def test_true_and_false(tmp_path: Path, given: Any, expected: bool) -> None:
    assert load(tmp_path).allow_plain_http is False
    assert load(tmp_path, allow_plain_http=given).allow_plain_http is expected
    assert load(tmp_path, "allow_plain_http = true\n").allow_plain_http is True


def test_hours_may_be_left_out(tmp_path: Path) -> None:
    assert load(tmp_path).refresh_after_h is None
    assert load(tmp_path, refresh_after_h="36").refresh_after_h == 36.0
    assert load(tmp_path, "refresh_after_h = 0\n").refresh_after_h == 0.0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"zooms": "high"}, "zooms are 'high'"),
        ({"zooms": "25"}, "from 0 to 24"),
        ({"flight_area_kind": "circle"}, "corridor, bbox or polygon"),
        ({"flight_bbox_buffer_m": "wide"}, "flight_bbox_buffer_m is 'wide': give a number"),
        ({"flight_bbox_buffer_m": -1}, "from 0 up"),
        ({"flight_bbox_buffer_m": "nan"}, "from 0 up"),
        ({"build_timeout_s": 0}, "above 0"),
        ({"coverage_tolerance_ratio": 2}, "from 0 to 1"),
        ({"refresh_after_h": "soon"}, "refresh_after_h is 'soon': give a number"),
        ({"refresh_after_h": "nan"}, "hours from 0 up"),
        ({"refresh_after_h": -1}, "hours from 0 up"),
        ({"allow_plain_http": "perhaps"}, "allow_plain_http is 'perhaps': give true or false"),
        ({"camera_hfov_deg": 190}, "from 1 to 170"),
        ({"lock_filename": "../x"}, "plain file name"),
        ({"companion_cache_root": "relative"}, "absolute path"),
        ({"no_such": 1}, "there is no setting 'no_such'"),
    ],
)
def test_a_bad_setting_is_one_sentence(tmp_path: Path, overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(tmp_path, **overrides)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense = 1\n", "unknown setting 'nonsense'"),
        ("a = = 1\n", "cannot read settings"),
        ('flights_api_auth_token = "x"\n', "holds the secret flights_api_auth_token"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(tmp_path, text)


def test_no_secret_is_a_field() -> None:
    assert not any(name.endswith(("token", "api_key")) for name in PreflightConfig().to_dict())


def test_secret_from_file_before_environment(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("from-file\n")
    path.chmod(0o600)
    environ = {"GPS_DENIED_FLIGHTS_API_AUTH_TOKEN": "from-environment"}
    assert read_secret(PreflightConfig(), "flights_api_auth_token", environ=environ) == "from-environment"
    config = PreflightConfig(flights_api_auth_token_file=str(path))
    assert read_secret(config, "flights_api_auth_token", environ=environ) == "from-file"


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"secret", 0o644, "open to others"),
        (b"secret", 0o640, "open to others"),
        (b"", 0o600, "one line"),
        (b"a\nb", 0o600, "one line"),
        (b"\xff", 0o600, "one line"),
        (b"x" * 20000, 0o600, "one line"),
    ],
)
def test_a_secret_file_that_cannot_be_trusted_is_refused(tmp_path: Path, content: bytes, mode: int, words: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(SettingsError, match=words):
        read_secret(
            PreflightConfig(satellite_provider_api_key_file=str(path)), "satellite_provider_api_key", environ={}
        )


def test_a_missing_secret_file_is_named(tmp_path: Path) -> None:
    config = PreflightConfig(satellite_provider_api_key_file=str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="none: No such file"):
        read_secret(config, "satellite_provider_api_key", environ={})


def test_zooms_are_chosen_from_the_camera() -> None:
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_plan import choose_zooms

    low, high = PreflightConfig(camera_agl_m=60), PreflightConfig(camera_agl_m=480)
    assert choose_zooms(low, -8.58) == (18, 19)
    assert choose_zooms(high, -8.58) == (15, 16)
    assert choose_zooms(PreflightConfig(zooms=(12,)), 0.0) == (12,)


@pytest.mark.parametrize("source", ["usgs-imagery", "https://tiles.example/{z}/{x}/{y}.jpg"])
def test_a_profile_name_or_url_is_no_path(tmp_path: Path, source: str) -> None:
    assert load(tmp_path, f'tile_source = "{source}"\n').tile_source == source
    assert load(tmp_path, 'tile_source = "./tiles"\n').tile_source == str(tmp_path / "./tiles")
