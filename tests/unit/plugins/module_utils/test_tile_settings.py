# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import TileSourceError
from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_settings import (
    configured_limits,
    configured_source,
)


def with_key(tmp_path: Path, url: str, *, allow_plain_http: bool) -> PreflightConfig:
    key, profile = tmp_path / "key", tmp_path / "profile.toml"
    key.write_text("canary-5up3r-s3cr3t")
    key.chmod(0o600)
    profile.write_text(f'id = "p"\nkind = "xyz"\nurl = "{url}"\napi_key_header = "X-Key"\n')
    return PreflightConfig(
        tile_source=str(profile), satellite_provider_api_key_file=str(key), allow_plain_http=allow_plain_http
    )


def test_a_key_goes_over_plain_http_only_where_the_operator_says_so(tmp_path: Path) -> None:
    url = "http://tiles.example.org/{z}/{x}/{y}.jpg"
    with pytest.raises(TileSourceError, match="send its API key unencrypted to tiles.example.org") as caught:
        configured_source(with_key(tmp_path, url, allow_plain_http=False))
    assert "allow_plain_http" in caught.value.remediation
    assert "canary" not in str(caught.value.to_dict())
    assert configured_source(with_key(tmp_path, url, allow_plain_http=True)).id == "p"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_needs_no_such_word(tmp_path: Path, host: str) -> None:
    url = f"http://{host}:8080/{{z}}/{{x}}/{{y}}.jpg"
    assert configured_source(with_key(tmp_path, url, allow_plain_http=False)).id == "p"


def test_the_limits_are_those_of_the_settings() -> None:
    assert configured_limits(PreflightConfig()).refresh_after_s is None
    limits = configured_limits(PreflightConfig(refresh_after_h=1.5, download_timeout_s=7.0))
    assert (limits.refresh_after_s, limits.deadline_s) == (5400.0, 7.0)


def test_without_a_source_the_next_step_is_said() -> None:
    with pytest.raises(TileSourceError, match="no tile source is configured") as caught:
        configured_source(PreflightConfig())
    assert "--tile-source" in caught.value.remediation
