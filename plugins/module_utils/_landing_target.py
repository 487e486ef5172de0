# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The provider's upload API as requests and answers: docs/reference/landing-upload.openapi.yaml."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Iterable, List, Optional, Set

from ._config import PreflightConfig, read_secret
from ._errors import SettingsError, TileSourceError, TileUploadError
from ._landing_ledger import TileKey
from ._tile_source import HttpTileSource, TileRequest, TileSourceSpec, parse_spec, spec_from_location
from ._tile_source_url import tile_url
from ._tiles import Tile

__all__ = ["MAX_ASKED", "UploadTarget", "configured_target"]

MAX_ASKED = 500
DEFAULT_KEY_HEADER = "X-Api-Key"


class UploadTarget:
    """Where tiles go. The key travels as it does for downloads: in a header, in the query, or in the path.

    Args:
        spec: a tile source's profile with `upload_url`.

    Raises:
        TileSourceError: the URL is none, or the key is missing or would travel unencrypted.
    """

    def __init__(self, spec: TileSourceSpec, *, api_key: Optional[str] = None) -> None:
        self._base = (spec.upload_url or "").rstrip("/")
        self._api_key = api_key
        headers = {**spec.headers, "Accept": "application/json", "Expect": ""}
        upload = replace(
            spec, kind="xyz", url=self._base + "/tiles/{z}/{x}/{y}", path=None, missing_statuses=(), headers=headers
        )
        self.source = HttpTileSource(upload, api_key=api_key)

    @property
    def provider(self) -> str:
        """Names the provider in the ledger; without a key, because `{api_key}` stands for it here."""
        return self._base

    def _url(self, path: str) -> str:
        return tile_url(self._base + path, Tile(0, 0, 0), spec=self.source.spec, api_key=self._api_key)

    def put(self, key: TileKey, body: bytes, *, media_type: str) -> TileRequest:
        """Hand over one tile. Sent once: whether an unanswered one arrived is for the provider to say."""
        tile = Tile(key.zoom, key.column, key.row)
        return TileRequest(
            self._url(f"/tiles/{key.zoom}/{key.column}/{key.row}/{key.sha256}"),
            (tile,),
            (f"Content-Type: {media_type}", f"Idempotency-Key: {_name(key)}"),
            method="PUT",
            body=body,
            repeatable=False,
        )

    def ask(self, keys: Iterable[TileKey]) -> TileRequest:
        """Which of these tiles does the provider have?"""
        body = json.dumps({"tiles": [_name(key) for key in keys]}).encode()
        return TileRequest(self._url("/tiles/query"), (), ("Content-Type: application/json",), method="POST", body=body)

    @staticmethod
    def is_receipt(body: bytes, key: TileKey) -> bool:
        """Whether an answer to `put` names exactly the bytes that were sent; a login page does not."""
        receipt = _json(body)
        return isinstance(receipt, dict) and receipt.get("accepted") == _name(key)

    def answered(self, body: bytes, keys: List[TileKey]) -> Set[TileKey]:
        """Those of the keys that an answer to `ask` lists.

        Raises:
            TileUploadError: the answer is not as the contract says.
        """
        listed = (_json(body) or {}).get("accepted")
        names = {_name(key): key for key in keys}
        if not isinstance(listed, list) or not all(isinstance(name, str) and name in names for name in listed):
            raise TileUploadError(
                f"{self.source.host} does not say which tiles it has",
                remediation="Check landing_upload_url: the API there does not speak the documented contract.",
            )
        return {names[name] for name in listed}


def _name(key: TileKey) -> str:
    return f"{key.zoom}/{key.column}/{key.row}/{key.sha256}"


def _json(body: bytes) -> Optional[dict]:  # type: ignore[type-arg]
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def configured_target(config: PreflightConfig) -> UploadTarget:
    """The provider that the settings name: `landing_upload_url`, else `upload_url` of the tile source's profile.

    Raises:
        SettingsError: neither is there, or the URL is none.
        TileSourceError: the profile is wrong, or its key is missing.
    """
    location = config.tile_source or config.satellite_provider_url
    spec = parse_spec(spec_from_location(location)) if location else None
    url = config.landing_upload_url or (spec.upload_url if spec else None)
    if not url:
        raise SettingsError(
            "no upload API is configured",
            remediation="Set landing_upload_url, or upload_url in the tile source's profile.",
        )
    if not re.match(r"https?://", url):
        raise SettingsError(f"landing_upload_url is {url[:80]!r}: give a URL with https://")
    api_key = read_secret(config, "satellite_provider_api_key")
    if spec is None or not spec.is_http:
        header = DEFAULT_KEY_HEADER if api_key is not None and "{api_key}" not in url else None
        spec = TileSourceSpec(id="landing-upload", kind="xyz", url=url, api_key_header=header)
    try:
        return UploadTarget(replace(spec, upload_url=url), api_key=api_key)
    except TileSourceError as exc:
        raise SettingsError(exc.message, remediation=exc.remediation) from None
