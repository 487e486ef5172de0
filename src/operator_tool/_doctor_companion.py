# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The companions' end of `doctor`: one small playbook asks, and this says what the answers mean."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gps_denied.preflight.plugins.module_utils._config import PreflightConfig
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import (
    ExitCode,
)

from ._doctor import LEVELS, Finding, failed
from ._host_answers import host_error, silence_error
from ._inventory import Companion, InventoryPart, inventory_for
from ._runner import PlaybookResult, private_folder, run_playbook

__all__ = ["examine_companions", "judge_companion"]

FREE_BYTES_ENOUGH = 1_000_000_000
MAX_TEXT = 400


def examine_companions(config: PreflightConfig, companion: Companion | InventoryPart | None) -> Iterator[Finding]:
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
    with private_folder() as folder:
        inventory = inventory_for(companion, config, folder)
        result = run_playbook("examine_companions", private_dir=folder, inventory=inventory, variables=variables)
    yield from _judge(result)


def _judge(result: PlaybookResult) -> Iterator[Finding]:
    if result.cancelled or not result.last_results:
        raise silence_error(result)
    for host, outcome in sorted(result.last_results.items()):
        answer = outcome.get("companion")
        if host in result.failed_hosts:
            yield failed("connection", host_error(host, result.failed_hosts[host]), host=host)
        elif isinstance(answer, Mapping):
            how = "reached, with the host key that is pinned" if answer["over_ssh"] else "it is this machine"
            yield Finding("connection", "ok", how, host=host)
            yield from judge_companion(host, answer)


def judge_companion(host: str, answer: Mapping[str, Any]) -> Iterator[Finding]:
    """What one companion's answer means: the findings that it carries, and what its cache and its builder say."""
    for each in answer["findings"]:
        yield _finding(host, each["check"], each["level"], each["text"], each["hint"])
    cache = answer.get("cache")
    if cache is not None:
        yield from _room(host, cache)
        yield from _lock(host, cache)
        yield from _cache(host, cache)
    if answer.get("builder") is not None:
        yield from _builder(host, str(answer["builder"]))


def _finding(host: str, check: str, level: str, text: str, hint: str = "", code: int = 30) -> Finding:
    return Finding(check, level, text, hint, ExitCode(code), host)


def _room(host: str, cache: Mapping[str, Any]) -> Iterator[Finding]:
    free, root = int(cache["free_bytes"]), cache["root"]
    if free < FREE_BYTES_ENOUGH:
        mend = f"On the companion: du -xsh {shlex.quote(root)}/* and remove what is not needed"
        yield _finding(host, "room", "warn", f"{root} has {free / 1e6:.0f} MB free; a large flight needs more", mend)


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


def _builder(host: str, said: str) -> Iterator[Finding]:
    """What the builder says of itself; a site's own builder need not have a doctor."""
    try:
        findings = [
            (str(each["check"]), str(each["level"]), str(each["text"]), str(each.get("hint") or ""))
            for each in json.loads(said)["findings"][:100]
        ]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        text = "its own doctor did not answer in time, or says nothing that could be understood"
        yield _finding(host, "builder", "warn", text, "On the companion: c10-builder doctor")
        return
    for check, level, text, hint in findings:
        known = level if level in LEVELS else "warn"
        yield _finding(host, f"builder: {check[:60]}", known, text[:MAX_TEXT], hint[:MAX_TEXT], code=21)
