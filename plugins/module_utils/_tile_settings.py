# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tile source that the settings name."""

from __future__ import annotations

from ._config import PreflightConfig, read_secret
from ._errors import TileSourceError
from ._tile_source import TileSource, open_source, spec_from_location

__all__ = ["configured_source"]


def configured_source(config: PreflightConfig) -> TileSource:
    """The source that the settings name, with its key: `tile_source`, else `satellite_provider_url`.

    Raises:
        TileSourceError: there is none, or it cannot be used.
        TileProviderTermsError: its terms forbid offline use.
    """
    location = config.tile_source or config.satellite_provider_url
    if not location:
        raise TileSourceError(
            "no tile source is configured", remediation="Set tile_source or satellite_provider_url (--tile-source, …)."
        )
    return open_source(spec_from_location(location), api_key=read_secret(config, "satellite_provider_api_key"))
