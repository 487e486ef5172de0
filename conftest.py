# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every test of the collection, the driver and the builder."""

from __future__ import annotations

from hypothesis import settings

# A busy machine makes an example slow, not wrong; the time limit of the whole test stays.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
