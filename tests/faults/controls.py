#!/usr/bin/env python3
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Positive controls: plant each of the seeded defects in a copy of the product and see that its test convicts it.

    python tests/faults/controls.py            all of them (`make controls`)
    python tests/faults/controls.py WORD…      those whose name holds one of the words
    python tests/faults/controls.py --quick    those that the ordinary suite plants as well

First all tests are run on the copy as it is: they must pass. Then each defect is planted alone, and its test must fail,
by an assertion or a wrong error, not because the product no longer loads. Exit status: 0 all convicted, 1 not all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from seeded_defects import DEFECTS, Defect

ROOT = Path(__file__).resolve().parents[2]
UTILS = Path("plugins", "module_utils")
TIMEOUT_S = 150.0
NO_VERDICT = re.compile(r"\b(SyntaxError|IndentationError|NameError|ImportError|ModuleNotFoundError)\b")


@dataclass(frozen=True)
class Verdict:
    """What became of one defect; `words` are the test's first complaint, or why there is none."""

    defect: Defect
    convicted: bool
    seconds: float
    words: str


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of what is tracked or new in this checkout, on its own path."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    with tempfile.TemporaryDirectory(prefix="gps-denied-controls-") as folder:
        tree = Path(folder, "tree")
        for name in filter(None, names):
            source, target = ROOT / name, tree / name
            if source.exists() or source.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        yield tree


def run_tests(tree: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy, which import the copy, also in the processes that they start."""
    packages = [str(tree / name) for name in ("dev", "src", "builder/src")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "GPS_DENIED_"))}
    environment.update(PYTHONPATH=os.pathsep.join(packages), PYTHONDONTWRITEBYTECODE="1")
    environment["GPS_DENIED_SHARED_DATA"] = os.environ.get(
        "GPS_DENIED_SHARED_DATA", str(ROOT.parent / "shared" / "data")
    )
    options = ["-x", "-q", "-p", "no:cacheprovider", "--tb=short", "--durations=0", "--timeout=120"]
    command = [sys.executable, "-m", "pytest", *options, *dict.fromkeys(tests)]
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S * 4
    )


def planted(tree: Path, defect: Defect) -> Verdict:
    """Plant one defect, run its test, and take the defect out again."""
    began = time.monotonic()
    path = tree / UTILS / defect.file
    text = path.read_text(encoding="utf-8")
    count = text.count(defect.sound)
    if count != 1:
        return Verdict(defect, convicted=False, seconds=0.0, words=f"its place stands {count} times in {defect.file}")
    try:
        path.write_text(text.replace(defect.sound, defect.broken), encoding="utf-8")
        compile(path.read_bytes(), str(path), "exec")
        done = run_tests(tree, [defect.test])
    except subprocess.TimeoutExpired:
        return Verdict(defect, convicted=False, seconds=time.monotonic() - began, words="the test came to no end")
    finally:
        path.write_text(text, encoding="utf-8")
    complaints = [line[1:].strip() for line in done.stdout.splitlines() if line.startswith("E ")]
    words = next(iter(complaints), done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:])
    convicted = done.returncode == 1 and bool(complaints) and not NO_VERDICT.search("\n".join(complaints))
    return Verdict(defect, convicted=convicted, seconds=time.monotonic() - began, words=words)


def judge_all(defects: Sequence[Defect]) -> Iterator[Verdict]:
    """The verdicts, as they come.

    Raises:
        RuntimeError: the tests do not pass on the sound copy.
    """
    with copied_tree() as tree:
        done = run_tests(tree, [defect.test for defect in defects])
        if done.returncode != 0:
            raise RuntimeError(f"the tests do not pass without a defect:\n{done.stdout[-4000:]}{done.stderr[-1000:]}")
        for defect in defects:
            yield planted(tree, defect)


def chosen(words: Sequence[str]) -> tuple[Defect, ...]:
    """The defects that the command line asks for."""
    if words == ["--quick"]:
        return tuple(defect for defect in DEFECTS if defect.quick)
    return tuple(defect for defect in DEFECTS if not words or any(word in defect.name for word in words))


def main(words: Sequence[str]) -> int:
    """Print the table."""
    defects = chosen(words)
    missed = 0
    began = time.monotonic()
    for verdict in judge_all(defects):
        missed += not verdict.convicted
        word = "convicted" if verdict.convicted else "MISSED"
        defect = verdict.defect
        line = f"{word:9} {defect.invariant:3} {verdict.seconds:5.1f} s  {defect.name}"
        sys.stdout.write(f"\n{'':20} ".join((line, defect.test.rpartition("/")[2], verdict.words[:150])) + "\n")
        sys.stdout.flush()
    seconds = time.monotonic() - began
    sys.stdout.write(f"{len(defects) - missed} of {len(defects)} defects convicted in {seconds:.0f} s\n")
    return 1 if missed or not defects else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
