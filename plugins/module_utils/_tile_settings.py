# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tile source and the bounds of the download that the settings name."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ._config import PreflightConfig, read_secret
from ._errors import TileSourceError
from ._tile_download_limits import DownloadLimits
from ._tile_source import TileSource, open_source, parse_spec, spec_from_location

__all__ = ["configured_limits", "configured_source"]


def configured_limits(config: PreflightConfig) -> DownloadLimits:
    """The bounds of a download under these settings."""
    hours = config.refresh_after_h
    return DownloadLimits(
        deadline_s=config.download_timeout_s, refresh_after_s=None if hours is None else hours * 3600.0
    )


def configured_source(config: PreflightConfig, *, api_key: Optional[str] = None) -> TileSource:
    """The source that the settings name, with its key: `tile_source`, else `satellite_provider_url`.

    Args:
        config: the settings.
        api_key: a key that the caller has in memory, instead of the one that the settings name.

    Raises:
        TileSourceError: there is none, or it cannot be used.
        TileProviderTermsError: its terms forbid offline use.
    """
    location = config.tile_source or config.satellite_provider_url
    if not location:
        raise TileSourceError(
            "no tile source is configured", remediation="Set tile_source or satellite_provider_url (--tile-source, …)."
        )
    spec = parse_spec(spec_from_location(location))
    if config.allow_plain_http:
        spec = replace(spec, insecure_http=True)
    return open_source(spec, api_key=api_key or read_secret(config, "satellite_provider_api_key"))
