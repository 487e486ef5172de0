# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each MAVLink mission command means for the map: a table, and nothing but a table.

Sources: MAVLink common.xml and ardupilotmega.xml; the readers of QGroundControl, ArduPilot and PX4.
"""

from __future__ import annotations

import enum
from typing import Dict, NamedTuple, Optional, Tuple

__all__ = ["COMMANDS", "FRAMES_GLOBAL", "FRAMES_LOCAL", "FRAME_MISSION", "Command", "Role", "command_of"]


class Role(enum.Enum):
    """What the x and y of a command's item are."""

    FLOWN = "a position that is flown to"
    LOOKED_AT = "a position that is looked at or stored, not flown to"
    LOCAL = "an offset in metres, not degrees"
    NOT_A_POSITION = "no position: its x and y hold other values"
    NONE = "no position"


class Command(NamedTuple):
    """One command: its MAVLink name without MAV_CMD_, its role, and the parameter (1-4) that is a radius, if any."""

    name: str
    role: Role
    radius_param: Optional[int] = None


FRAMES_GLOBAL = frozenset({0, 3, 5, 6, 10, 11})
"""Frames whose x and y are latitude and longitude. In files 5, 6 and 11 hold plain degrees as well."""

FRAME_MISSION = 2
"""The frame of commands without coordinates."""

FRAMES_LOCAL = frozenset({1, 4, 7, 8, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21})
"""Frames whose x and y are metres."""

_FLOWN: Dict[int, Tuple[str, Optional[int]]] = {
    16: ("NAV_WAYPOINT", None),
    17: ("NAV_LOITER_UNLIM", 3),
    18: ("NAV_LOITER_TURNS", 3),
    19: ("NAV_LOITER_TIME", 3),
    21: ("NAV_LAND", None),
    22: ("NAV_TAKEOFF", None),
    31: ("NAV_LOITER_TO_ALT", 2),
    34: ("DO_ORBIT", 1),
    35: ("DO_FIGURE_EIGHT", 1),
    36: ("NAV_ARC_WAYPOINT", None),
    81: ("NAV_PATHPLANNING", None),
    82: ("NAV_SPLINE_WAYPOINT", None),
    84: ("NAV_VTOL_TAKEOFF", None),
    85: ("NAV_VTOL_LAND", None),
    94: ("NAV_PAYLOAD_PLACE", None),
    192: ("DO_REPOSITION", None),
    252: ("OVERRIDE_GOTO", None),
    4501: ("CONDITION_GATE", None),
    5000: ("NAV_FENCE_RETURN_POINT", None),
    30001: ("PAYLOAD_PREPARE_DEPLOY", None),
    31000: ("WAYPOINT_USER_1", None),
    31001: ("WAYPOINT_USER_2", None),
    31002: ("WAYPOINT_USER_3", None),
    31003: ("WAYPOINT_USER_4", None),
    31004: ("WAYPOINT_USER_5", None),
}

_LOOKED_AT: Dict[int, Tuple[str, Optional[int]]] = {
    25: ("NAV_FOLLOW", None),
    80: ("NAV_ROI", None),
    179: ("DO_SET_HOME", None),
    188: ("DO_RETURN_PATH_START", None),
    189: ("DO_LAND_START", None),
    195: ("DO_SET_ROI_LOCATION", None),
    201: ("DO_SET_ROI", None),
    611: ("DO_SET_GLOBAL_ORIGIN", None),
    4001: ("NAV_ROI_SITE", None),
    5001: ("NAV_FENCE_POLYGON_VERTEX_INCLUSION", None),
    5002: ("NAV_FENCE_POLYGON_VERTEX_EXCLUSION", None),
    5003: ("NAV_FENCE_CIRCLE_INCLUSION", 1),
    5004: ("NAV_FENCE_CIRCLE_EXCLUSION", 1),
    5100: ("NAV_RALLY_POINT", None),
    31005: ("SPATIAL_USER_1", None),
    31006: ("SPATIAL_USER_2", None),
    31007: ("SPATIAL_USER_3", None),
    31008: ("SPATIAL_USER_4", None),
    31009: ("SPATIAL_USER_5", None),
    43003: ("EXTERNAL_POSITION_ESTIMATE", None),
}

_LOCAL: Dict[int, str] = {23: "NAV_LAND_LOCAL", 24: "NAV_TAKEOFF_LOCAL"}

