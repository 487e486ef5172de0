# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0

"""The driver's end of the progress stream: one datagram a record, in a folder that only this user may enter."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MAX_RECORD_BYTES = 64 * 1024


@contextlib.contextmanager
def progress_socket(folder: Path, handle: Callable[[dict[str, Any]], None] | None) -> Iterator[Path]:
    """Listen while this lasts, and call `handle` with each record from a thread of its own; drop what is no record."""
    path = folder / "progress.sock"
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    # By way of its folder's descriptor: a socket's address has room for some hundred characters only.
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    short = f"/proc/self/fd/{descriptor}/{path.name}"
    receiver.bind(short)

    def listen() -> None:
        while True:
            datagram = receiver.recv(MAX_RECORD_BYTES)
            if not datagram:
                return
            with contextlib.suppress(ValueError):
                record = json.loads(datagram)
                if isinstance(record, dict) and handle:
                    handle(record)

    thread = threading.Thread(target=listen, name="progress", daemon=True)
    thread.start()
    try:
        yield path
    finally:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", short)
        thread.join(timeout=5)
        receiver.close()
        os.close(descriptor)
