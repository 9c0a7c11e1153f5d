"""N, Y, P and NP, by event type and by variable."""

from __future__ import annotations

from arimonitor_core.event_filter import EventFilter


def test_what_is_not_named_is_processed() -> None:
    """A fresh filter is open."""
    event_filter = EventFilter()
    assert event_filter.is_open
    assert event_filter.mode("Dial", "") == "Y"


def test_a_variables_mode_is_stronger_than_its_types() -> None:
    """One variable can be let through while the others are dropped."""
    event_filter = EventFilter()
    event_filter.change({"ChannelVarset": "N"}, {"MIXMONITOR_FILENAME": "P"})
    assert event_filter.mode("ChannelVarset", "MIXMONITOR_FILENAME") == "P"
    assert event_filter.mode("ChannelVarset", "OTHER") == "N"
    assert not event_filter.is_open


def test_process_takes_a_mode_back() -> None:
    """Only what is named changes, and Y leaves nothing behind."""
    event_filter = EventFilter()
    event_filter.change({"Dial": "NP", "ChannelHold": "P"}, {"A": "N"})
    event_filter.change({"Dial": "Y"}, {"A": "Y"})
    assert event_filter.types == {"ChannelHold": "P"}
    event_filter.change({"ChannelHold": "Y"}, {})
    assert event_filter.is_open
