# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The settings in force, and the files that they name: are they there, right, and closed to others?"""

from __future__ import annotations

import importlib.util
import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import (
    CONFIG_FILENAME,
    ENVIRONMENT_PREFIX,
    SECRET_NAMES,
    PreflightConfig,
    read_secret,
)
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError, ExitCode

from ._doctor import Finding, failed

__all__ = ["CHECKS", "file_checks"]

MAX_KNOWN_HOSTS_BYTES = 4 * 1024 * 1024


def file_checks(config_file: str | None) -> tuple[Callable[[], Iterable[Finding]], ...]:
    """The check of the settings file itself, which by now has been read."""

    def settings() -> Iterator[Finding]:
        path = config_file or os.environ.get(ENVIRONMENT_PREFIX + "CONFIG")
        if path is None and os.path.isfile(CONFIG_FILENAME):
            path = CONFIG_FILENAME
        if path is None:
            yield Finding(
                "settings", "ok", f"no {CONFIG_FILENAME} in this folder: flags, environment and defaults count"
            )
            return
        path = os.path.abspath(path)
        if _others_may_write(path):
            yield Finding(
                "settings", "fail", f"others may write to {path}, and so steer a run", f"chmod go-w {shlex.quote(path)}"
            )
        else:
            yield Finding("settings", "ok", path)

    return (settings,)


def _others_may_write(path: str) -> bool:
    status = os.stat(path)
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid != os.getgid()
    return bool(by_group or status.st_mode & stat.S_IWOTH)


def secrets(config: PreflightConfig) -> Iterator[Finding]:
    """Each secret can be read by this user, and by nobody else."""
    for name in SECRET_NAMES:
        path = getattr(config, name + "_file")
        try:
            value = read_secret(config, name)
        except CacheBuildError as exc:
            yield failed(name, exc)
            continue
        if path is not None:
            yield Finding(name, "ok", f"in {path}, which only this user may read")
        elif value is not None:
            yield Finding(
                name,
                "warn",
                f"in the environment ({ENVIRONMENT_PREFIX}{name.upper()}), which every child of this shell gets",
                f"Put it into a file with mode 600, and name it in {name}_file.",
            )


def tile_source(config: PreflightConfig) -> Iterator[Finding]:
    """The provider's profile, its terms and its key; nothing is asked of the provider."""
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_settings import configured_source
    from ansible_collections.gps_denied.preflight.plugins.module_utils._tile_source import (
        check_terms,
        parse_spec,
        spec_from_location,
    )

    location = config.tile_source or config.satellite_provider_url
    if not location:
        yield Finding(
            "tile source", "warn", "none is configured", "Set tile_source or satellite_provider_url (--tile-source, …)."
        )
        return
    if config.tile_source and config.satellite_provider_url:
        yield Finding(
            "tile source",
            "warn",
            "tile_source and satellite_provider_url are both set: tile_source counts",
            "Remove one of them.",
        )
    try:
        spec = parse_spec(spec_from_location(location))
        check_terms(spec)
        if spec.kind == "geotiff" and importlib.util.find_spec("rasterio") is None:
            hint = f"{sys.executable} -m pip install 'gps-denied-preflight[geotiff]'"
            yield Finding("tile source", "fail", "a GeoTIFF needs rasterio, which is missing", hint)
            return
        try:
            read_secret(config, "satellite_provider_api_key")
        except CacheBuildError:
            return  # told by `secrets`
        source = configured_source(config)
    except CacheBuildError as exc:
        yield failed("tile source", exc)
        return
    where = source.spec.host if source.spec.is_http else source.spec.path
    yield Finding(
        "tile source", "ok", f"{source.id} ({source.spec.kind}, {where}), zooms {spec.min_zoom} to {spec.max_zoom}"
    )


def flights(config: PreflightConfig) -> Iterator[Finding]:
    """Where flight ids resolve."""
    if config.flights_api_base_url:
        yield Finding("flights", "ok", f"ids resolve in {config.flights_api_base_url}")
    elif config.flights_dir and not os.path.isdir(config.flights_dir):
        yield Finding(
            "flights",
            "fail",
            f"flights_dir {config.flights_dir} is no folder",
            "Correct flights_dir (--flights-dir).",
            ExitCode.FLIGHT_NOT_FOUND,
        )
    elif config.flights_dir:
        yield Finding("flights", "ok", f"ids resolve in the folder {config.flights_dir}")
    else:
        yield Finding("flights", "ok", "no flights API and no folder: flights come as files, with --flight-file")


def known_hosts(config: PreflightConfig) -> Iterator[Finding]:
    """The pinned host keys: whoever may write there may stand in for a companion."""
    path = Path(config.companion_known_hosts_file).absolute()
    if not path.exists():
        yield Finding("known_hosts", "ok", f"no companion is pinned yet, with `operator-tool enrol`, in {path}")
        return
    for place in (path, path.parent):
        status = place.stat()
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
            yield Finding(
                "known_hosts",
                "fail",
                f"others may write to {place}, and so stand in for a companion",
                f"chmod go-w {shlex.quote(str(place))}",
                ExitCode.COMPANION_NOT_TRUSTED,
            )
            return
        if status.st_uid not in (os.getuid(), 0):
            yield Finding(
                "known_hosts",
                "fail",
                f"{place} belongs to another user, who may stand in for a companion",
                f"sudo chown {os.getuid()} {shlex.quote(str(place))}",
                ExitCode.COMPANION_NOT_TRUSTED,
            )
            return
    with path.open("rb") as stream:
        lines = stream.read(MAX_KNOWN_HOSTS_BYTES).decode("utf-8", "replace").splitlines()
    entries = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    broken = sum(len(words) < 3 for words in entries)
    if broken:
        yield Finding(
            "known_hosts",
            "warn",
            f"{broken} lines of {path} are no host keys",
            f"ssh-keygen -l -f {shlex.quote(str(path))} names them",
        )
    yield Finding("known_hosts", "ok", f"{len(entries) - broken} companions are pinned in {path}")


def signing_key(config: PreflightConfig) -> Iterator[Finding]:
    """The key that signs grants: there, readable, closed to others, or an agent's."""
    path = config.grant_signing_key_file
    if path is None:
        return
    try:
        with open(path, "rb") as stream:
            head = stream.read(4096)
            mode = os.fstat(stream.fileno()).st_mode
    except OSError as exc:
        yield Finding(
            "signing key",
            "fail",
            f"cannot read {path}: {exc.strerror}",
            "Correct grant_signing_key_file (--signing-key-file).",
        )
        return
    private = b"PRIVATE KEY" in head
    if private and mode & 0o077:
        yield Finding("signing key", "fail", f"{path} is open to others", f"chmod 600 {shlex.quote(path)}")
    elif not private and not os.environ.get("SSH_AUTH_SOCK"):
        yield Finding(
            "signing key",
            "warn",
            f"{path} is a public key, and no agent is there to sign for it",
            'eval "$(ssh-agent)" && ssh-add',
        )
    else:
        yield Finding("signing key", "ok", path)


def mavlink(config: PreflightConfig) -> Iterator[Finding]:
    """Heartbeats are read by a package of its own."""
    if config.landing_proof == "mavlink" and importlib.util.find_spec("pymavlink") is None:
        yield Finding(
            "mavlink",
            "fail",
            "landing_proof is mavlink, and pymavlink is missing",
            f"{sys.executable} -m pip install 'gps-denied-preflight[mavlink]'",
        )


CHECKS = (secrets, tile_source, flights, known_hosts, signing_key, mavlink)
