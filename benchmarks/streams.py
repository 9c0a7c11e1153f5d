"""The events that are measured, and the two things done with them: the floor's and ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Final

import orjson

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.monitor import Monitor
from benchmarks.pairs import Pair
from tests.replay.captures import is_read, list_captures, load_capture, new_monitor

Arrived = tuple[float, bytes]
"""What a websocket gives: when (Unix seconds) and the bytes."""

FULL: Final = ("asterisk-16", "asterisk-22")
"""Every event that Asterisk sends."""
LEAN: Final = ("asterisk-16-lean", "asterisk-22-lean")
"""The same calls with the event filter and `channelvars` that the daemon asks Asterisk for."""
ANSWERED_CALL: Final = "answered_caller_hangs_up"
PIECE_EVENTS: Final = 60
"""Events in one timed piece: long against the clock's grain, short against a neighbour's share of the processor."""


def captures_of(*folders: str, name: str = "") -> list[str]:
    """The captures of these folders, all or those of one name."""
    return [capture for capture in list_captures(*folders) if not name or capture.endswith(f"/{name}")]


def count_events(captures: Iterable[str]) -> int:
    """How many events they hold."""
    return sum(isinstance(item, AriEventReceived) for capture in captures for item in load_capture(capture))


def load_ignored() -> list[Arrived]:
    """Every captured event that the core does not look into."""
    items = (item for capture in captures_of(*FULL, *LEAN) for item in load_capture(capture))
    return [(item.received_at, item.raw) for item in items if isinstance(item, AriEventReceived) and not is_read(item)]


def cut(events: Sequence[Arrived], size: int = PIECE_EVENTS) -> list[Sequence[Arrived]]:
    """The events in pieces."""
    return [events[begin : begin + size] for begin in range(0, len(events), size)]


def feed_events(monitor: Monitor, events: Sequence[Arrived]) -> None:
    """What is measured: bytes that arrived become inputs, and inputs become effects."""
    handle = monitor.handle
    for received_at, raw in events:
        handle(AriEventReceived(received_at, raw))


def each(work: Callable[[bytes], object], events: Sequence[Arrived]) -> None:
    """A floor: the least that anybody would do with each of the same bytes."""
    for _, raw in events:
        work(raw)


def replay_in_pairs(captures: Iterable[str]) -> Iterator[Pair]:
    """Each capture through a new monitor: its events timed against orjson, its reconnects fed in between, untimed."""
    for capture in captures:
        monitor = new_monitor()
        for is_event, group in groupby(load_capture(capture), key=lambda item: isinstance(item, AriEventReceived)):
            if is_event:
                yield from pair_up(monitor, [arrived(item) for item in group])
            else:
                for item in group:
                    monitor.handle(item)


def pair_up(monitor: Monitor, events: Sequence[Arrived]) -> Iterator[Pair]:
    """Events in pieces, through a monitor and through orjson alone."""
    for piece in cut(events):
        yield Pair(
            floor=partial(each, orjson.loads, piece),
            subject=partial(feed_events, monitor, piece),
        )


def arrived(item: Input) -> Arrived:
    """An event as it came."""
    assert isinstance(item, AriEventReceived)
    return item.received_at, item.raw
