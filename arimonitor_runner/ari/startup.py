"""When Asterisk started: what tells one of its processes from the next."""

from __future__ import annotations

from typing import Final

import msgspec

from arimonitor_core.ari_events import UNREADABLE
from arimonitor_core.values import parse_time_ms

STATUS_PATH: Final = "asterisk/info?only=status"
"""What says so; it is answered in a deadlock of ARI, too."""


class _Status(msgspec.Struct):
    startup_time: str


class _Info(msgspec.Struct):
    status: _Status


def read_startup_ms(info: bytes) -> int:
    """The instant that an answer of GET /asterisk/info names, in Unix milliseconds; 0 where it names none.

    Instants are to be compared, never their texts: the zone's offset changes twice a year.
    """
    try:
        startup_time = msgspec.json.decode(info, type=_Info).status.startup_time
    except UNREADABLE:
        return 0
    return parse_time_ms(startup_time) or 0
