"""P13: what a snapshot of many live calls costs, taken in the event loop and read back at a start."""

from __future__ import annotations

from arimonitor_core.channels import GONE_LIMIT
from arimonitor_core.monitor import Monitor
from arimonitor_core.snapshot import restore_snapshot, take_snapshot
from benchmarks.call_template import CallTemplate
from benchmarks.conftest import Report
from benchmarks.streams import feed_events
from tests.replay.captures import new_monitor

CALLS = 10_000


def _full() -> Monitor:
    """A monitor with 10,000 answered calls, a full history and all the dead channels that it remembers."""
    monitor, template = new_monitor(), CallTemplate()
    for number in range(CALLS):
        feed_events(monitor, template.make(number, template.live_events))
    for number in range(CALLS, CALLS + max(GONE_LIMIT, monitor.book.policies.history_limit)):
        feed_events(monitor, template.make(number))
    assert len(monitor.active_calls()) == CALLS
    assert len(monitor.history) == monitor.book.policies.history_limit
    return monitor


def test_taking_a_snapshot(report: Report) -> None:
    """Nothing else happens in the daemon meanwhile."""
    monitor = _full()
    document = report.benchmark.pedantic(take_snapshot, args=(monitor,), rounds=9, warmup_rounds=1)
    assert document == take_snapshot(monitor)
    report.add("P13 take", f"{CALLS:,} live calls", report.benchmark.stats.stats.median * 1000)


def test_restoring_a_snapshot(report: Report) -> None:
    """Once, at a start."""
    document = take_snapshot(_full())
    restored = report.benchmark.pedantic(restore_snapshot, args=(document,), rounds=5, warmup_rounds=1)
    assert take_snapshot(restored) == document
    report.add("P13 restore", f"{CALLS:,} live calls", report.benchmark.stats.stats.median * 1000)
