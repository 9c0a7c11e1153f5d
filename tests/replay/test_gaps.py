"""A connection that breaks at any moment of any call, and comes back at any later one.

The events in between are cut out; what Asterisk would have shown at the reconnect is made of them. What the monitor
then says is compared with what it says when it sees everything.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
from attrs import Factory, define, evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core.call import Call
from arimonitor_core.call_states import ANSWERED, RINGING
from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored, Input
from arimonitor_core.monitor import Monitor
from tests.replay.captures import by_call, feed, load_capture, new_monitor, statuses
from tests.replay.pbx import ShadowPbx, channels_of
from tests.replay.renaming import list_whole_captures, move

QUIET_S = 0.15
"""Within this time events belong together: a reconnect in their midst sees half of what they do."""

WHOLE_LIVES = (
    ["open", "oncall", "closed"],
    ["open", "unanswered"],
    ["open", "FORCECLOSE"],
    ["open", "oncall", "FORCECLOSE"],
)
BEGUN_LIVES = (["open"], ["open", "oncall"])

UNKNOWABLE = {
    "refer_replaces_by_callee": "a masquerade gives the caller's channel another creationtime, its call another name",
    "strangers_in_one_bridge": "who was sent into a conference unseen seems to have been called by whom he meets there",
}
"""Captures in which a reconnect does not show what a call is that was not told of before, and why."""

FULL_CAPTURES = [
    capture
    for capture in list_whole_captures()
    if capture.startswith(("asterisk-16/", "asterisk-22/")) and "second_monitor" not in capture
]


@define
class Life:
    """One call as an unbroken connection shows it. Positions are those of the capture's inputs."""

    first: int
    """The first event of its caller's channel."""
    last: int
    """The event that ended it."""
    told: list[dict[str, Any]] = Factory(list)
    told_at: list[int] = Factory(list)
    """Positions of its messages."""


@define
class Lives:
    """All calls of a capture by guid, those that are never told of too, and what is known of each channel when."""

    calls: dict[str, Life] = Factory(dict)
    first_seen: dict[str, int] = Factory(dict)
    tied_at: dict[str, int] = Factory(dict)
    """When each channel was first seen to be dialed by another; a caller's: when it was first seen."""


@cache
def live_through(capture: str) -> Lives:
    """Follow a capture without a gap."""
    monitor, lives, active = new_monitor(), Lives(), set[str]()
    inputs = load_capture(capture)
    for position, item in enumerate(inputs):
        if isinstance(item, AriEventReceived):
            event = msgspec.json.decode(item.raw)
            for channel in channels_of(event):
                lives.first_seen.setdefault(channel["id"], position)
            if event["type"] == "Dial":
                lives.tied_at.setdefault(event["peer"]["id"], position)
        told = by_call(feed(monitor, [item]), "received-call")
        calls = {call.guid: call for call in monitor.active_calls()}
        for guid in calls.keys() - active:
            first = lives.first_seen[calls[guid].key.channel_id]
            lives.calls[guid] = Life(first=first, last=len(inputs))
        for guid in active - calls.keys():
            lives.calls[guid].last = position
        for guid, bodies in told.items():
            lives.calls[guid].told += bodies
            lives.calls[guid].told_at += [position] * len(bodies)
        active = set(calls)
    for channel_id, position in lives.first_seen.items():
        lives.tied_at.setdefault(channel_id, position)
    return lives


@frozen
class Gap:
    """Events from `start` up to `end` are missed; the last `overlap` of them arrive after all, behind the reconnect.

    They do in a real reconnect: the subscription is made first, then Asterisk is asked what lives.
    """

    capture: str
    start: int
    end: int
    overlap: int = 0
    with_variables: bool = False
    """Are variables read one by one: linkedid and recording?"""

    def hides(self, position: int) -> bool:
        """Is an event missed?"""
        return self.start <= position < self.end


@st.composite
def gaps(draw: st.DrawFn) -> Gap:
    """A gap anywhere in any capture."""
    capture = draw(st.sampled_from(FULL_CAPTURES))
    size = len(load_capture(capture))
    start = draw(st.integers(1, size - 1))
    return Gap(capture, start, draw(st.integers(start + 1, size)), draw(st.integers(0, 40)), draw(st.booleans()))


@cache
def find_quiet_ends(capture: str) -> list[int]:
    """Positions before which nothing happens for a while, the end of the capture among them."""
    times = [item.received_at for item in load_capture(capture)]
    pairs = enumerate(pairwise(times), start=1)
    return [end for end, (before, after) in pairs if after - before >= QUIET_S] + [len(times)]


