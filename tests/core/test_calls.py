"""The life of a call: how it begins, rings, is answered and ends, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest

from arimonitor_core.call import Call
from arimonitor_core.call_states import EVENTS, STATES, TRANSITIONS
from arimonitor_core.calls import CALLNUMBER_MAX, GIVEN_LIMIT, CallBook
from arimonitor_core.effects import Diagnostic
from arimonitor_core.inputs import CallsNumbered, DirectoryChanged
from arimonitor_core.policies import Policies
from tests.core.events import DIRECTORY, NOON_MS, Scene, data_of

STEPS = {
    "ring": lambda book, call: book.ring(call, NOON_MS),
    "answer": lambda book, call: book.answer(call, None, NOON_MS, NOON_MS),
    "hang_up": lambda book, call: book.end(call, NOON_MS),
    "absorb": lambda book, call: book.absorb(call, NOON_MS),
    "lose": lambda book, call: book.lose(call, NOON_MS, NOON_MS),
}
"""The steps that others ask for, by the event that they are; `recover` follows upon `lose` by itself."""


def facts(call: Call) -> dict[str, Any]:
    return {name: getattr(call, name) for name in call.__struct_fields__}


def test_an_answered_call_is_told_of_three_times() -> None:
    """Open when it rings, oncall when both are connected, closed at the end, under one number and one guid."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.wait(5)
    scene.hang_up(room, caller, callee)
    assert scene.statuses == ["open", "oncall", "closed"]
    assert [data["callstatus"] for data in scene.said] == [1, 2, 2]
    assert len({(data["guid"], data["callnumber"]) for data in scene.said}) == 1
    assert (scene.said[-1]["ringduration"], scene.said[-1]["callduration"]) == (2, 5)
    assert scene.monitor.active_calls() == []


def test_a_call_that_nobody_answers_is_unanswered() -> None:
    """It counts how long it rang and carries Asterisk's own words."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    callee = scene.rung(caller, "1122")
    scene.wait(15)
    scene.dial(caller, callee, "NOANSWER")
    scene.destroyed(callee, 0, "Unknown")
    scene.destroyed(caller, 19, "User alerting, no answer")
    last = scene.said[-1]
    assert scene.statuses == ["open", "unanswered"]
    assert (last["ringduration"], last["dialstatus"], last["hangupcause"]) == (15, "NOANSWER", 19)
    assert last["hangupcause_txt"] == "User alerting, no answer"


def test_a_call_that_rings_nobody_is_never_told_of() -> None:
    """A scanner's call ends discarded and uses up no callnumber."""
    scene = Scene()
    caller = scene.call("PJSIP/anonymous-00000009", "0011972", number="sipvicious")
    scene.destroyed(caller, 3, "No route")
    assert scene.messages == []
    assert scene.monitor.next_callnumber == 1
    assert scene.monitor.statistics.as_dict()["calls"] == {"discarded": 1}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", sorted(STEPS))
def test_an_illegal_step_leaves_the_call_as_it_was(state: str, event: str) -> None:
    """It is reported, and nothing is told or forgotten."""
    scene = Scene()
    scene.call("1121", "1122")
    (call,) = scene.monitor.active_calls()
    call.state = state
    book, before = scene.monitor.book, facts(call)
    if (state, event) in TRANSITIONS:
        STEPS[event](book, call)
        assert call.state != state
        return
    STEPS[event](book, call)
    assert facts(call) == before
    assert book.calls == {call.key: call}
    (reported,) = book.effects
    assert isinstance(reported, Diagnostic)
    assert (reported.reason, reported.detail) == ("illegal-transition", f"{event} while {state}")
    assert reported.call_id == call.guid


def test_every_declared_event_is_a_step_that_the_book_makes() -> None:
    """The table above is complete."""
    assert {*STEPS, "recover"} == set(EVENTS)


def test_a_call_without_a_readable_creationtime_lives_by_the_events_time() -> None:
    """The damage is reported; the call is followed."""
    scene = Scene()
    caller = scene.phone("1121", "1122")
    caller.created = "then"
    scene.created(caller)
    assert scene.reasons == ["malformed-creationtime"]
    assert scene.monitor.active_calls()[0].created_ms == NOON_MS


