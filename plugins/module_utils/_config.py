# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings: one frozen `PreflightConfig`, filled from flag, environment, file, default, in that order.

The names are the playbook's variables, the TOML keys, and, as `GPS_DENIED_<NAME>`, the environment's. Secrets are
no fields: `read_secret` reads them where they are used, from a file that only its owner may read or, last, from the
environment, so that a configuration can be written down and shown.
"""

from __future__ import annotations

import math
import os
import re
import stat
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from ._errors import SettingsError

__all__ = ["SECRET_NAMES", "PreflightConfig", "load_config", "parse_zooms", "read_secret"]

ENVIRONMENT_PREFIX = "GPS_DENIED_"
CONFIG_FILENAME = "operator-tool.toml"
SECRET_NAMES = ("flights_api_auth_token", "satellite_provider_api_key")
MAX_SECRET_BYTES = 16384
MIN_LEASE_S = 30.0
"""A followed build is asked every few seconds, over a link that may need as long to be found gone."""


_CHOICES: Dict[str, Tuple[str, ...]] = {
    "flight_area_kind": ("corridor", "bbox", "polygon"),
    "landing_proof": ("flag", "mavlink"),
}
_RANGES: Dict[str, Tuple[float, float, str]] = {
    "camera_hfov_deg": (1.0, 170.0, "degrees from 1 to 170"),
    "coverage_tolerance_ratio": (0.0, 1.0, "a number from 0 to 1"),
    "mavlink_system_id": (0, 255, "a number from 1 to 255"),
}


def _described(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})  # pylint: disable=invalid-field-call


@dataclass(frozen=True)
class PreflightConfig:
    """Everything that may be set, with its default. `~` in paths is the operator's home."""

    cache_staging_root: str = _described(
        "~/.local/share/gps-denied/staging", "Folder on the workstation for the tile store, runs and reports."
    )
    lock_filename: str = _described(".c12.lock", "Name of the lock file under the staging root.")
    lock_timeout_s: float = _described(0.0, "How long to wait for the lock of another run.")
    companion_cache_root: str = _described("/var/lib/gps-denied", "Folder of the caches on the companion.")
    ssh_connect_timeout_s: float = _described(5.0, "How long to wait for a companion's SSH server.")
    flights_api_base_url: Optional[str] = _described(None, "Base URL of the flights API.")
    flights_api_auth_token_file: Optional[str] = _described(None, "File with the bearer token of the flights API.")
    flights_api_timeout_s: float = _described(
        30.0, "How long one flight may take to resolve through the API, retries included."
    )
    allow_plain_http: bool = _described(
        False, "Send a token or an API key over plain http to another machine, in the clear (true or false)."
    )
    flights_dir: Optional[str] = _described(
        None, "Folder in which flight ids resolve where no flights API is configured."
    )
    flight_area_kind: str = _described("corridor", "Area that needs tiles: corridor, bbox or polygon.")
    flight_bbox_buffer_m: float = _described(250.0, "Buffer around the route (corridor) or its box, in metres.")
    takeoff_radius_m: float = _described(100.0, "Radius of the disc around the take-off origin, in metres.")
    max_leg_m: float = _described(
        100_000.0, "Longest leg between two vertices, in metres; more is taken for a stray vertex."
    )
    expected_flight_fingerprint: Optional[str] = _described(
        None, "Fingerprint of the flight that a plan was made for; another one is refused."
    )
    zooms: Tuple[int, ...] = _described(
        (), "Zoom levels of the tiles, as 16,17,18 or 16-18; auto chooses them from the camera and its height."
    )
    max_tiles: int = _described(200_000, "Largest number of tiles for one flight.")
    max_download_bytes: int = _described(
        10_000_000_000, "Largest download for one flight in bytes, reckoned before it begins."
    )
    satellite_provider_url: Optional[str] = _described(None, "XYZ URL template of the tile provider, with {z} {x} {y}.")
    satellite_provider_api_key_file: Optional[str] = _described(None, "File with the API key of the tile provider.")
    tile_source: Optional[str] = _described(
        None,
        "Name of a shipped provider profile, a profile (.toml), or a local .pmtiles, .mbtiles, .tif or z/x/y folder.",
    )
    refresh_after_h: Optional[float] = _described(
        None, "Age in hours from which stored tiles are asked for again; default: never. Unchanged ones cost no bytes."
    )
    download_timeout_s: float = _described(14_400.0, "Deadline of the whole download phase.")
    coverage_tolerance_ratio: float = _described(
        0.0, "Share of the tiles that may be missing; more ends in exit code 22."
    )
    sync_limit_kib_per_s: int = _described(
        0, "Largest rate at which tiles are sent to one companion, in KiB/s; 0 is no limit."
    )
    sync_timeout_s: float = _described(14_400.0, "Deadline of the sync to one companion.")
    camera_hfov_deg: float = _described(70.0, "Horizontal field of view of the navigation camera, in degrees.")
    camera_agl_m: float = _described(100.0, "Height above ground at which the camera looks down, in metres.")
    camera_width_px: int = _described(1280, "Width of the camera's picture in pixels.")
    camera_height_px: int = _described(720, "Height of the camera's picture in pixels.")
    model_id: str = _described(
        "auto", "Descriptor model of the builder; auto takes the best that the companion can run."
    )
    c10_builder_command: str = _described("c10-builder build", "Command on the companion that builds the index.")
    build_timeout_s: float = _described(21_600.0, "Longest time that a build may take.")
    stall_timeout_s: float = _described(90.0, "Silence of the builder that ends the build.")
    build_lease_s: float = _described(
        0.0, "Ends a build that no workstation has followed for this long, at least 30; 0 lets it go on, to attach to."
    )
    attach_run: Optional[str] = _described(
        None, "Run whose build on the companions is followed on; none is started where it has none under way."
    )
    companion_boot_timeout_s: float = _described(20.0, "How long to wait for a companion that is still booting.")
    companion_known_hosts_file: str = _described(
        "~/.config/gps-denied/known_hosts", "Pinned host keys of the companions, by vehicle id."
    )
    grant_signing_key_file: Optional[str] = _described(None, "OpenSSH key that signs the grant of each activation.")
    grant_valid_h: float = _described(72.0, "How long the grant of an activation is valid, in hours.")
    landing_proof: str = _described(
        "flag", "What proves that a vehicle is landed and disarmed: flag (its file in the spool) or mavlink."
    )
    landing_flag_max_age_s: float = _described(15.0, "Age at which a vehicle's landed flag no longer counts.")
    mavlink_endpoint: Optional[str] = _described(
        None, "Where the workstation hears heartbeats, as udpin:0.0.0.0:14550 or tcp:10.0.0.5:5760."
    )
    mavlink_system_id: int = _described(0, "System id of the vehicle's autopilot, 1 to 255; 0 is none.")
    mavlink_timeout_s: float = _described(10.0, "How long to wait for enough heartbeats.")
    landing_upload_url: Optional[str] = _described(
        None, "Base URL of the provider's upload API; default: upload_url of the tile source's profile."
    )
    landing_upload_timeout_s: float = _described(14_400.0, "Deadline of one run's upload.")
    hint_valid_s: float = _described(120.0, "How long a position hint counts on the companion, in seconds.")
    hint_ack_timeout_s: float = _described(10.0, "How long to wait for the flight software to acknowledge a hint.")
    inventory: Optional[str] = _described(None, "Ansible inventory with the group companions; the driver passes it on.")
    report: Optional[str] = _described(
        None, "Where the report is written; default: reports/<run>.json under the staging root."
    )
    progress_socket: Optional[str] = _described(None, "Datagram socket for progress records; the driver sets it.")

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                given = getattr(self, name)
                raise SettingsError(f"{name} is {given!r}: give {', '.join(choices[:-1])} or {choices[-1]}")
        for name, (least, most, wanted) in _RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise SettingsError(f"{name} is {getattr(self, name)}: give {wanted}")
        for name in (
            "flight_bbox_buffer_m",
            "takeoff_radius_m",
            "lock_timeout_s",
            "hint_ack_timeout_s",
            "sync_limit_kib_per_s",
        ):
            if not 0 <= getattr(self, name) < 1e7:
                raise SettingsError(f"{name} is {getattr(self, name)}: give a number from 0 up")
        for name in (
            "camera_agl_m",
            "camera_width_px",
            "camera_height_px",
            "max_tiles",
            "max_download_bytes",
            "max_leg_m",
            "build_timeout_s",
            "stall_timeout_s",
            "grant_valid_h",
            "download_timeout_s",
            "flights_api_timeout_s",
            "ssh_connect_timeout_s",
            "landing_flag_max_age_s",
            "mavlink_timeout_s",
            "landing_upload_timeout_s",
            "hint_valid_s",
            "sync_timeout_s",
        ):
            if not 0 < getattr(self, name) < math.inf:  # nor NaN
                raise SettingsError(f"{name} is {getattr(self, name)}: give a number above 0")
        if self.refresh_after_h is not None and not 0 <= self.refresh_after_h < math.inf:
            raise SettingsError(f"refresh_after_h is {self.refresh_after_h}: give hours from 0 up")
        if self.build_lease_s != 0 and not MIN_LEASE_S <= self.build_lease_s < 1e7:
            raise SettingsError(f"build_lease_s is {self.build_lease_s}: give {MIN_LEASE_S:g} or more, or 0 for no end")
        if any(not 0 <= zoom <= 24 for zoom in self.zooms):
            raise SettingsError(f"zooms are {list(self.zooms)}: give numbers from 0 to 24, or auto")
        if "/" in self.lock_filename or not self.lock_filename:
            raise SettingsError(f"lock_filename is {self.lock_filename!r}: give a plain file name")
        if not self.companion_cache_root.startswith("/"):
            raise SettingsError(f"companion_cache_root is {self.companion_cache_root!r}: give an absolute path")

    def to_dict(self) -> Dict[str, Any]:
        """Plain JSON values, without secrets because there are none in here."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["zooms"] = list(self.zooms)
        return values


def parse_zooms(text: Any) -> Tuple[int, ...]:
    """`16-18`, `16,18`, a number or a list of numbers, as sorted distinct zooms; `auto` as none."""
    if text == "auto":
        return ()
    if isinstance(text, (list, tuple)):
        parts: List[str] = [str(item) for item in text]
    else:
        parts = [part for part in re.split(r"[,\s]+", str(text)) if part]
    zooms: Set[int] = set()
    for part in parts:
        match = re.fullmatch(r"(\d{1,2})(?:(?:-|\.\.)(\d{1,2}))?", part)
        if match is None:
            raise SettingsError(f"zooms are {text!r}: give numbers as 16,17,18 or 16-18, or auto")
        first = int(match.group(1))
        zooms.update(range(first, int(match.group(2) or first) + 1))
    return tuple(sorted(zooms))


def _convert(name: str, default: Any, value: Any) -> Any:
    if name == "zooms":
        return parse_zooms(value)
    if isinstance(default, bool):
        return _convert_bool(name, value)
    try:
        if isinstance(value, bool):
            raise ValueError
        if name == "refresh_after_h":
            return float(str(value))
        if isinstance(default, int):
            return int(str(value))
        if isinstance(default, float):
            return float(str(value))
    except ValueError:
        raise SettingsError(f"{name} is {str(value)!r}: give a number") from None
    text = str(value)
    return os.path.expanduser(text) if text.startswith("~") else text


def _convert_bool(name: str, value: Any) -> bool:
    word = str(value).lower()
    if word not in _BOOLEANS:
        raise SettingsError(f"{name} is {str(value)!r}: give true or false")
    return _BOOLEANS[word]


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _read_toml(path: str) -> Mapping[str, Any]:
    import tomllib  # Python 3.11; only ever read on the workstation

    try:
        with open(path, "rb") as stream:
            return tomllib.load(stream)
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError(f"cannot read settings from {path}: {exc}") from None


def load_config(
    overrides: Mapping[str, Any],
    *,
    environ: Optional[Mapping[str, str]] = None,
    config_file: Optional[str] = None,
) -> PreflightConfig:
    """The settings in force.

    Args:
        overrides: flags or playbook variables; None and "" mean "not given".
        environ: the environment (default: this process's).
        config_file: a TOML file; default `operator-tool.toml` in the working folder, where it exists. Relative paths
            in it count from its folder.

    Raises:
        SettingsError: an unknown key, or a value out of range.
    """
    environ = os.environ if environ is None else environ
    known = {item.name: item.default for item in fields(PreflightConfig)}
    path = config_file or environ.get(ENVIRONMENT_PREFIX + "CONFIG")
    if path is None and os.path.isfile(CONFIG_FILENAME):
        path = CONFIG_FILENAME
    from_file: Dict[str, Any] = {}
    if path is not None:
        from_file = dict(_read_toml(path))
        for name in set(from_file) & set(SECRET_NAMES):
            raise SettingsError(
                f"{path} holds the secret {name}: put it into a file of its own and name it in {name}_file"
            )
        for name in sorted(set(from_file) - set(known)):
            raise SettingsError(f"{path} has an unknown setting {name!r}")
        for name, value in from_file.items():
            if name in _PATHS and isinstance(value, str) and not value.startswith(("~", "/")):
                if name == "tile_source" and re.fullmatch(r"[a-z0-9-]+|https?://.*", value):
                    continue  # a shipped profile's name, or a URL; a folder of that name is written ./name
                from_file[name] = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(path)), value))
    for name in sorted(set(overrides) - set(known)):
        raise SettingsError(f"there is no setting {name!r}")
    values: Dict[str, Any] = {}
    for name, default in known.items():
        given = overrides.get(name)
        if given in (None, "", [], ()):
            given = environ.get(ENVIRONMENT_PREFIX + name.upper()) or from_file.get(name, default)
        values[name] = None if given is None else _convert(name, default, given)
    return PreflightConfig(**values)


_PATHS = (
    "cache_staging_root",
    "companion_cache_root",
    "companion_known_hosts_file",
    "flights_api_auth_token_file",
    "flights_dir",
    "grant_signing_key_file",
    "inventory",
    "report",
    "satellite_provider_api_key_file",
    "tile_source",
)


def read_secret(config: PreflightConfig, name: str, *, environ: Optional[Mapping[str, str]] = None) -> Optional[str]:
    """The secret `name` (one of `SECRET_NAMES`), or None where none is configured.

    Raises:
        SettingsError: its file is missing, open to others, empty or too large.
    """
    environ = os.environ if environ is None else environ
    path = getattr(config, name + "_file")
    if path is None:
        return environ.get(ENVIRONMENT_PREFIX + name.upper()) or None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                raise SettingsError(f"{name}_file {path} is open to others", remediation=f"Run: chmod 600 {path}")
            content = stream.read(MAX_SECRET_BYTES + 1)
    except OSError as exc:
        raise SettingsError(f"cannot read {name}_file {path}: {exc.strerror}") from None
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(content) > MAX_SECRET_BYTES or "\n" in text:
        raise SettingsError(f"{name}_file {path} does not hold one line of plain text")
    return text
