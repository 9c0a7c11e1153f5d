"""What an Asterisk sends while many calls go on at the same time, made of captured calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice

from attrs import frozen

from arimonitor_core.effects import PublishMessage
from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.policies import Policies
from benchmarks.call_template import CaptureTemplate
from benchmarks.streams import ANSWERED_CALL, FULL, LEAN, captures_of
from tests.replay.captures import load_capture, new_monitor

BEGIN = 1_795_345_104.0
SPACING_S = 0.000437
CALLS_MAX = 1_000_000

BURST = "burst_60_calls"
CUT_SHORT = "second_monitor_same_app.a"
"""Its recorder was replaced in the middle of a call."""

ANSWERED_CALLS = (f"{FULL[-1]}/{ANSWERED_CALL}",)
ANSWERED_CALLS_FILTERED = (f"{LEAN[-1]}/{ANSWERED_CALL}",)


@frozen
class Traffic:
    """So many runs of these captures one after the other, some of them at the same time, their events mixed."""

    captures: tuple[str, ...]
    runs: int
    first_run: int = 0
    """Runs of different numbers share no id."""
    at_once: int = 200

    def events(self) -> Iterator[bytes]:
        """Every event, in order; what begins ends."""
        templates = cycle([_template(capture) for capture in self.captures])
        numbered = zip(range(self.first_run, self.first_run + self.runs), templates, strict=False)
        waiting = (iter(template.make(number)) for number, template in numbered)
        going = deque(islice(waiting, self.at_once))
        while going:
            call = going.popleft()
            event = next(call, None)
            if event is not None:
                yield event[1]
                going.append(call)
            else:
                going.extendleft(islice(waiting, 1))


@cache
def whole_calls(folder: str) -> tuple[str, ...]:
    """The captures of a folder in which everything that begins ends."""
    return tuple(
        capture
        for capture in captures_of(folder)
        if not capture.endswith((BURST, CUT_SHORT))
        and not any(isinstance(item, ConnectionLost) for item in load_capture(capture))
        and len(_template(capture))
    )


@cache
def picture() -> ConnectionRestored:
    """What Asterisk shows before the first call: all endpoints, no channel."""
    return next(item for item in load_capture(ANSWERED_CALLS_FILTERED[0]) if isinstance(item, ConnectionRestored))


class Expectation:
    """A core of its own that says how many messages all that was sent leads to."""

    def __init__(self) -> None:
        self._monitor: Monitor = new_monitor(Policies(history_limit=CALLS_MAX))
        self._events = 0
        self.messages = 0
        self._feed(picture())

    @property
    def calls(self) -> int:
        """Calls that have ended; the monitor here forgets none."""
        return len(self._monitor.history)

    def follow(self, traffic: Traffic) -> int:
        """Take some more traffic; gives the number of events."""
        before = self._events
        for raw in traffic.events():
            self._events += 1
            self._feed(AriEventReceived(round(BEGIN + self._events * SPACING_S, 6), raw))
        assert not self._monitor.active_calls()
        return self._events - before

    def _feed(self, item: Input) -> None:
        self.messages += sum(isinstance(effect, PublishMessage) for effect in self._monitor.handle(item))


@cache
def _template(capture: str) -> CaptureTemplate:
    return CaptureTemplate(capture)