def test_one_channel_begins_one_call() -> None:
    """The key is creationtime and channel: it begins nothing twice."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    book = scene.monitor.book
    channel = book.table.channels[caller.id]
    channel.call = None
    assert scene.created(caller) == []
    assert len(scene.monitor.active_calls()) == 1


def test_calls_born_in_one_millisecond_are_two() -> None:
    """Their channels tell them apart."""
    scene = Scene()
    first, second = scene.call("1121", "1122"), scene.call("1123", "1122")
    assert first.created == second.created
    assert len({call.guid for call in scene.monitor.active_calls()}) == 2


def test_the_origin_is_the_callers_endpoint_whatever_he_shows() -> None:
    """Only where the channel's name holds none, the caller id counts; where that is empty too, the name."""
    scene = Scene()
    scene.call("PJSIP/1121-00000001", "1122", number="999")
    scene.call("PJSIP/tronco-00000002", "1122", number="5511")
    (own, trunk) = scene.monitor.active_calls()
    assert (own.origin, trunk.origin) == ("1121", "5511")
    nobody = scene.phone("PJSIP/tronco-00000003", "1122")
    scene.rung(nobody, "1122")
    assert scene.said[-1]["origin"] == "tronco"


def test_the_vhost_is_the_origins_or_else_that_of_the_number_dialed() -> None:
    """A stranger's call goes to who was called; a stranger's call to a stranger to nobody."""
    scene = Scene()
    for name, exten in (("1121", "1131"), ("5511", "1131"), ("5511", "999")):
        scene.rung(scene.call(name, exten), exten)
    assert [message.vhost for message in scene.messages] == ["vila-madalena", "jardim-paulista", ""]


def test_digits_are_kept_in_order_with_who_pressed_them() -> None:
    """Before the answer too, by both parties; those of a leg that is not in a call yet wait for it."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    callee = scene.rung(caller, "1122")
    scene.pressed(caller, "1")
    scene.wait(1)
    scene.pressed(callee, "2")
    scene.wait(1)
    scene.answered(caller, callee)
    room = scene.talk(callee, caller)
    scene.wait(1)
    scene.pressed(callee, "#")
    scene.hang_up(room, caller, callee)
    closed = scene.said[-1]
    assert closed["dtmf"] == "12#"
    assert [key["by"] for key in closed["keys"]] == ["1121", "1122", "1122"]
    assert [key["at"] for key in closed["keys"]] == [NOON_MS / 1000, NOON_MS / 1000 + 1, NOON_MS / 1000 + 3]


def test_recordings_are_listed_once_and_the_first_own_one_is_the_link() -> None:
    """A Local half's recording is a consultation's or a forward's; that of a later leg comes with it."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    half = scene.rung(caller, "Local/1122@membro-00000001;1")
    scene.varset(half, "MIXMONITOR_FILENAME", "/spool/half.wav")
    scene.varset(caller, "MIXMONITOR_FILENAME", "/spool/own.wav")
    scene.varset(caller, "MIXMONITOR_FILENAME", "/spool/own.wav")
    leg = scene.rung(caller, "1122")
    scene.varset(leg, "MIXMONITOR_FILENAME", "/spool/own.wav")
    scene.answered(caller, leg)
    room = scene.talk(leg, caller, half)
    scene.hang_up(room, caller, leg, half)
    closed = scene.said[-1]
    assert closed["urlfilename"] == "http://audio.example/voip1/own.mp3"
    assert [url.rpartition("/")[2] for url in closed["recordings"]] == ["own.mp3", "half.mp3"]


def test_a_call_ends_with_the_last_channel_that_talked_in_it() -> None:
    """A leg that was only rung does not keep it; the caller may leave before."""
    scene = Scene()
    caller, callee, room = scene.converse()
    other = scene.rung(caller, "1123")
    scene.hang_up(room, caller)
    assert scene.statuses == ["open", "oncall"]
    scene.hang_up(room, callee)
    assert scene.statuses == ["open", "oncall", "closed"]
    assert scene.destroyed(other) == []


