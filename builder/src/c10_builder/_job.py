# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""What the phases of one build share: the request, the voice, the report, and the folder being put together."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

from ._errors import BuilderError
from ._gates import Finding
from ._report import empty_report
from ._request import BuildRequest
from ._voice import Voice

__all__ = ["Job"]


class Job:
    """One build's state that every phase may use.

    Attributes:
        request: what was asked for.
        voice: who is told how it goes.
        report: filled as far as things go.
        staged: the index under construction, beside the output folder.
    """

    def __init__(self, request: BuildRequest, voice: Voice) -> None:
        self.request = request
        self.voice = voice
        self.report: Dict[str, Any] = empty_report(request.run_id, request.nonce)
        self.report["flight_id"] = request.flight_id
        self.staged: Path = request.output_dir.parent / (".%s.c10-partial" % request.output_dir.name)
        self._started_at = time.monotonic()
        self._phase_at: Tuple[str, float] = ("preflight", self._started_at)

    def phase(self, name: str) -> None:
        """Enter a phase."""
        self._clock(name)
        self.voice.phase(name)

    def finish(self) -> None:
        """Fill in times, memory and warnings."""
        self._clock(self._phase_at[0])
        self.report["timing_s"]["total"] = round(time.monotonic() - self._started_at, 3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.report["resources"]["peak_rss_mb"] = round(
            peak / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0), 1
        )
        self.report["warnings"] = self.voice.warnings

    def _clock(self, name: str) -> None:
        now = time.monotonic()
        previous, since = self._phase_at
        timing = self.report["timing_s"]
        timing[previous] = round(timing.get(previous, 0.0) + now - since, 3)
        self._phase_at = (name, now)

    def act_on(self, findings: List[Finding]) -> None:
        """Warn of what the gates found.

        Raises:
            BuilderError: for a fatal finding.
        """
        for finding in findings:
            if finding.fatal:
                raise BuilderError(
                    finding.code, finding.text, hint="another model or sharper imagery is needed for this area"
                )
            self.voice.warn(finding.code, finding.text)
