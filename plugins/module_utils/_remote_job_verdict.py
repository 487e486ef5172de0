# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build came to: how its job ended and what the builder said last must both be good."""

from __future__ import annotations

import signal
from typing import Any, Dict, Optional

from ._build_stream import BuildStream
from ._errors import BuildCancelledError, BuildReportParseError, FailurePhase, RemoteBuildError
from ._remote_job import JobEnd

__all__ = ["build_verdict"]

_ENDS = {
    "timeout": "the build did not end within its time and was stopped",
    "lease_expired": "nobody followed the build for longer than its lease, and it was stopped",
    "output_limit": "the build was stopped: {message}",
    "spawn_failed": "the builder could not be started: {message}",
    "stopped": "the companion stopped the build, because it was shut down or by someone's hand",
    "lost": "the build was lost: {message}; the companion was restarted, or the job's supervisor was killed",
}


def build_verdict(end: JobEnd, stream: BuildStream, *, flight_id: Optional[str] = None) -> Dict[str, Any]:
    """The `RemoteBuildReport` of a build that succeeded.

    Args:
        end: How the job ended.
        stream: All of the builder's output, closed.
        flight_id: The flight that the report must be about.

    Raises:
        BuildCancelledError: The job was cancelled.
        BuildReportParseError: The builder ended by itself, and its last word is not to be believed.
        RemoteBuildError: The builder failed by its own word, or did not come to an end by itself.
    """
    details: Dict[str, Any] = {"reason": end.reason, "tail": list(stream.tail)}
    if end.reason == "cancelled":
        raise BuildCancelledError("the build was cancelled", phase=FailurePhase.BUILD, details=details)
    if end.reason != "exited":
        said = _ENDS.get(end.reason, "the build ended in an unknown way (" + end.reason + ")")
        raise RemoteBuildError(said.format(message=end.message), details=details)
    if not end.empty:
        raise RemoteBuildError("processes that the builder started could not be ended", details=details)
    if end.exit_code is None:
        raise RemoteBuildError(_killed(end), details=details)
    report = stream.last_word(end.exit_code)
    if flight_id is not None and report["flight_id"] not in (None, flight_id):
        raise BuildReportParseError("the builder's report is about another flight", details=details)
    failure = report["failure"]
    if failure is not None:
        details.update(build=report, builder_code=failure["code"], builder_phase=failure.get("phase"))
        raise RemoteBuildError(
            "the builder failed (%s): %s" % (failure["code"], failure["message"]),
            remediation=failure.get("hint") or None,
            details=details,
        )
    return report


def _killed(end: JobEnd) -> str:
    if end.oom_kills:
        return "the builder was killed because the companion's memory ran out"
    try:
        name = signal.Signals(int(end.signal or 0)).name
    except ValueError:
        name = "signal %s" % end.signal
    hint = ", probably because memory ran out" if name == "SIGKILL" else ""
    return "the builder was killed by %s%s" % (name, hint)