def test_a_new_directory_counts_from_the_next_message_on() -> None:
    """Calls that are followed keep their vhost; types and new calls follow the new directory."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.give(DirectoryChanged(received_at=scene.now, directory=type(DIRECTORY).of()))
    scene.hang_up(room, caller, callee)
    assert [body["operation"]["vhost"] for body in scene.bodies] == ["vila-madalena"] * 3
    assert (scene.said[1]["origin_type"], scene.said[2]["origin_type"]) == ("unidade", "")


def test_updates_are_told_only_where_the_operator_wants_them() -> None:
    """And only of calls that are answered."""
    for wanted in (False, True):
        scene = Scene(policies=Policies(call_update=wanted))
        caller = scene.call("1121", "1122")
        callee = scene.rung(caller, "1122")
        assert scene.event("ChannelHold", channel=caller) == []
        scene.answered(caller, callee)
        scene.talk(callee, caller)
        held = data_of(scene.event("ChannelHold", channel=callee))
        resumed = data_of(scene.event("ChannelUnhold", channel=callee))
        assert [data["update"] for data in held + resumed] == (["held", "resumed"] if wanted else [])


def test_holding_a_channel_that_is_in_no_call_means_nothing() -> None:
    """Nor does a channel that is gone."""
    scene = Scene(policies=Policies(call_update=True))
    phone = scene.phone("1121")
    assert scene.event("ChannelHold", channel=phone) == []
    scene.destroyed(phone)
    assert scene.event("ChannelUnhold", channel=phone) == []


def test_the_callnumber_goes_on_where_it_was_left() -> None:
    """Each call that is told of takes one, in the order of their first message."""
    scene = Scene()
    scene.monitor.book.next_callnumber = 41
    first, second = scene.call("1121", "1122"), scene.call("1123", "1124")
    scene.rung(second, "1124")
    scene.rung(first, "1122")
    assert [(data["origin"], data["callnumber"]) for data in scene.said] == [("1123", 41), ("1121", 42)]


def test_the_book_asks_for_the_directory_that_its_writer_uses() -> None:
    """There is one of it."""
    book = CallBook("voip1", DIRECTORY, Policies(), 1)
    assert book.directory is DIRECTORY


def test_a_call_takes_the_number_that_another_monitor_gave_it() -> None:
    """A numbered one from its next message on, one that needs none yet at its first; numbers given later are higher."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    scene.rung(caller, "1122")
    waiting = scene.call("1123", "1124")
    told, untold = scene.monitor.active_calls()
    scene.give(CallsNumbered(received_at=scene.now, numbers={told.guid: 40, untold.guid: 41}))
    scene.destroyed(caller)
    scene.rung(waiting, "1124")
    third = scene.call("1121", "1122")
    scene.rung(third, "1122")
    assert [(data["channelstatus"], data["callnumber"]) for data in scene.said] == [
        ("open", 1), ("unanswered", 40), ("open", 41), ("open", 42),
    ]  # fmt: skip


def test_a_number_of_a_call_that_is_not_known_yet_waits_for_it() -> None:
    """Told again, the later one counts; it is used up by the call."""
    expected, scene = Scene(), Scene()
    expected.call("1121", "1122")
    (guid,) = [call.guid for call in expected.monitor.active_calls()]
    for number in (17, 16):
        scene.give(CallsNumbered(received_at=scene.now, numbers={guid: number}))
    caller = scene.call("1121", "1122")
    scene.rung(caller, "1122")
    assert scene.said[0]["callnumber"] == 16
    assert scene.monitor.book.given_numbers == {}
    assert scene.monitor.next_callnumber == 18


def test_numbers_of_calls_that_never_come_are_forgotten() -> None:
    """The oldest first; their numbers are not given again."""
    scene = Scene()
    scene.give(
        CallsNumbered(received_at=scene.now, numbers={f"{number}": number for number in range(1, GIVEN_LIMIT + 2)})
    )
    assert len(scene.monitor.book.given_numbers) == GIVEN_LIMIT
    assert "1" not in scene.monitor.book.given_numbers
    assert scene.monitor.next_callnumber == GIVEN_LIMIT + 2


@pytest.mark.parametrize("junk", [0, -1, True, 1.5, "7", None, CALLNUMBER_MAX + 1])
def test_what_is_no_callnumber_is_reported_and_nothing_else(junk: Any) -> None:
    """The good ones beside it count."""
    scene = Scene()
    scene.give(CallsNumbered(received_at=scene.now, numbers={"a": junk, "b": 5}))
    assert scene.reasons == ["malformed-callnumber"]
    assert scene.monitor.book.given_numbers == {"b": 5}
    assert scene.monitor.next_callnumber == 6


def test_no_numbers_change_nothing() -> None:
    """An empty input is one."""
    scene = Scene()
    scene.give(CallsNumbered(received_at=scene.now))
    assert scene.monitor.next_callnumber == 1
