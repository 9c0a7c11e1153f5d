"""Captured calls, under as many numbers as a benchmark needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from arimonitor_core.inputs import AriEventReceived
from benchmarks.streams import ANSWERED_CALL, LEAN, Arrived, arrived
from tests.replay.captures import load_capture

_UNIQUE: Final = re.compile(
    rb"(?P<channel>\bpbx-\d{10}\.)\d+\b"
    rb"|(?P<name>\b[A-Z]\w+/[^\"/\s,&]*?-)[0-9a-f]{8}(?![0-9a-f-])"
    rb"|(?P<uuid>\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-)[0-9a-f]{12}\b"
)
"""What is never the same for two calls: a channel's id and name, a bridge's id, a SIP Call-ID."""
_ENDPOINT_EVENT: Final = re.compile(rb'"type":"(?:Peer|Contact|Endpoint)Sta[a-zA-Z]*"')
_SPAN: Final = 256
"""Ids of one kind in a capture, at most."""

_NUMBERED: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "channel": lambda prefix, number: b"%b%d" % (prefix, 1_000_000 + number),
    "name": lambda prefix, number: b"%b%08x" % (prefix, number),
    "uuid": lambda prefix, number: b"%b%012x" % (prefix, number),
}


class CaptureTemplate:
    """What a capture says of its calls, that can be had under any number.

    Channel ids, channel names and bridges, and with the ids the recordings' paths, differ from one number to the next,
    as wide as a busy Asterisk writes them; who calls whom, and when, stays. States of endpoints, which are everybody's,
    are left out.
    """

    def __init__(self, capture: str) -> None:
        items = [item for item in load_capture(capture) if isinstance(item, AriEventReceived)]
        events = [arrived(item) for item in items if not _ENDPOINT_EVENT.search(item.raw)]
        found = (match for _, raw in events for match in _UNIQUE.finditer(raw))
        kinds = {match[0]: (str(match.lastgroup), match[match.lastgroup or ""]) for match in found}
        self._slots = [(b"%d" % place, *kind) for place, kind in enumerate(kinds.values())]
        assert len(self._slots) <= _SPAN
        places = {text: b"%%(%d)b" % place for place, text in enumerate(kinds)}
        self._templates = [
            (received_at, _UNIQUE.sub(lambda match: places[match[0]], raw.replace(b"%", b"%%")))
            for received_at, raw in events
        ]

    def __len__(self) -> int:
        return len(self._templates)

    def make(self, number: int, events: int | None = None) -> list[Arrived]:
        """The capture's events, or the first few of them."""
        base = number * _SPAN
        fill = {slot: _NUMBERED[kind](prefix, base + place) for place, (slot, kind, prefix) in enumerate(self._slots)}
        return [(received_at, template % fill) for received_at, template in self._templates[:events]]


class CallTemplate(CaptureTemplate):
    """An answered call as Asterisk sends it filtered: two channels, one bridge, a recording."""

    def __init__(self) -> None:
        super().__init__(f"{LEAN[-1]}/{ANSWERED_CALL}")
        entered = [index for index, (_, raw) in enumerate(self.make(0)) if b'"ChannelEnteredBridge"' in raw]
        self.live_events = entered[-1] + 1
        """How many of its events it takes until two people talk."""
