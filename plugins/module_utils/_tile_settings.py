# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tile source that the settings name."""

from __future__ import annotations

from typing import Any, Dict

from ._config import PreflightConfig, read_secret
from ._errors import TileSourceError
from ._tile_source import TileSource, open_source, spec_from_location

__all__ = ["configured_source"]


def configured_source(config: PreflightConfig) -> TileSource:
    """The source of `tile_source` (a profile, archive or folder), else of `satellite_provider_url`, with its key.

    Raises:
        TileSourceError: there is none, or it cannot be used.
        TileProviderTermsError: its terms forbid offline use.
    """
    location = config.tile_source or config.satellite_provider_url
    if not location:
        raise TileSourceError(
            "no tile source is configured", remediation="Set tile_source or satellite_provider_url (--tile-source, …)."
        )
    spec = _profile(location) if location.endswith(".toml") else spec_from_location(location)
    return open_source(spec, api_key=read_secret(config, "satellite_provider_api_key"))


def _profile(path: str) -> Dict[str, Any]:
    import tomllib  # Python 3.11; only ever read on the workstation

    try:
        with open(path, "rb") as stream:
            return tomllib.load(stream)
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise TileSourceError(f"cannot read the provider profile {path}: {exc}") from None
