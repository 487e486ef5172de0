# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build came to: how its job ended and what the builder said last must both be good."""

from __future__ import annotations

import signal
from typing import Any, Dict, Mapping, Optional

from ._build_stream import BuildStream
from ._errors import BuildCancelledError, BuildReportParseError, FailurePhase, RemoteBuildError
from ._remote_job import JobEnd

__all__ = ["TALLY_PROGRAM", "build_verdict", "check_artifacts"]

TALLY_PROGRAM = """\
import os, stat, sys
sizes = []
for folder, _folders, names in os.walk(sys.argv[1]):
    for name in names:
        found = os.lstat(os.path.join(folder, name))
        sizes.append(found.st_size if stat.S_ISREG(found.st_mode) else -(1 << 62))
print(len(sizes), sum(sizes))
"""
"""Run on the companion with the output folder: prints the number of files and their bytes (Python 3.8)."""

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


def check_artifacts(report: Mapping[str, Any], tally: str) -> None:
    """Hold the report against what lies on the disk.

    Args:
        report: A report of success.
        tally: What `TALLY_PROGRAM` printed for the output folder.

    Raises:
        BuildReportParseError: The folder is empty, holds something else than files, or differs from the report.
    """
    words = tally.split()
    if len(words) != 2 or not all(word.lstrip("-").isdigit() for word in words):
        raise BuildReportParseError("the builder's output folder could not be looked at")
    files, size_bytes = int(words[0]), int(words[1])
    if files == 0:
        raise BuildReportParseError("the builder reports %s, and has left no file" % report["outcome"])
    if size_bytes < 0:
        raise BuildReportParseError("the builder left something in its output folder that is not a file")
    claimed = report["artifacts"] or {}
    for key, found in (("files", files), ("bytes", size_bytes)):
        if claimed.get(key) not in (None, found):
            raise BuildReportParseError(
                "the builder reports %s %s, and %d are on the disk" % (claimed[key], key, found),
                details={"reported": claimed[key], "found": found},
            )


def _killed(end: JobEnd) -> str:
    if end.oom_kills:
        return "the builder was killed because the companion's memory ran out"
    try:
        name = signal.Signals(int(end.signal or 0)).name
    except ValueError:
        name = "signal %s" % end.signal
    hint = ", probably because memory ran out" if name == "SIGKILL" else ""
    return "the builder was killed by %s%s" % (name, hint)
