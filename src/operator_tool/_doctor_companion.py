# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The companions' end of `doctor`: one small playbook asks, and this says what the answers mean."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    CompanionUnreachableError,
    ExitCode,
)

from ._build import Companion, inventory_for
from ._doctor import LEVELS, Finding, failed
from ._provision import host_error
from ._runner import PlaybookResult, private_folder, run_playbook

__all__ = ["examine_companions", "judge_companion"]

PROVISION = "operator-tool provision --wheelhouse DIR, see docs/how-to/provision.md"
MAX_CLOCK_OFFSET_S = 240.0
FREE_BYTES_MIN, FREE_BYTES_ENOUGH = 64 * 1024 * 1024, 1_000_000_000
MIN_INODES = 1000
MAX_TEXT = 400


def examine_companions(config: PreflightConfig, companion: Companion | None) -> Iterator[Finding]:
    """Ask each companion, at the same time; one that does not answer is a finding like any other.

    Raises:
        SettingsError: there is no companion to ask, or no such inventory.
    """
    variables = {
        "companion_known_hosts_file": os.path.abspath(config.companion_known_hosts_file),
        "companion_cache_root": config.companion_cache_root,
        "ssh_connect_timeout_s": max(1, round(config.ssh_connect_timeout_s)),
        "c10_builder_command": config.c10_builder_command,
    }
    started = time.time()
    with private_folder() as folder:
        inventory = inventory_for(companion, config, folder)
        result = run_playbook("examine_companions", private_dir=folder, inventory=inventory, variables=variables)
    yield from _judge(result, took_s=time.time() - started)


def _judge(result: PlaybookResult, *, took_s: float) -> Iterator[Finding]:
    for host, outcome in sorted(result.last_results.items()):
        answer = (outcome.get("ansible_facts") or {}).get("examined_companion")
        if host in result.failed_hosts:
            yield failed("connection", host_error(host, result.failed_hosts[host]), host=host)
        elif isinstance(answer, Mapping):
            how = "reached, with the host key that is pinned" if answer.get("over_ssh") else "it is this machine"
            yield Finding("connection", "ok", how, host=host)
            yield from judge_companion(host, answer, took_s=took_s)
    if not result.last_results:
        words = "; ".join(result.failures) or " ".join(list(result.tail)[-3:]).strip() or "nothing was said"
        raise CompanionUnreachableError(f"no companion could be asked: {words[:MAX_TEXT]}")


def judge_companion(host: str, answer: Mapping[str, Any], *, took_s: float = 0.0) -> Iterator[Finding]:
    """What the playbook's answer of one companion means.

    Args:
        took_s: how long the asking took: so much later its clock may have been read than this one.
    """
    cache = answer["cache"]
    yield from _base(host, cache, answer, took_s)
    yield from _room(host, cache)
    yield from _lock(host, cache)
    yield from _cache(host, cache)
    yield from _programs(host, answer)
    yield from _builder(host, answer)


def _finding(host: str, check: str, level: str, text: str, hint: str = "", code: int = 30) -> Finding:
    return Finding(check, level, text, hint, ExitCode(code), host)


def _base(host: str, cache: Mapping[str, Any], answer: Mapping[str, Any], took_s: float) -> Iterator[Finding]:
    machine = f"Python {cache.get('python_version')} on {cache.get('machine', 'an unknown machine')}"
    name = f", enrolled as {cache['vehicle_id']}" if cache.get("vehicle_id") else ""
    yield _finding(host, "system", "ok", machine + name)
    ahead_s = float(cache["clock_epoch_s"]) - float(answer["workstation_epoch_s"])
    side = "ahead of" if ahead_s > 0 else "behind"
    if abs(ahead_s) > MAX_CLOCK_OFFSET_S + took_s:
        text = f"{abs(ahead_s):.0f} s {side} this workstation's; grants are bound to time"
        now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        yield _finding(
            host, "clock", "fail", text, f"On the companion: sudo timedatectl set-time '{now}' (UTC), or NTP"
        )
    else:
        yield _finding(host, "clock", "ok", "agrees with this workstation's")


