# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Landed and disarmed by heartbeats: real MAVLink frames over UDP on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from ansible_collections.gps_denied.preflight.plugins.module_utils._errors import SettingsError, VehicleNotLandedError
from ansible_collections.gps_denied.preflight.plugins.module_utils._landing_mavlink import check_heartbeats
from pymavlink.dialects.v20 import common

STANDBY, ACTIVE, EMERGENCY, BOOT = 3, 4, 6, 1
ARMED = common.MAV_MODE_FLAG_SAFETY_ARMED


def frame(message: common.MAVLink_message, *, system: int = 7, component: int = 1) -> bytes:
    return bytes(message.pack(common.MAVLink(None, srcSystem=system, srcComponent=component)))


def heartbeat(state: int = STANDBY, mode: int = 0, *, system: int = 7, component: int = 1, autopilot: int = 3) -> bytes:
    return frame(common.MAVLink_heartbeat_message(2, autopilot, mode, 0, state, 3), system=system, component=component)


def landed(state: int) -> bytes:
    return frame(common.MAVLink_extended_sys_state_message(0, state))


@contextmanager
def vehicle(*frames: bytes) -> Iterator[str]:
    """Sends the frames round and round until nobody listens any more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    ended = threading.Event()

    def send(all_frames: Sequence[bytes]) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as radio:
            while not ended.is_set():
                for one in all_frames:
                    radio.sendto(one, ("127.0.0.1", port))
                ended.wait(0.01)

    thread = threading.Thread(target=send, args=(frames,))
    thread.start()
    try:
        yield f"udpin:127.0.0.1:{port}"
    finally:
        ended.set()
        thread.join()


def test_three_heartbeats_of_a_grounded_vehicle() -> None:
    with vehicle(heartbeat(), landed(1)) as endpoint:
        assert check_heartbeats(endpoint, 7, timeout_s=20)["heartbeats"] == 3


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([heartbeat(mode=ARMED)], "armed"),
        ([heartbeat(), heartbeat(), heartbeat(STANDBY, ARMED)], "armed"),
        ([heartbeat(ACTIVE)], "not-standby"),
        ([heartbeat(EMERGENCY)], "not-standby"),
        ([heartbeat(BOOT)], "not-standby"),
        ([heartbeat(200)], "not-standby"),
        ([landed(2), heartbeat()], "in-the-air"),
        ([landed(4), heartbeat()], "in-the-air"),
    ],
)
def test_one_word_against_it_is_enough(frames: list[bytes], reason: str) -> None:
    with vehicle(*frames) as endpoint, pytest.raises(VehicleNotLandedError) as caught:
        check_heartbeats(endpoint, 7, timeout_s=20)
    assert caught.value.details["reason"] == reason


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [heartbeat(system=8)],
        [heartbeat(component=190)],
        [heartbeat(autopilot=8)],
        [b"no mavlink at all"],
        [heartbeat()[:-1] + b"\0"],
    ],
    ids=["silence", "another-system", "another-component", "a-ground-station", "noise", "a-broken-frame"],
)
def test_silence_and_strangers_are_unknown(frames: list[bytes]) -> None:
    with vehicle(*frames) as endpoint, pytest.raises(VehicleNotLandedError, match="0 of 3 heartbeats"):
        check_heartbeats(endpoint, 7, timeout_s=0.3)


@pytest.mark.parametrize(("endpoint", "system_id"), [(None, 7), ("udpin:127.0.0.1:1", 0), ("tcp:127.0.0.1:1", 7)])
def test_an_endpoint_that_is_none(endpoint: str | None, system_id: int) -> None:
    with pytest.raises(SettingsError):
        check_heartbeats(endpoint, system_id, timeout_s=1)
