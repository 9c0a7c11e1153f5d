"""Counters are named, sorted and bounded."""

from __future__ import annotations

from arimonitor_core.ari_events import Dial
from arimonitor_core.statistics import UNHANDLED_LIMIT, Statistics


def test_counters_are_given_by_name() -> None:
    """Events are counted by class and shown by their ARI type."""
    statistics = Statistics()
    statistics.events[Dial] += 2
    statistics.messages["received-call.open"] += 1
    shown = statistics.as_dict()
    assert shown["events"] == {"Dial": 2}
    assert shown["messages"] == {"received-call.open": 1}
    assert list(shown) == ["events", "unhandled", "filtered", "diagnostics", "messages", "calls"]


def test_unknown_types_cannot_fill_the_memory() -> None:
    """After so many, the rest is counted together."""
    statistics = Statistics()
    for number in range(UNHANDLED_LIMIT + 5):
        statistics.count_unhandled(f"Type{number}")
    statistics.count_unhandled("Type0")
    assert statistics.unhandled["Type0"] == 2
    assert statistics.unhandled["(others)"] == 5
    assert len(statistics.unhandled) == UNHANDLED_LIMIT + 1
