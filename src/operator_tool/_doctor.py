# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`doctor`: what is wrong with this workstation, and how to mend it, before a run meets it.

Every check changes nothing, asks no network, and gives findings instead of raising. A finding has the shape of those
of the builder's own doctor: check, level, text, hint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig, load_config
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import CacheBuildError, ExitCode

__all__ = ["LEVELS", "Finding", "examine_workstation", "exit_code_of", "failed"]

LEVELS = ("ok", "warn", "fail")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `hint` is the mend: a command where there is one. `code` is the exit code of a run that would meet it.
    `host` is the companion, or None for this workstation.
    """

    check: str
    level: str
    text: str
    hint: str = ""
    code: ExitCode = ExitCode.USAGE
    host: str | None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"a finding has no level {self.level!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `exit_code` is 0 where nothing fails."""
        return {
            "host": self.host,
            "check": self.check,
            "level": self.level,
            "text": self.text,
            "hint": self.hint,
            "exit_code": int(self.code) if self.level == "fail" else 0,
        }


def failed(check: str, error: CacheBuildError, *, host: str | None = None) -> Finding:
    """The finding of a recognised failure."""
    return Finding(check, "fail", error.message.rstrip("."), error.remediation.removeprefix("Run: "), error.code, host)


def examine_workstation(settings: Mapping[str, Any], *, config_file: str | None) -> Iterator[Finding]:
    """Look at everything here, the quick and the fundamental first."""
    from . import _doctor_places, _doctor_settings, _doctor_software

    yield from _each(_doctor_software.CHECKS)
    config: PreflightConfig | None = None
    try:
        config = load_config(settings, config_file=config_file)
    except CacheBuildError as exc:
        yield failed("settings", exc)
    if config is None:
        return
    yield from _each(_doctor_settings.file_checks(config_file), config, _doctor_settings.CHECKS)
    yield from _each((), config, _doctor_places.CHECKS)


def _each(
    plain: Iterable[Callable[[], Iterable[Finding]]],
    config: PreflightConfig | None = None,
    configured: Iterable[Callable[[PreflightConfig], Iterable[Finding]]] = (),
) -> Iterator[Finding]:
    """The findings of each check; one that meets what it did not expect says so and stops none of the others."""
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [(check.__name__, check) for check in plain]
    if config is not None:
        known = config
        checks += [(check.__name__, lambda check=check: check(known)) for check in configured]  # type: ignore[misc]
    for name, check in checks:
        try:
            yield from list(check())
        except CacheBuildError as exc:
            yield failed(name, exc)
        except OSError as exc:
            yield Finding(name, "fail", f"cannot look: {exc.filename or name}: {exc.strerror or exc}")


def exit_code_of(findings: Iterable[Finding]) -> ExitCode:
    """0 where nothing fails; this workstation's first failure; 40 where some companions fail and others do not."""
    found = list(findings)
    here = [finding for finding in found if finding.host is None and finding.level == "fail"]
    if here:
        return here[0].code
    hosts = {finding.host for finding in found if finding.host is not None}
    broken = {finding.host: finding.code for finding in reversed(found) if finding.level == "fail"}
    if not broken:
        return ExitCode.SUCCESS
    return ExitCode.SOME_COMPANIONS_FAILED if hosts - set(broken) else next(reversed(broken.values()))
