"""How late are events? Asterisk writes into each when it happened; the difference to now shows that all is well."""

from __future__ import annotations

import msgspec
import structlog

from arimonitor_core.ari_events import UNREADABLE
from arimonitor_core.values import parse_time_ms

LATE_S = 5.0
LOOK_S = 1.0
"""One event in so long is looked at: decoding all would cost more than following them."""

_log = structlog.get_logger()


class _Event(msgspec.Struct):
    timestamp: str = ""


_decode = msgspec.json.Decoder(_Event).decode


class LagWatch:
    """Looks at an event now and then, and says once that events come late, and once that they no longer do."""

    def __init__(self) -> None:
        self.due_at = 0.0
        """From here on an event should be looked at, Unix seconds."""
        self.is_late = False

    def look(self, raw: bytes, received_at: float) -> None:
        """Compare an event's own time with that of its arrival."""
        try:
            happened_ms = parse_time_ms(_decode(raw).timestamp)
        except UNREADABLE:
            return
        if happened_ms is None:
            return
        self.due_at = received_at + LOOK_S
        lag_s = received_at - happened_ms / 1000
        if (lag_s > LATE_S) is self.is_late:
            return
        self.is_late = not self.is_late
        if self.is_late:
            what = "events come late: Asterisk or we are too slow, or the clocks differ"
            _log.warning(what, lag_s=round(lag_s, 3))
        else:
            _log.info("events come in time again", lag_s=round(lag_s, 3))
