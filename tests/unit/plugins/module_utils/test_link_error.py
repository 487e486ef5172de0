# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._link_error import link_error

CHANGED = """@@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@@
The fingerprint for the ED25519 key sent by the remote host is
SHA256:4kzjAe7Ck2JqZrO5mSYn4tnVuk3i6pPQfbZX6yCOkm0.
Host key verification failed."""


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (CHANGED, "CompanionNotTrustedError", "SHA256:4kzjAe7Ck2JqZrO5mSYn4tnVuk3i6pPQfbZX6yCOkm0"),
        ("No ED25519 host key is known for drone-1\n", "CompanionNotTrustedError", "drone-1"),
        ("drone@10.0.0.1: Permission denied (publickey).", "CompanionNotReadyError", "refused the SSH login"),
        ("ssh: connect to host 10.0.0.1 port 22: No route to host", "CompanionUnreachableError", "No route to host"),
        ("Connection timed out\n\x1b]0;owned\x07 bye", "CompanionUnreachableError", "]0;owned bye"),
        ("", "CompanionUnreachableError", "cannot reach drone-1: no word from ssh"),
        (
            'Data could not be sent to remote host "10.0.0.1". Make sure this host can be reached over ssh: ',
            "CompanionUnreachableError",
            "cannot reach drone-1: no word from ssh",
        ),
        (
            "Failed to connect to the host via ssh: ssh: connect to host 10.0.0.1 port 22: No route to host",
            "CompanionUnreachableError",
            "cannot reach drone-1: ssh: connect to host 10.0.0.1 port 22: No route to host",
        ),
    ],
)
def test_what_ssh_said(text: str, kind: str, words: str) -> None:
    error = link_error("drone-1", text)
    assert type(error).__name__ == kind
    assert words in error.message
    assert "\x1b" not in error.message
