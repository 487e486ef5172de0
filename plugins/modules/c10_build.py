#!/usr/bin/python
# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin `c10_build`, which does the work on the workstation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: c10_build
short_description: Run the C10 builder on a companion and follow it
version_added: "0.1.0"
description:
  - Starts the builder as a detached job (a systemd unit of its own, or a process session where there is no systemd),
    follows its output live, and takes its report.
  - The job outlives the link. After a cut it is followed on from the same byte; the same run started again
    re-attaches to it.
  - Where the run's setting C(build_lease_s) is not 0, the companion ends a job that nobody has followed for that long.
  - A signal, or the end of ansible-playbook, cancels the job with every process that it started.
  - Success means that the builder exited 0, that its report is the last line, of this run and valid, and that no
    process is left.
author:
  - gps_denied.preflight contributors (@gps-denied)
extends_documentation_fragment:
  - gps_denied.preflight.action_attributes
  - gps_denied.preflight.run
options:
  link_loss_s:
    description: How long the link to the companion may be gone before the task gives up; the job goes on meanwhile.
    type: float
    default: 600.0
  poll_wait_s:
    description: How long one look at the job waits on the companion for new output.
    type: float
    default: 5.0
  memory_max_bytes:
    description: Memory that the job may use, or each of its processes where no systemd runs it; V(0) sets no limit.
    type: int
    default: 0
  network:
    description: Whether the builder may use the network, where systemd runs it as root.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Run the C10 builder and follow it
  gps_denied.preflight.c10_build:
    run_dir: "{{ preflight.run.run_dir }}"

- name: Sit out a link that is gone for half an hour
  gps_denied.preflight.c10_build:
    run_dir: "{{ preflight.run.run_dir }}"
    link_loss_s: 1800
"""

RETURN = r"""
build:
  description: The builder's report.
  returned: success
  type: dict
reattached:
  description: Whether the job had been started by an earlier attempt of the same run.
  returned: success
  type: bool
error:
  description: The recognised failure, as data.
  returned: failure
  type: dict
"""
