# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: every benchmark of this folder, one after the other. Ratios are the point, not figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 1800


def main() -> int:
    """Run them all; returns how many failed."""
    failed = []
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"== {path.stem}", flush=True)
        try:
            done = subprocess.run([sys.executable, str(path), *sys.argv[1:]], check=False, timeout=TIMEOUT_S).returncode
        except subprocess.TimeoutExpired:
            done = 1
        if done:
            failed.append(path.stem)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
