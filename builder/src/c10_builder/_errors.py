# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Failures the builder can name. One class; the code says which, the exit code groups them for a shell."""

from __future__ import annotations

from typing import Dict

__all__ = ["EXIT_CODES", "BuildCancelled", "BuilderError"]

#: code -> process exit code: 2 the request, 3 the imagery or a quality gate, 4 this machine or its model, 5 cancelled.
EXIT_CODES: Dict[str, int] = {
    "bad_request": 2,
    "archive_missing": 3,
    "archive_invalid": 3,
    "archive_hash_mismatch": 3,
    "archive_changed": 3,
    "index_invalid": 3,
    "area_empty": 3,
    "area_too_large": 3,
    "tiles_corrupt": 3,
    "coverage_too_low": 3,
    "takeoff_not_covered": 3,
    "nothing_to_describe": 3,
    "descriptors_degenerate": 3,
    "self_retrieval_failed": 3,
    "georeference_failed": 3,
    "image_invalid": 3,
    "model_unavailable": 4,
    "model_invalid": 4,
    "output_exists": 4,
    "output_unwritable": 4,
    "disk_full": 4,
    "busy": 4,
    "cache_damaged": 4,
    "out_of_memory": 4,
    "cancelled": 5,
    "internal": 1,
}


class BuilderError(Exception):
    """A failure with a name.

    Args:
        code: a key of `EXIT_CODES`.
        message: what went wrong, in one sentence.
        hint: what to do about it.
        retryable: whether the same request may succeed later without any change by a person.
    """

    def __init__(self, code: str, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.retryable = retryable

    @property
    def exit_code(self) -> int:
        """The process exit code for this failure."""
        return EXIT_CODES.get(self.code, 1)


class BuildCancelled(BaseException):
    """Raised by the signal handler; a BaseException, so that no ``except Exception`` on the way swallows it."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name