@st.composite
def quiet_gaps(draw: st.DrawFn) -> Gap:
    """A gap that ends when nothing happens."""
    capture = draw(st.sampled_from([one for one in FULL_CAPTURES if one.partition("/")[2] not in UNKNOWABLE]))
    size = len(load_capture(capture))
    start = draw(st.integers(1, size - 1))
    end = draw(st.sampled_from([end for end in find_quiet_ends(capture) if end > start]))
    return Gap(capture, start, end, with_variables=draw(st.booleans()))


def break_capture(gap: Gap, pbx: ShadowPbx) -> list[Input]:
    """What a monitor hears: all before the gap, the loss, what the Asterisk shows then, and all behind the gap."""
    inputs = load_capture(gap.capture)
    lost = ConnectionLost(received_at=inputs[gap.start - 1].received_at)
    restored = pbx.list_at(inputs[gap.end - 1].received_at, with_variables=gap.with_variables)
    late = inputs[max(gap.start, gap.end - gap.overlap) : gap.end]
    delayed = (_delayed(item, restored.received_at) for item in late)
    return [*inputs[: gap.start], lost, restored, *delayed, *inputs[gap.end :]]


class Broken:
    """A monitor that lives through a gap; first up to the reconnect, then to the end."""

    def __init__(self, gap: Gap) -> None:
        self.monitor = new_monitor()
        self.pbx = ShadowPbx()
        self.pbx.follow(load_capture(gap.capture)[: gap.end])
        inputs = break_capture(gap, self.pbx)
        reconnect = gap.start + 2
        self._messages = feed(self.monitor, inputs[: gap.start])
        self.known = {call.key.channel_id for call in self.monitor.active_calls()}
        self._messages += feed(self.monitor, inputs[gap.start : reconnect])
        self._rest = inputs[reconnect:]
        self.calls = {call.guid: call for call in self.monitor.active_calls()}

    def finish(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that was said of each call, by guid."""
        self._messages += feed(self.monitor, self._rest)
        return by_call(self._messages, "received-call")


def _delayed(item: Input, until: float) -> Input:
    assert isinstance(item, AriEventReceived)
    return AriEventReceived(until, item.raw)


def parties_in(monitor: Monitor, call: Call) -> list[str]:
    """Numbers of those whom the origin's side talks with at this moment."""
    table = monitor.book.table
    anchor = table.channels.get(call.anchor)
    if anchor is None:
        return []
    others = [one for one in table.component(anchor) if one is not anchor and not one.is_local]
    return [monitor.book.party_of(one) for one in others]


def is_number_of(shown: str, party: str) -> bool:
    """Is it this party's number? What was dialed on a trunk may show with the prefix that the caller dialed."""
    return shown.endswith(party)


def rings_in(monitor: Monitor, call: Call) -> bool:
    """Is anybody being rung for a call at this moment?"""
    return any(channel.dialer and not channel.is_local for channel in monitor.channels_of(call))


@given(gaps())
def test_a_gap_anywhere_leaves_no_call_open_and_no_impossible_order(gap: Gap) -> None:
    """Each call is told of once and in order, one that is over has ended, calls outside of the gap are untouched."""
    broken, lives = Broken(gap), live_through(gap.capture)
    told = broken.finish()
    active = {call.guid: call for call in broken.monitor.active_calls()}
    for guid, bodies in told.items():
        assert statuses(bodies) in (BEGUN_LIVES if guid in active else WHOLE_LIVES)
    for call in active.values():
        assert set(call.members) & broken.monitor.book.table.channels.keys()
    for guid, life in lives.calls.items():
        if life.last < gap.start or life.first >= gap.end:
            assert told.get(guid, []) == life.told
    for guid, bodies in told.items():
        marks = [body["data"].pop("accuracy") for body in bodies]
        assert marks == sorted(marks)  # exact, then for good gap
        if not (lives.calls.get(guid) and bodies == [_without_mark(body) for body in lives.calls[guid].told]):
            assert marks[-1] == "gap"


def _without_mark(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "data": {name: value for name, value in body["data"].items() if name != "accuracy"}}


@given(st.sampled_from(FULL_CAPTURES), st.sampled_from(FULL_CAPTURES), st.randoms(use_true_random=False), st.booleans())
def test_a_restart_of_asterisk_ends_all_calls_and_leaves_a_monitor_as_good_as_new(
    before: str, after: str, random: Random, with_variables: bool
) -> None:
    """Whatever went on is FORCECLOSE; whatever the new Asterisk shows and does is as if nothing had been before."""
    old = load_capture(before)
    old = old[: random.randrange(len(old) + 1)]
    monitor = new_monitor()
    feed(monitor, [ConnectionRestored(received_at=0.0, info=_started_at("06:00")), *old])
    told = {call.guid for call in monitor.active_calls() if call.is_published}
    events = [item for item in load_capture(after) if isinstance(item, AriEventReceived)]
    new = move(after, tag="b", start=old[-1].received_at + 60 if old else 60.0, events=events)
    moment = random.randrange(1, len(new) + 1)
    pbx = ShadowPbx()
    pbx.follow(new[:moment])
    shown = pbx.list_at(new[moment - 1].received_at, with_variables=with_variables)
    rest: list[Input] = [evolve(shown, info=_started_at("07:00")), *new[moment:]]
    lost = ConnectionLost(received_at=old[-1].received_at if old else 0.0)
    said = by_call(feed(monitor, [lost, *rest]), "received-call")
    assert all(statuses(said.pop(guid)) == ["FORCECLOSE"] for guid in told)
    fresh = new_monitor()
    assert said == by_call(feed(fresh, rest), "received-call")
    assert list(monitor.channel_ids()) == list(fresh.channel_ids())


def _started_at(time: str) -> bytes:
    return b'{"status":{"startup_time":"2026-11-22T%b:00.000-0300"}}' % time.encode()


def watch(gap: Gap) -> Monitor:
    """A monitor that saw everything, at the moment of the reconnect."""
    monitor = new_monitor()
    feed(monitor, load_capture(gap.capture)[: gap.end])
    return monitor


@given(quiet_gaps())
def test_a_gap_that_ends_in_a_quiet_moment_is_caught_up_with(gap: Gap) -> None:
    """Right after the reconnect the monitor knows who rings and who talks as if it had seen everything."""
    broken, unbroken, lives = Broken(gap), watch(gap), live_through(gap.capture)
    for call in unbroken.active_calls():
        if not _is_knowable(gap, lives, broken, call):
            continue
        known = broken.calls.get(call.guid)
        parties = parties_in(unbroken, call)
        if call.state == ANSWERED and parties:
            assert known is not None
            assert known.state == ANSWERED
            assert any(is_number_of(known.destiny, party) for party in parties)
        elif call.state == RINGING and rings_in(unbroken, call):
            assert known is not None
            assert known.state == RINGING


def _is_knowable(gap: Gap, lives: Lives, broken: Broken, call: Call) -> bool:
    """Was the call, or somebody who talks in it, seen before the gap? Or does its caller's channel show at the end?"""
    seen = any(lives.tied_at[member] < gap.start for member in call.members)
    return seen or call.key.channel_id in broken.pbx.channels


@given(quiet_gaps())
def test_what_a_gap_hid_is_told_of_when_the_connection_is_back(gap: Gap) -> None:
    """Who ended unseen is FORCECLOSE, who came and went unseen is silent, who is still there ends as he would have."""
    broken, lives = Broken(gap), live_through(gap.capture)
    unbroken = {call.guid: (call.state, call.destiny) for call in watch(gap).active_calls()}
    caught_up = {guid for guid, call in broken.calls.items() if unbroken.get(guid) == (call.state, call.destiny)}
    told = broken.finish()
    for guid, life in lives.calls.items():
        bodies = told.get(guid, [])
        joined = bool(bodies) and "linked_guid" in bodies[-1]["data"]
        if gap.hides(life.first) and gap.hides(life.last):
            # Of two callers whom an unseen transfer joined one seems to begin, and is joined then.
            assert not bodies or joined
        elif gap.hides(life.last) and life.told and life.told_at[0] < gap.start:
            # A transfer may have joined it to a call that goes on.
            assert statuses(bodies)[-1] in (("closed", "unanswered") if joined else ("FORCECLOSE",))
        elif guid in caught_up:
            _check_end(gap, life, bodies)
    for guid in told.keys() - lives.calls.keys():
        # A party whom an unseen transfer left calling by himself, and who came unseen, is taken for a caller, unless
        # Asterisk links him to a call that was known.
        party = broken.calls[guid].key.channel_id
        assert gap.hides(lives.tied_at[party])
        assert not (gap.with_variables and broken.pbx.linkedids[party] in broken.known)


def _check_end(gap: Gap, life: Life, bodies: list[dict[str, Any]]) -> None:
    """A call that was caught up with ends in the words of an unbroken connection."""
    assert statuses(bodies) == statuses(life.told)
    if not bodies:
        return
    last, unbroken = bodies[-1]["data"], life.told[-1]["data"]
    assert is_number_of(last["destiny"], unbroken["destiny"])
    for field in ("origin", "origin_type", "destiny_type", "channel", "creationtime", "server"):
        assert last[field] == unbroken[field]
    if gap.hides(life.told_at[0]) or last.get("extra_channel") != unbroken.get("extra_channel"):
        return  # when it began to ring, or who answered first, nobody can know
    if last.get("extra_channel") == "" and gap.hides(life.told_at[1]):
        return  # an AI entry answers without a bridge that would tell when
    # A bridge is made when the answer is: that may fall into the next second.
    for field in ("ringduration", "callduration"):
        assert abs(last.get(field, 0) - unbroken.get(field, 0)) <= 1
