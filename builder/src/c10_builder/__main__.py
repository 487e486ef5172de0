# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""``python -m c10_builder`` is the command ``c10-builder``."""

import sys

from .cli import main

sys.exit(main())
