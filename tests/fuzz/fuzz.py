#!/usr/bin/env python3
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Coverage-guided fuzzing of the targets with atheris (libFuzzer): `fuzz.py [--seconds N] [NAME…]`.

Each target has a process of its own, an equal share of the time, and its findings under `.cache/fuzz/NAME`; what it
has learned stays there for the next run. Exit status: 0 nothing found, 1 a finding; it is printed with its traceback.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "fuzz"
RSS_LIMIT_MB = 1024
sys.path[:0] = [str(HERE), str(ROOT / "dev"), str(ROOT / "tests" / "fixtures")]


def fuzz_one(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["ansible_collections.gps_denied"]):
        from targets import TARGETS

    target = TARGETS[name]
    corpus = CACHE / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(target.samples()):
        (corpus / f"sample-{number}").write_bytes(sample)
    options = [
        "-timeout=25",
        f"-rss_limit_mb={RSS_LIMIT_MB}",
        f"-artifact_prefix={CACHE / name}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *arguments, *options, str(corpus)], target)
    atheris.Fuzz()


def main() -> int:
    """Fuzz the targets one after another, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together (default %(default)s)")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    from targets import TARGETS

    names = options.names or list(TARGETS)
    each_s = max(1, options.seconds // len(names))
    found = 0
    for name in names:
        (CACHE / name).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(HERE / "fuzz.py"), "--one", name, f"-max_total_time={each_s}"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=os.environ)
        said = done.stderr + done.stdout
        match = re.search(r"number_of_executed_units: (\d+)", said)
        runs = match[1] if match else "?"
        sys.stdout.write(f"{name:16} {runs:>9} inputs  {'ok' if done.returncode == 0 else 'FOUND'}\n")
        sys.stdout.flush()
        if done.returncode:
            found += 1
            sys.stdout.write(said[-6000:] + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
    sys.exit(main())
