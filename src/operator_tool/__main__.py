# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""`python -m operator_tool`, and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from ._cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
