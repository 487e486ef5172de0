# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""Offline wheelhouse: everything a companion without internet needs to install the builder.

Made once on a connected machine, for one kind of companion; the provisioning role installs from it
with `--no-index --require-hashes`. A wheelhouse is a folder:

    *.whl               the builder and all it depends on, built for the companion
    requirements.txt    each of them pinned with its SHA-256
    wheelhouse.json     for which machine it is, and its identity (SHA-256 of requirements.txt)
"""

from __future__ import annotations

import email.parser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import DownloadError, SettingsError

__all__ = ["TargetPlatform", "Wheelhouse", "make_wheelhouse"]

REQUIREMENTS_NAME = "requirements.txt"
DESCRIPTION_NAME = "wheelhouse.json"
PIP_TIMEOUT_S = 1800.0

# The C library of the systems that ship each Python: Ubuntu 20.04, 22.04, Debian 12, Ubuntu 24.04, Debian 13.
# 3.9 is Debian 11's.
_GLIBC_MINOR_BY_PYTHON = {(3, 8): 31, (3, 9): 31, (3, 10): 35, (3, 11): 36, (3, 12): 39, (3, 13): 41}
_OLDEST_GLIBC_MINOR = {"x86_64": 5, "aarch64": 17}
_LEGACY_MANYLINUX = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


@dataclass(frozen=True)
class TargetPlatform:
    """The kind of companion: its machine (`uname -m`), its CPython and its glibc 2.`glibc_minor`."""

    machine: str
    python: tuple[int, int]
    glibc_minor: int

    def __post_init__(self) -> None:
        if self.machine not in _OLDEST_GLIBC_MINOR:
            known = " or ".join(sorted(_OLDEST_GLIBC_MINOR))
            raise SettingsError(f"companions of machine type {self.machine!r} are not supported, only {known}")
        if self.python not in _GLIBC_MINOR_BY_PYTHON:
            raise SettingsError(f"companions with Python {self.python_version} are not supported, only 3.8 to 3.13")
        if self.glibc_minor < _OLDEST_GLIBC_MINOR[self.machine]:
            raise SettingsError(f"no wheels exist for glibc 2.{self.glibc_minor} on {self.machine}")

    @classmethod
    def parse(cls, text: str) -> TargetPlatform:
        """Read `x86_64-cp311`, or `aarch64-cp38-glibc2.31` where the glibc is not the usual one."""
        match = re.fullmatch(r"(x86_64|aarch64)-cp3(\d{1,2})(?:-glibc2\.(\d{1,2}))?", text)
        if match is None:
            raise SettingsError(
                f"platform {text!r} is not understood: it reads MACHINE-cpVERSION, such as x86_64-cp311 or aarch64-cp38"
            )
        python = (3, int(match[2]))
        glibc_minor = int(match[3]) if match[3] else _GLIBC_MINOR_BY_PYTHON.get(python, 0)
        return cls(machine=match[1], python=python, glibc_minor=glibc_minor or _OLDEST_GLIBC_MINOR[match[1]])

    def __str__(self) -> str:
        return f"{self.machine}-{self.abi}-glibc2.{self.glibc_minor}"

    @property
    def python_version(self) -> str:
        return f"{self.python[0]}.{self.python[1]}"

    @property
    def abi(self) -> str:
        return f"cp{self.python[0]}{self.python[1]}"

    @property
    def wheel_platforms(self) -> tuple[str, ...]:
        """Platform tags that run there, best first (PEP 600, and the older names of the same)."""
        tags = []
        for minor in range(self.glibc_minor, _OLDEST_GLIBC_MINOR[self.machine] - 1, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _LEGACY_MANYLINUX:
                tags.append(f"{_LEGACY_MANYLINUX[minor]}_{self.machine}")
        return (*tags, f"linux_{self.machine}")

    @property
    def marker_environment(self) -> dict[str, str]:
        """Values of PEP 508 environment markers on the companion."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python_version}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python_version}.0",
            "python_version": self.python_version,
            "sys_platform": "linux",
        }


@dataclass(frozen=True)
class Wheelhouse:
    """A finished wheelhouse; `identity` is the SHA-256 of its requirements file."""

    path: Path
    platform: TargetPlatform
    identity: str
    builder_version: str
    wheel_count: int
    size_bytes: int


