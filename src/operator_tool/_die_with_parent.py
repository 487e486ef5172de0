# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""Run a command that ends with its parent: `python die_with_parent.py PARENT_PID COMMAND…`.

A driver killed with -9 cannot end its ansible-playbook; the kernel can (prctl(2), PR_SET_PDEATHSIG), and the setting
survives exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def _main() -> None:
    parent_pid, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit(1)
    os.execvp(command[0], command)  # noqa: S606 - the command is the driver's own


if __name__ == "__main__":
    _main()
