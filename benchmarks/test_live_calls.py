"""P4 to P6: what many live calls cost: time per event, memory, and the garbage collector's pause."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

from arimonitor_core.call_states import ANSWERED
from arimonitor_core.channels import GONE_LIMIT
from arimonitor_core.monitor import Monitor
from arimonitor_core.policies import Policies
from benchmarks.call_template import CallTemplate
from benchmarks.conftest import Report
from benchmarks.pairs import Pair
from benchmarks.streams import feed_events
from tests.replay.captures import new_monitor

FEW, MANY = 1_000, 200_000
MEASURED_CALLS = 20_000
PAUSED_CALLS = 50_000


def test_new_calls_beside_many_live_ones(report: Report) -> None:
    """Whole calls that come and go while 200,000 others talk, against the same while 1,000 do."""
    template = CallTemplate()
    few, many = _talking(template, FEW), _talking(template, MANY)
    numbers = count(MANY)
    pieces, calls = 40, 5

    def pairs() -> Iterator[Pair]:
        for _ in range(pieces):
            events = [event for _ in range(calls) for event in template.make(next(numbers))]
            yield Pair(
                floor=partial(feed_events, few, events),
                subject=partial(feed_events, many, events),
            )

    report.compare("P4", f"{MANY:,} live calls against {FEW:,}", pairs, count=pieces * calls * len(template))
    assert len(many.active_calls()) == MANY


def test_memory_of_a_live_call(report: Report) -> None:
    """An answered call with its two channels, its bridge, its recording and all indexes."""
    template = CallTemplate()
    monitor = new_monitor()
    figure = _traced_kb(report, lambda: _start(template, monitor, range(MEASURED_CALLS)))
    assert len(monitor.active_calls()) == MEASURED_CALLS
    report.add("P5 call", "a live call", figure / MEASURED_CALLS)


def test_memory_of_a_history_record(report: Report) -> None:
    """What stays of a call when it has ended, the call's own objects gone."""
    template = CallTemplate()
    monitor = new_monitor(Policies(history_limit=2 * MEASURED_CALLS))
    _complete(template, monitor, range(GONE_LIMIT))  # the ids of dead channels are bounded and no part of a record
    figure = _traced_kb(report, lambda: _complete(template, monitor, range(GONE_LIMIT, GONE_LIMIT + MEASURED_CALLS)))
    assert len(monitor.history) == GONE_LIMIT + MEASURED_CALLS
    report.add("P5 record", "a history record", figure / MEASURED_CALLS)


def test_pause_of_a_full_collection(report: Report) -> None:
    """A full collection while 50,000 calls talk, without `gc.freeze()`."""
    gc.collect()
    gc.freeze()  # what pytest and the captures hold is not the daemon's
    try:
        monitor = _talking(CallTemplate(), PAUSED_CALLS)
        report.benchmark.pedantic(gc.collect, rounds=9, warmup_rounds=1)
    finally:
        gc.unfreeze()
    assert len(monitor.active_calls()) == PAUSED_CALLS
    report.add("P6", f"{PAUSED_CALLS:,} live calls", report.benchmark.stats.stats.median * 1000)


def _talking(template: CallTemplate, calls: int) -> Monitor:
    """A monitor with this many answered calls."""
    monitor = new_monitor()
    _start(template, monitor, range(calls))
    assert all(call.state == ANSWERED for call in monitor.active_calls())
    return monitor


def _start(template: CallTemplate, monitor: Monitor, numbers: range) -> None:
    for number in numbers:
        feed_events(monitor, template.make(number, template.live_events))


def _complete(template: CallTemplate, monitor: Monitor, numbers: range) -> None:
    for number in numbers:
        feed_events(monitor, template.make(number))


def _traced_kb(report: Report, work: Callable[[], None]) -> float:
    """How many kB more are in use after some work than before; the time that pytest-benchmark stores is that of it."""
    gc.collect()
    tracemalloc.start()
    try:
        report.benchmark.pedantic(work, rounds=1)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / 1000
    finally:
        tracemalloc.stop()