def make_wheelhouse(
    *,
    builder: Path,
    target: Path,
    platform: TargetPlatform,
    extras: Sequence[str] = (),
    constraints: Sequence[str] = (),
    timeout_s: float = PIP_TIMEOUT_S,
) -> Wheelhouse:
    """Collect the builder and all it needs for `platform` into the folder `target`.

    Args:
        builder: the builder's wheel, or its source folder.
        target: where the wheelhouse shall be; an earlier one there is replaced once the new one is whole.
        platform: the kind of companion that will install it.
        extras: optional parts of the builder to include, such as `orb` and `lite0`.
        constraints: versions to keep to, such as `numpy==2.2.6`; markers are judged for `platform`.
        timeout_s: bound for each call of pip.

    Raises:
        SettingsError: the builder is neither a wheel nor a source folder, or `target` is something else's folder.
        DownloadError: pip found no wheels, or could not reach its index.
    """
    if target.exists() and not (target / DESCRIPTION_NAME).is_file() and any(target.iterdir()):
        raise SettingsError(f"{target} exists and is no wheelhouse: give a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        builder_wheel = _builder_wheel(builder, work, timeout_s)
        requirements = _direct_requirements(builder_wheel, platform, extras)
        if requirements:
            _download(requirements, work, platform, constraints=_judged(constraints, platform), timeout_s=timeout_s)
        wheelhouse = _describe(work, target, platform, builder_wheel)
        work.chmod(0o755)
        _replace_folder(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return wheelhouse


def _builder_wheel(builder: Path, work: Path, timeout_s: float) -> Path:
    """Put the builder's wheel into `work`, building it where a source folder is given."""
    if builder.is_file() and builder.suffix == ".whl":
        return Path(shutil.copy(builder, work / builder.name))
    if not (builder / "pyproject.toml").is_file():
        raise SettingsError(f"{builder} is neither the builder's wheel nor its source folder")
    _pip(
        ["wheel", "--no-deps", "--wheel-dir", str(work), str(builder.resolve())], timeout_s, "build the builder's wheel"
    )
    (wheel,) = work.glob("*.whl")
    return wheel


def _download(
    requirements: Sequence[str], work: Path, platform: TargetPlatform, *, constraints: Sequence[str], timeout_s: float
) -> None:
    arguments = ["download", "--dest", str(work), "--only-binary=:all:", "--implementation", "cp"]
    arguments += ["--python-version", platform.python_version, "--abi", platform.abi]
    for tag in platform.wheel_platforms:
        arguments += ["--platform", tag]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraint_file:
        if constraints:
            constraint_file.write("\n".join(constraints) + "\n")
            constraint_file.flush()
            arguments += ["--constraint", constraint_file.name]
        _pip([*arguments, *requirements], timeout_s, f"download wheels for {platform}")


def _direct_requirements(wheel: Path, platform: TargetPlatform, extras: Sequence[str]) -> list[str]:
    """What the wheel asks for on `platform` with these extras, without the markers that said so.

    pip judges markers by the Python that it runs under, whatever `--python-version` says: they are judged here.
    """
    metadata = _wheel_metadata(wheel)
    unknown = sorted(set(extras) - set(metadata.get("Provides-Extra", ())))
    if unknown:
        raise SettingsError(f"{wheel.name} has no optional part {', '.join(unknown)}")
    return _judged(metadata.get("Requires-Dist", ()), platform, extras)


def _judged(texts: Sequence[str], platform: TargetPlatform, extras: Sequence[str] = ()) -> list[str]:
    """The requirements whose environment marker holds on `platform`, without the marker."""
    from packaging.requirements import Requirement

    environments = [{**platform.marker_environment, "extra": extra} for extra in ("", *extras)]
    requirements = []
    for text in texts:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate(environment) for environment in environments):
            requirement.marker = None
            requirements.append(str(requirement))
    return requirements


def _wheel_metadata(wheel: Path) -> Mapping[str, Sequence[str]]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            message = email.parser.HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SettingsError(f"{wheel.name} is not a readable wheel: {error}") from error
    return {key: message.get_all(key, []) for key in message}


def _describe(work: Path, target: Path, platform: TargetPlatform, builder_wheel: Path) -> Wheelhouse:
    """Write the requirements with their hashes, and the description, beside the wheels."""
    from packaging.utils import parse_wheel_filename

    lines, size_bytes = [], 0
    for wheel in sorted(work.glob("*.whl")):
        name, version, _build, _tags = parse_wheel_filename(wheel.name)
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
        size_bytes += wheel.stat().st_size
    requirements = "".join(sorted(lines)).encode()
    _builder_name, builder_version, _build, _tags = parse_wheel_filename(builder_wheel.name)
    wheelhouse = Wheelhouse(
        path=target,
        platform=platform,
        identity=hashlib.sha256(requirements).hexdigest(),
        builder_version=str(builder_version),
        wheel_count=len(lines),
        size_bytes=size_bytes,
    )
    description = {
        "schema_version": 1,
        "machine": platform.machine,
        "python_version": platform.python_version,
        "glibc": f"2.{platform.glibc_minor}",
        **{key: value for key, value in asdict(wheelhouse).items() if key not in {"path", "platform"}},
    }
    _write_synced(work / REQUIREMENTS_NAME, requirements)
    _write_synced(work / DESCRIPTION_NAME, (json.dumps(description, indent=2, sort_keys=True) + "\n").encode())
    return wheelhouse


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace_folder(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`; a rename cannot replace a folder that holds files."""
    if target.exists():
        old = new.with_name(new.name + ".old")
        target.rename(old)
        new.rename(target)
        shutil.rmtree(old)
    else:
        new.rename(target)


def _pip(arguments: Sequence[str], timeout_s: float, purpose: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"pip did not {purpose} within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = reasons[-1].removeprefix("ERROR:").strip() if reasons else f"exit status {done.returncode}"
        raise DownloadError(
            f"pip could not {purpose}: {reason}",
            remediation="Check the network and the package index that pip is set up for, then run again.",
        )
