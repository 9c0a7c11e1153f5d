"""P10 and P12: what the journal costs for each event, and how long a restart takes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path

import orjson
import pytest

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.snapshot import restore_snapshot, take_snapshot
from arimonitor_runner.journal import JournalWriter, SnapshotStore
from arimonitor_runner.recovery import recover
from arimonitor_runner.settings import JournalSettings
from benchmarks.call_template import CallTemplate
from benchmarks.conftest import Report
from benchmarks.pairs import Pair, measure
from benchmarks.streams import FULL, LEAN, Arrived, arrived, captures_of, cut, each
from tests.replay.captures import SERVER, directory, load_capture, new_monitor

BATCH = 50
"""Events that wait together on a busy machine; at 1,000 events a second it is a few, after a pause it is 500."""
CALLS_AT_ONCE = 200
EVENTS_RESTORED = 200_000
"""Each takes as long as the next; a million in one piece are never measured without a neighbour."""
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
    """From a snapshot and the journal after it to the state, beside what the core alone takes for the same events."""
    events = list(islice(_stream(), EVENTS_IN_SNAPSHOT + EVENTS_RESTORED))
    document, position = _write_journal(tmp_path, events)
    after_snapshot = events[EVENTS_IN_SNAPSHOT:]
    states: list[Monitor] = []

    def handle() -> None:
        monitor = restore_snapshot(document)
        for item in after_snapshot:
            monitor.handle(item)
        states[:1] = [monitor]

    def restore() -> None:
        work = recover(tmp_path, server=SERVER, directory=directory(), policies=None, mark=position, first_callnumber=1)
        states[1:] = [asyncio.run(work).monitor]

    gc.collect()
    gc.freeze()  # as in `Report.compare`
    try:
        times = measure(report.benchmark, lambda: iter([Pair(floor=handle, subject=restore)]), repeats=8)
    finally:
        gc.unfreeze()
    handled, restored = map(take_snapshot, states)
    assert restored == handled
    floor, subject = (f"{seconds / EVENTS_RESTORED * 1e6:.3f} us" for seconds in (times.floor_s, times.subject_s))
    figure = times.subject_s * 1_000_000 / EVENTS_RESTORED
    report.add("P12", f"a million events, from {EVENTS_RESTORED:,}", figure, floor=floor, subject=subject)


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


def _write_journal(folder: Path, events: list[Input]) -> tuple[bytes, int]:
    """A snapshot, and the journal that goes on from it; gives the snapshot's document and the end's position."""
    monitor = new_monitor()
    for item in events[:EVENTS_IN_SNAPSHOT]:
        monitor.handle(item)
    document = take_snapshot(monitor)
    SnapshotStore(folder, kept=1).write(EVENTS_IN_SNAPSHOT, document)
    writer = JournalWriter.open(folder, JournalSettings(sync="never"), EVENTS_IN_SNAPSHOT + 1)
    for begin in range(EVENTS_IN_SNAPSHOT, len(events), BATCH):
        writer.append(events[begin : begin + BATCH])
    writer.close()
    return document, writer.position


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
