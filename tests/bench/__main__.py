# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: every benchmark of this folder, one after the other. Ratios are the point, not figures.

What each prints goes to the terminal and, where it came to its end, into its block of docs/performance.md with the
commit and the machine. `python -m tests.bench sync builder` runs those two.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "performance.md"


def machine() -> str:
    """CPU and cores of this machine."""
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    return f"{names[0] if names else 'unknown CPU'}, {os.cpu_count()} cores"


def commit() -> str:
    """What was measured; `+` where the checkout differs from its commit."""
    command = ["git", "describe", "--always", "--dirty=+"]
    found = subprocess.run(command, check=False, cwd=FOLDER, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def record(name: str, text: str) -> None:
    """Put what a benchmark printed into its block of the page."""
    begin, end = f"<!-- written by `make bench`: {name} begin -->", f"<!-- written by `make bench`: {name} end -->"
    page = PAGE.read_text("utf-8")
    head, found, rest = page.partition(begin)
    _old, closed, tail = rest.partition(end)
    if not found or not closed:
        sys.exit(f"{PAGE} has no block for {name}: put '{begin}' and '{end}' where its figures shall stand")
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    block = f"\n```text\n{text.rstrip()}\n```\n\n{commit()}, {day}, {machine()}\n"
    PAGE.write_text(head + begin + block + end + tail, "utf-8")


def run(name: str) -> bool:
    """Run one benchmark; whether it came to its end with its targets met."""
    print(f"== {name}", flush=True)
    said: list[str] = []
    command = [sys.executable, str(FOLDER / f"bench_{name}.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            said.append(line)
    if said and process.returncode in (0, 1):
        record(name, "".join(said))
    return process.returncode == 0


def main() -> int:
    """Run what was asked for; returns how many failed or missed their targets."""
    known = [path.stem[len("bench_") :] for path in sorted(FOLDER.glob("bench_*.py"))]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; default: all")
    names = parser.parse_args().names or known
    if unknown := set(names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    failed = [name for name in names if not run(name)]
    if failed:
        print(f"failed, or targets missed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
