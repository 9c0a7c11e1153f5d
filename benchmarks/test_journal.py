"""P10 and P12: what the journal costs for each event, and how long a restart takes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from time import perf_counter

import orjson
import pytest

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.snapshot import take_snapshot
from arimonitor_runner.journal import JournalWriter, SnapshotStore
from arimonitor_runner.recovery import Recovered, recover
from arimonitor_runner.settings import JournalSettings
from benchmarks.call_template import CallTemplate
from benchmarks.conftest import Report
from benchmarks.pairs import Pair, measure
from benchmarks.streams import FULL, LEAN, Arrived, arrived, captures_of, cut, each
from tests.replay.captures import SERVER, directory, load_capture, new_monitor

BATCH = 50
"""Events that wait together on a busy machine; at 1,000 events a second it is a few, after a pause it is 500."""
CALLS_AT_ONCE = 200
EVENTS_RESTORED = 1_000_000
EVENTS_IN_SNAPSHOT = 20_000
EVENT_SPACING_S = 0.000437


@pytest.mark.parametrize("batch", [1, BATCH, 500])
def test_an_event_of_the_captures(report: Report, tmp_path: Path, batch: int) -> None:
    """Every captured event, appended in batches."""
    items = [item for capture in captures_of(*FULL, *LEAN) for item in load_capture(capture)]
    events = [arrived(item) for item in items if isinstance(item, AriEventReceived)]
    _append(report, "every event of all captures", events, tmp_path, batch, decides=batch == BATCH)


def test_an_event_of_many_calls_at_once(report: Report, tmp_path: Path) -> None:
    """What a busy Asterisk sends: calls whose events are mixed, none of them with the ids of another."""
    events = [(item.received_at, item.raw) for item in islice(_stream(), 60_000)]
    _append(report, f"{CALLS_AT_ONCE} calls at once, filtered", events, tmp_path, BATCH, decides=False)


def test_a_restart(report: Report, tmp_path: Path) -> None:
    """From the snapshot and a million journaled events to the state; beside it, what the core alone takes for them."""
    position = _write_long_journal(tmp_path)
    recovered: list[Recovered] = []

    def restore() -> None:
        work = recover(tmp_path, server=SERVER, directory=directory(), policies=None, mark=position, first_callnumber=1)
        recovered[:] = [asyncio.run(work)]

    gc.collect()
    gc.freeze()  # as in `Report.compare`
    try:
        report.benchmark.pedantic(restore, rounds=3)
        handled_s, monitor = _handle_long_stream()
    finally:
        gc.unfreeze()
    assert recovered[0].position == position
    assert take_snapshot(recovered[0].monitor) == take_snapshot(monitor)
    restored_s = report.benchmark.stats.stats.min
    floor, subject = f"{handled_s:.2f} s", f"{restored_s:.2f} s"
    report.add("P12", f"{EVENTS_RESTORED:,} events restored", restored_s, floor=floor, subject=subject)


def _append(report: Report, case: str, events: list[Arrived], folder: Path, batch: int, *, decides: bool) -> None:
    """Note time and size; beside them what `orjson.loads` takes for the same events."""
    pieces = [(piece, [AriEventReceived(*event) for event in piece]) for piece in cut(events, batch)]
    folders = (folder / str(number) for number in count())
    written: list[Path] = []

    def pairs() -> Iterator[Pair]:
        written.append(next(folders))
        writer = JournalWriter.open(written[-1], JournalSettings(sync="never"), 1)
        for piece, records in pieces:
            yield Pair(floor=partial(each, orjson.loads, piece), subject=partial(writer.append, records))
        writer.close()

    times = measure(report.benchmark, pairs, repeats=5)
    floor, subject = (f"{seconds / len(events) * 1e6:.3f} us" for seconds in (times.floor_s, times.subject_s))
    case = f"{case}, {batch} at once"
    figure = times.subject_s / len(events) * 1e6
    report.add("P10 time", case, figure, floor=floor, subject=subject, decides=decides)
    size = sum(path.stat().st_size for path in written[1].iterdir())
    report.add("P10 size", case, size / len(events), decides=decides)


def _write_long_journal(folder: Path) -> int:
    """A snapshot, and the journal that goes on from it; gives the end's position."""
    events = _stream()
    monitor = new_monitor()
    for item in islice(events, EVENTS_IN_SNAPSHOT):
        monitor.handle(item)
    SnapshotStore(folder, kept=1).write(EVENTS_IN_SNAPSHOT, take_snapshot(monitor))
    writer = JournalWriter.open(folder, JournalSettings(sync="never"), EVENTS_IN_SNAPSHOT + 1)
    for _ in range(EVENTS_RESTORED // BATCH):
        writer.append(list(islice(events, BATCH)))
    writer.close()
    return writer.position


def _handle_long_stream() -> tuple[float, Monitor]:
    """How long the core alone takes for the events after the snapshot, and its state then."""
    events = _stream()
    monitor = new_monitor()
    for item in islice(events, EVENTS_IN_SNAPSHOT):
        monitor.handle(item)
    handled_s = 0.0
    for _ in range(EVENTS_RESTORED // 10_000):
        items = list(islice(events, 10_000))
        begin = perf_counter()
        for item in items:
            monitor.handle(item)
        handled_s += perf_counter() - begin
    return handled_s, monitor


def _stream() -> Iterator[Input]:
    """Events of calls that come and go, so many at once, without end."""
    template = CallTemplate()
    numbers = count()
    calls = [iter(template.make(next(numbers))[place % len(template) :]) for place in range(CALLS_AT_ONCE)]
    received_at = 1_795_345_104.0
    while True:
        for place, call in enumerate(calls):
            event = next(call, None)
            if event is None:
                calls[place] = iter(template.make(next(numbers)))
                event = next(calls[place])
            received_at = round(received_at + EVENT_SPACING_S, 6)
            yield AriEventReceived(received_at, event[1])
