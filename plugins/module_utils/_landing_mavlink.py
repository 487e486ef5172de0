# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is the vehicle on the ground and disarmed, by its autopilot's own heartbeats?

Several heartbeats in a row of the right system, from its autopilot and nobody else, must all say disarmed and
MAV_STATE_STANDBY ("grounded and on standby", MAVLink common.xml); where the autopilot also tells EXTENDED_SYS_STATE,
that must say on the ground. Everything else, silence included, is unknown, and unknown is refused.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Optional

from ._errors import SettingsError, VehicleNotLandedError

__all__ = ["WANTED_HEARTBEATS", "HeartbeatJudge", "check_heartbeats"]

WANTED_HEARTBEATS = 3
AUTOPILOT_COMPONENT = 1
_ARMED = 128  # MAV_MODE_FLAG_SAFETY_ARMED
_STANDBY = 3  # MAV_STATE_STANDBY
_INVALID_AUTOPILOT = 8  # MAV_AUTOPILOT_INVALID: a ground station, a camera, …
_ON_GROUND, _UNDEFINED = 1, 0  # MAV_LANDED_STATE
_STATES = ("uninitialised", "booting", "calibrating", "standby", "active", "critical", "emergency", "powering off")


def _not_landed(reason: str, message: str) -> VehicleNotLandedError:
    return VehicleNotLandedError(message, details={"reason": reason})


class HeartbeatJudge:
    """Takes messages one by one until enough is known."""

    def __init__(self, system_id: int) -> None:
        self._system_id = system_id
        self.heartbeats = 0
        self.others = 0

    @property
    def satisfied(self) -> bool:
        return self.heartbeats >= WANTED_HEARTBEATS

    def take(self, message: Any) -> None:
        """Judge one message.

        Raises:
            VehicleNotLandedError: the vehicle says that it is armed, or anything but on the ground.
        """
        kind = message.get_type()
        if message.get_srcSystem() != self._system_id or message.get_srcComponent() != AUTOPILOT_COMPONENT:
            self.others += kind == "HEARTBEAT"
            return
        if kind == "EXTENDED_SYS_STATE" and message.landed_state not in (_ON_GROUND, _UNDEFINED):
            raise _not_landed("in-the-air", f"system {self._system_id} says that it is not on the ground")
        if kind != "HEARTBEAT" or message.autopilot == _INVALID_AUTOPILOT:
            return
        if message.base_mode & _ARMED:
            raise _not_landed("armed", f"system {self._system_id} is armed")
        state = int(message.system_status)
        if state != _STANDBY:
            name = _STATES[state] if state < len(_STATES) else f"in state {state}"
            raise _not_landed("not-standby", f"system {self._system_id} is {name}, not grounded and on standby")
        self.heartbeats += 1


def check_heartbeats(
    endpoint: Optional[str], system_id: int, *, timeout_s: float, clock: Callable[[], float] = time.monotonic
) -> Dict[str, Any]:
    """Listen until enough heartbeats prove that the vehicle is landed and disarmed; nothing is ever sent.

    Args:
        endpoint: as pymavlink writes it: `udpin:HOST:PORT`, `tcp:HOST:PORT`, or a serial device.
        system_id: the autopilot's, 1 to 255.

    Raises:
        SettingsError: no endpoint or system id, pymavlink is not installed, or the endpoint cannot be opened.
        VehicleNotLandedError: armed, not on the ground, or not enough heartbeats in time.
    """
    if not endpoint or not system_id:
        raise SettingsError(
            "landing_proof is mavlink, and the vehicle's endpoint or system id is missing",
            remediation="Set mavlink_endpoint and mavlink_system_id, for a fleet in the inventory.",
        )
    try:
        from pymavlink import mavutil
    except ImportError:
        raise SettingsError(
            "pymavlink is not installed", remediation="Install gps-denied-preflight[mavlink], or use the landed flag."
        ) from None
    try:
        link = mavutil.mavlink_connection(endpoint, source_system=255, autoreconnect=False, retries=1)
    except Exception as exc:  # noqa: BLE001  (pymavlink raises whatever its transports raise)
        raise SettingsError(f"cannot listen at mavlink_endpoint {endpoint}: {exc}") from None
    judge = HeartbeatJudge(system_id)
    deadline = clock() + timeout_s
    try:
        while not judge.satisfied:
            left_s = deadline - clock()
            if left_s <= 0:
                heard = f"; {judge.others} came from others" if judge.others else ""
                raise _not_landed(
                    "silent",
                    f"system {system_id} gave {judge.heartbeats} of {WANTED_HEARTBEATS} heartbeats at {endpoint} "
                    f"in {timeout_s:.0f} s{heard}",
                )
            message = link.recv_match(blocking=True, timeout=min(left_s, 0.5))
            if message is not None:
                judge.take(message)
    except OSError as exc:
        raise _not_landed("silent", f"the link at {endpoint} broke: {exc.strerror or exc}") from None
    finally:
        link.close()
    return {"proof": "mavlink", "system_id": system_id, "heartbeats": judge.heartbeats}
