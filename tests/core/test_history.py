"""Ended calls are remembered, up to a bound, and found by what an operator knows of them."""

from __future__ import annotations

import msgspec
import pytest

from arimonitor_core.call import Call, CallKey
from arimonitor_core.history import History


def ended(number: int, state: str = "closed") -> Call:
    return Call(
        key=CallKey("2026-11-22T10:58:24.000+0000", f"pbx-1.{number}"),
        guid=f"01a20000-0000-7000-8000-{number:012d}",
        created_ms=1000,
        channel=f"PJSIP/1121-{number:08x}",
        origin="1121",
        dialed="1120",
        destiny="1122",
        vhost="vila",
        anchor="",
        members=(),
        callnumber=number,
        state=state,
    )


def test_the_oldest_is_forgotten_first() -> None:
    """The history is bounded."""
    history = History(2)
    for number in (1, 2, 3):
        history.add(ended(number), 5000)
    assert len(history) == 2
    assert [record.callnumber for record in history] == [2, 3]
    assert history.find_guid(ended(1).guid) is None


def test_a_call_is_found_by_what_is_known_of_it() -> None:
    """Guid, callnumber, channel, channel id, origin, number dialed, destiny; newest first."""
    history = History(10)
    for number in (1, 2):
        history.add(ended(number), 5000)
    for text in (ended(2).guid, "2", "PJSIP/1121-00000002", "pbx-1.2"):
        assert [record.callnumber for record in history.find(text)] == [2]
    for text in ("1121", "1120", "1122"):
        assert [record.callnumber for record in history.find(text)] == [2, 1]
    assert history.find("nobody") == []
    found = history.find_guid(ended(1).guid)
    assert found is not None
    assert (found.callnumber, found.ended_ms, found.offrec) == (1, 5000, False)


def test_a_recovered_call_is_marked() -> None:
    """`offrec`: it ended while nobody listened."""
    history = History(1)
    history.add(ended(1, "recovered"), 5000)
    assert [record.offrec for record in history] == [True]


def test_records_come_back_from_a_dump() -> None:
    """And damage shows at once."""
    history, other = History(10), History(10)
    history.add(ended(1), 5000)
    other.load(history.dump())
    assert list(other) == list(history)
    with pytest.raises(msgspec.MsgspecError):
        other.load([msgspec.Raw(b"[1]")])


def test_a_history_of_no_length_keeps_nothing() -> None:
    """An operator may not want one."""
    history = History(0)
    history.add(ended(1), 5000)
    assert list(history) == []