def _room(host: str, cache: Mapping[str, Any]) -> Iterator[Finding]:
    root = cache["root"]
    if not cache["present"]:
        yield _finding(host, "cache root", "fail", f"there is no {root}", PROVISION)
        return
    if not cache["writable"]:
        mend = f"On the companion: sudo chown gps-denied {shlex.quote(root)}; or log in as its owner (--companion-user)"
        yield _finding(host, "cache root", "fail", f"{root} cannot be written by the account of this login", mend)
    for where, found in {"": cache, **(cache.get("free") or {})}.items():
        place = f"{root}/{where}".rstrip("/")
        free, inodes = int(found["free_bytes"]), int(found["free_inodes"])
        mend = f"On the companion: du -xsh {shlex.quote(place)}/* and remove what is not needed"
        if free < FREE_BYTES_MIN or 0 <= inodes < MIN_INODES:
            text = f"{place} has {free / 1e6:.0f} MB and {inodes} inodes free: nothing can be built"
            yield _finding(host, "disk", "fail", text, mend)
            return
        if free < FREE_BYTES_ENOUGH:
            yield _finding(
                host, "disk", "warn", f"{place} has {free / 1e6:.0f} MB free; a large flight needs more", mend
            )
            return
    yield _finding(host, "disk", "ok", f"{root} has {int(cache['free_bytes']) / 1e9:.1f} GB free")


def _lock(host: str, cache: Mapping[str, Any]) -> Iterator[Finding]:
    lock = cache.get("lock")
    if not lock:
        yield _finding(host, "lock", "ok", "nobody holds it")
        return
    text = f"held by {str(lock['holder'])[:200]}: a run is under way, or was killed"
    mend = (
        f"operator-tool build-cache --attach {lock['run_id']} follows it; its own workstation's next run takes it over"
    )
    yield _finding(host, "lock", "warn", text, mend)


def _cache(host: str, cache: Mapping[str, Any]) -> Iterator[Finding]:
    current = cache.get("current")
    if not current:
        yield _finding(host, "cache", "ok", "none is active yet: a build makes one")
    elif current.get("healthy"):
        until = f", valid until {current['valid_until']}" if current.get("valid_until") else ""
        text = f"{current['generation']} for flight {current.get('flight_id')}{until}; sizes and signature are right"
        yield _finding(host, "cache", "ok", text)
    else:
        name = current.get("generation") or "the active cache"
        text = f"{name} is NO-GO ({current.get('reason')}): {current.get('message')}"
        yield _finding(host, "cache", "fail", text, "Build it anew: operator-tool build-cache", code=33)


def _programs(host: str, answer: Mapping[str, Any]) -> Iterator[Finding]:
    found = dict(re.findall(r"^(builder|rsync) ?(.*)$", str(answer.get("programs")), re.MULTILINE))
    if answer.get("over_ssh") and not found.get("rsync"):
        yield _finding(host, "rsync", "fail", "it is not on the PATH", "On the companion: sudo apt-get install rsync")
    if not found.get("builder"):
        yield _finding(host, "builder", "fail", "the builder is not on the PATH of this login", PROVISION)


def _builder(host: str, answer: Mapping[str, Any]) -> Iterator[Finding]:
    """What the builder says of itself; a site's own builder need not have a doctor."""
    rc = int(answer.get("builder_rc", -1))
    if rc == 127 or not re.search(r"^builder .", str(answer.get("programs")), re.MULTILINE):
        return
    if rc == 124:
        yield _finding(
            host, "builder", "warn", "its own doctor did not answer within 60 s", "Look at the companion's load."
        )
        return
    try:
        said = json.loads(answer["builder_said"]) if isinstance(answer["builder_said"], str) else answer["builder_said"]
        findings = [
            (str(each["check"]), str(each["level"]), str(each["text"]), str(each.get("hint") or ""))
            for each in said["findings"][:100]
        ]
    except (KeyError, TypeError, ValueError, RecursionError):
        yield _finding(
            host, "builder", "warn", f"it has no doctor that could be understood (exit status {rc})", PROVISION
        )
        return
    for check, level, text, hint in findings:
        known = level if level in LEVELS else "warn"
        yield _finding(host, f"builder: {check[:60]}", known, text[:MAX_TEXT], hint[:MAX_TEXT], code=21)
