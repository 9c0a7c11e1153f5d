"""One captured call, under as many numbers as a benchmark needs."""

from __future__ import annotations

from typing import Any

import orjson

from arimonitor_core.inputs import AriEventReceived
from benchmarks.streams import ANSWERED_CALL, LEAN, Arrived, arrived
from tests.replay.captures import load_capture


class CallTemplate:
    """A captured answered call (two channels, one bridge, a recording) that can be had under any number.

    Channel ids, channel names, the bridge and with the ids the recording's path differ from one number to the next, as
    wide as a busy Asterisk writes them; who calls whom, and when, stays.
    """

    def __init__(self) -> None:
        inputs = load_capture(f"{LEAN[-1]}/{ANSWERED_CALL}")
        events = [arrived(item) for item in inputs if isinstance(item, AriEventReceived)]
        names = _placeholders([orjson.loads(raw) for _, raw in events])
        self._templates = [(received_at, _template(raw, names)) for received_at, raw in events]
        entered = [index for index, (_, raw) in enumerate(events) if b'"ChannelEnteredBridge"' in raw]
        self.live_events = entered[-1] + 1
        """How many of its events it takes until two people talk."""

    def __len__(self) -> int:
        return len(self._templates)

    def make(self, number: int, events: int | None = None) -> list[Arrived]:
        """The call's events, or the first few of them."""
        fill = {
            b"caller": b"pbx-1795344548.%d" % (1_000_000 + 2 * number),
            b"called": b"pbx-1795344548.%d" % (1_000_001 + 2 * number),
            b"caller_name": b"PJSIP/1121-%08x" % (2 * number),
            b"called_name": b"PJSIP/1122-%08x" % (2 * number + 1),
            b"bridge": b"a69ce59e-d398-4732-8666-%012x" % number,
        }
        return [(received_at, template % fill) for received_at, template in self._templates[:events]]


def _placeholders(events: list[dict[str, Any]]) -> dict[str, str]:
    """What is to be replaced in the captured text, and by which name."""
    caller, called = (event["channel"] for event in events if event["type"] == "ChannelCreated")
    bridge = next(event["bridge"] for event in events if event["type"] == "ChannelEnteredBridge")
    return {
        caller["id"]: "caller",
        called["id"]: "called",
        caller["name"]: "caller_name",
        called["name"]: "called_name",
        bridge["id"]: "bridge",
    }


def _template(raw: bytes, names: dict[str, str]) -> bytes:
    template = raw.replace(b"%", b"%%")
    for text, name in names.items():
        template = template.replace(text.encode(), b"%%(%b)b" % name.encode())
    return template