_NOT_A_POSITION: Dict[int, str] = {
    32: "DO_FOLLOW",
    33: "DO_FOLLOW_REPOSITION",
    187: "DO_GO_AROUND",
    196: "DO_SET_ROI_WPNEXT_OFFSET",
    202: "DO_DIGICAM_CONFIGURE",
    203: "DO_DIGICAM_CONTROL",
    205: "DO_MOUNT_CONTROL",
    209: "DO_MOTOR_TEST",
    241: "PREFLIGHT_CALIBRATION",
    260: "DO_GUIDED_MASTER",
    310: "ACTUATOR_TEST",
    311: "CONFIGURE_ACTUATOR",
    511: "SET_MESSAGE_INTERVAL",
    512: "REQUEST_MESSAGE",
    1000: "DO_GIMBAL_MANAGER_PITCHYAW",
    2005: "CAMERA_TRACK_RECTANGLE",
    31010: "USER_1",
    31011: "USER_2",
    31012: "USER_3",
    31013: "USER_4",
    31014: "USER_5",
}

_NONE: Dict[int, str] = {
    20: "NAV_RETURN_TO_LAUNCH",
    30: "NAV_CONTINUE_AND_CHANGE_ALT",
    83: "NAV_ALTITUDE_WAIT",
    86: "NAV_ATTITUDE_TIME or reserved",
    87: "reserved",
    92: "NAV_GUIDED_ENABLE",
    93: "NAV_DELAY",
    95: "NAV_LAST",
    112: "CONDITION_DELAY",
    113: "CONDITION_CHANGE_ALT",
    114: "CONDITION_DISTANCE",
    115: "CONDITION_YAW",
    159: "CONDITION_LAST",
    176: "DO_SET_MODE",
    177: "DO_JUMP",
    178: "DO_CHANGE_SPEED",
    180: "DO_SET_PARAMETER",
    181: "DO_SET_RELAY",
    182: "DO_REPEAT_RELAY",
    183: "DO_SET_SERVO",
    184: "DO_REPEAT_SERVO",
    185: "DO_FLIGHTTERMINATION",
    186: "DO_CHANGE_ALTITUDE",
    190: "DO_RALLY_LAND",
    191: "DO_GO_AROUND",
    193: "DO_PAUSE_CONTINUE",
    194: "DO_SET_REVERSE",
    197: "DO_SET_ROI_NONE",
    200: "DO_CONTROL_VIDEO",
    206: "DO_SET_CAM_TRIGG_DIST",
    207: "DO_FENCE_ENABLE",
    208: "DO_PARACHUTE",
    210: "DO_INVERTED_FLIGHT",
    211: "DO_GRIPPER",
    212: "DO_AUTOTUNE_ENABLE",
    213: "NAV_SET_YAW_SPEED",
    214: "DO_SET_CAM_TRIGG_INTERVAL",
    215: "DO_SET_RESUME_REPEAT_DIST",
    216: "DO_SPRAYER",
    217: "DO_SEND_SCRIPT_MESSAGE",
    218: "DO_AUX_FUNCTION",
    220: "DO_MOUNT_CONTROL_QUAT",
    221: "DO_GUIDED_LIMITS_MASTER",
    222: "DO_GUIDED_LIMITS",
    223: "DO_ENGINE_CONTROL",
    224: "DO_SET_MISSION_CURRENT",
    240: "DO_LAST",
    300: "MISSION_START",
    400: "COMPONENT_ARM_DISARM",
    530: "SET_CAMERA_MODE",
    531: "SET_CAMERA_ZOOM",
    532: "SET_CAMERA_FOCUS",
    533: "SET_STORAGE_USAGE",
    534: "SET_CAMERA_SOURCE",
    600: "JUMP_TAG",
    601: "DO_JUMP_TAG",
    2000: "IMAGE_START_CAPTURE",
    2001: "IMAGE_STOP_CAPTURE",
    2500: "VIDEO_START_CAPTURE",
    2501: "VIDEO_STOP_CAPTURE",
    2502: "VIDEO_START_STREAMING",
    2503: "VIDEO_STOP_STREAMING",
    3000: "DO_VTOL_TRANSITION",
    42600: "DO_WINCH",
    42702: "NAV_SCRIPT_TIME",
    42703: "NAV_ATTITUDE_TIME",
}


def _table() -> Dict[int, Command]:
    table: Dict[int, Command] = {}
    for number, (name, radius_param) in _FLOWN.items():
        table[number] = Command(name, Role.FLOWN, radius_param)
    for number, (name, radius_param) in _LOOKED_AT.items():
        table[number] = Command(name, Role.LOOKED_AT, radius_param)
    for role, names in ((Role.LOCAL, _LOCAL), (Role.NOT_A_POSITION, _NOT_A_POSITION), (Role.NONE, _NONE)):
        for number, name in names.items():
            table[number] = Command(name, role)
    return table


COMMANDS: Dict[int, Command] = _table()
"""Every known command by its number."""


def command_of(number: int) -> Optional[Command]:
    """The command of the number, or None where it is unknown; all of 42000-42999 carry no position."""
    known = COMMANDS.get(number)
    if known is None and 42000 <= number <= 42999:
        return Command(f"vendor command {number}", Role.NONE)
    return known
