# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""Hold the measured coverage against its limits, and write it into a page: `python -m tests.coverage_table`.

Exit status: 0 within the limits, 1 not; what is missing is named by file and line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.soak_results import commit

BEGIN = "<!-- written by `make coverage`: begin -->"
END = "<!-- written by `make coverage`: end -->"
OVERALL_PERCENT = 90.0
WHOLE = {
    "manifest": ("_manifest.py",),
    "grant and signature": ("_grant.py", "_ssh_signature.py"),
    "verify": ("_generation.py", "_generation_faults.py", "_takeoff_check.py", "_takeoff_check_program.py"),
    "activation": (
        "_activation.py", "_activation_garbage.py", "_activation_lock.py", "_activation_rollback.py",
        "_activation_seal.py", "_activation_state.py", "_atomic_file.py", "_audit.py",
    ),
    "redactor": ("_redact.py", "_redact_encodings.py"),
    "exit codes": ("_errors.py",),
}  # fmt: skip
"""What a flight's safety hangs on: every line and every branch of these is to be run."""


def rows_of(measured: Mapping[str, Any], *, parts_only: bool = False) -> tuple[list[str], list[str]]:
    """The table's lines, and what falls short, out of `coverage json`."""
    by_name: dict[str, Any] = {Path(path).name: (path, data) for path, data in measured["files"].items()}
    lines, short = [], []
    for what, names in WHOLE.items():
        covered = total = 0
        for name in names:
            path, data = by_name.get(name, (name, None))
            if data is None:
                short.append(f"{path}: not measured")
                continue
            summary = data["summary"]
            total += summary["num_statements"] + summary["num_branches"]
            covered += summary["covered_lines"] + summary["covered_branches"]
            missing = [str(line) for line in data["missing_lines"]]
            missing += [f"{begin}->{end}" for begin, end in data["missing_branches"]]
            if missing:
                short.append(f"{path}: {', '.join(missing)}")
        lines.append(f"| {what} | {100 * covered / max(1, total):.1f} % | 100 % |")
    if parts_only:
        return lines, short
    overall = float(measured["totals"]["percent_covered"])
    if overall < OVERALL_PERCENT:
        short.append(f"overall: {overall:.1f} % of {OVERALL_PERCENT:.0f} %")
    lines.append(f"| everything | {overall:.1f} % | {OVERALL_PERCENT:.0f} % |")
    return lines, short


def with_table(text: str, lines: list[str], said: str) -> str:
    """The page with this table between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the page has no table between {BEGIN} and {END}")
    table = ["", said, "", "| Part | Lines and branches run | Wanted |", "|---|---|---|", *lines, "", END]
    return before + BEGIN + "\n".join(table) + after


def main() -> int:
    """Print the table, and write it where a page is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", type=Path)
    parser.add_argument("--tests", default="the whole suite", help="what was run, in words")
    parser.add_argument("--parts-only", action="store_true", help="leave out the figure over everything")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coverage.json")
        subprocess.run([sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(path)], check=True)
        lines, short = rows_of(json.loads(path.read_bytes()), parts_only=options.parts_only)
    said = f"Measured over {options.tests}, with the processes that it starts, at commit {commit()}."
    sys.stdout.write("\n".join([said, *lines, *short]) + "\n")
    if options.page:
        text = with_table(options.page.read_text(encoding="utf-8"), lines, said)
        options.page.write_text(text, encoding="utf-8")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
