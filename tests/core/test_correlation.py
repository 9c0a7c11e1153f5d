"""Which channel belongs to which call: dialing says who is rung, talking says who answered."""

from __future__ import annotations

import pytest

from tests.core.events import NOON_MS, Scene

# -- who is a caller --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exten", "context", "number", "reason"),
    [
        ("s", "condominio", "1121", "refused-exten-s"),
        ("", "condominio", "1121", "refused-exten"),
        ("h", "condominio", "1121", "refused-exten"),
        ("1122", "condominio", "", "refused-no-caller"),
        ("OutgoingSpoolFailed", "condominio", "1121", "refused-spool-failed"),
        ("1122", "OutgoingSpoolFailed", "1121", "refused-spool-failed"),
    ],
)
def test_a_channel_that_is_no_callers_begins_no_call(exten: str, context: str, number: str, reason: str) -> None:
    """Each refusal is counted by its reason."""
    scene = Scene()
    phone = scene.phone("PJSIP/1121-00000001", exten, number)
    phone.context = context
    scene.created(phone)
    assert scene.monitor.active_calls() == []
    assert scene.count(reason) == 1


def test_the_channel_of_a_failed_call_file_begins_no_call() -> None:
    """It is called so itself."""
    scene = Scene()
    scene.call("OutgoingSpoolFailed", "failed", number="1121")
    scene.created(scene.phone("OutgoingSpoolFailed/x-1", "1122", "1121"))
    assert scene.monitor.active_calls() == []
    assert scene.count("refused-spool-failed") == 1


def test_a_local_half_begins_no_call() -> None:
    """Neither does a leg that was dialed before its creation was told, nor a channel told of twice."""
    scene = Scene()
    scene.call("Local/1122@membro-00000001;1", "1122", number="1121")
    assert scene.count("refused-local") == 1
    caller, leg = scene.call("1121", "1122"), scene.phone("1122", "1122")
    scene.dial(caller, leg, "")
    scene.created(leg)
    scene.created(caller)
    assert len(scene.monitor.active_calls()) == 1
    scene.destroyed(leg)
    scene.created(leg)
    assert len(scene.monitor.active_calls()) == 1


def test_an_originated_leg_that_dials_is_a_caller_from_then_on() -> None:
    """Click-to-call: keyed and named by its own creation, the number as far as it is known."""
    scene = Scene()
    leg = scene.phone("1121", "s")
    scene.created(leg)
    assert scene.count("refused-exten-s") == 1
    scene.dial(None, leg, "")
    scene.answered(None, leg)
    assert scene.messages == []
    leg.exten = "1122"
    scene.rung(leg, "1122")
    assert (scene.said[0]["origin"], scene.said[0]["destiny"]) == ("1121", "1122")
    assert scene.said[0]["channel"] == leg.name


@pytest.mark.parametrize(
    ("dialstring", "name", "dialed"),
    [("PJSIP/1122", "1122", "1122"), ("trunk/5511@host", "PJSIP/t-1", "5511"), ("", "1124", "1124")],
)
def test_the_number_of_a_caller_without_an_extension_is_what_he_dials(dialstring: str, name: str, dialed: str) -> None:
    """The dialstring's, else that of the phone that rings."""
    scene = Scene()
    leg = scene.phone("1121", "s")
    scene.created(leg)
    scene.rung(leg, name, dialstring)
    assert scene.said[0]["destiny"] == dialed


def test_the_first_extension_counts_where_the_dialplan_moved_on() -> None:
    """An application may have changed it to one that says nothing."""
    scene = Scene()
    leg = scene.phone("1121", "s")
    scene.created(leg)
    leg.exten = "1120"
    scene.event("ChannelStateChange", channel=leg)
    leg.exten = "s"
    scene.rung(leg, "1122")
    assert scene.said[0]["destiny"] == "1120"


# -- who is rung ------------------------------------------------------------------------------------------------------


def test_legs_behind_local_channels_ring_for_the_caller_at_the_root() -> None:
    """A group made of Local channels is one call."""
    scene = Scene()
    caller = scene.call("1121", "1120")
    first = scene.rung(caller, "Local/1122@membro-00000001;1")
    second = scene.phone("Local/1122@membro-00000001;2", "1122")
    scene.created(second)
    leg = scene.rung(second, "1122")
    scene.answered(second, leg)
    scene.answered(caller, first)
    scene.talk(leg, second)
    scene.talk(caller, first)
    assert scene.statuses == ["open", "oncall"]
    assert (scene.said[-1]["destiny"], scene.said[-1]["extra_channel"]) == ("1122", leg.name)


def test_a_local_half_whose_root_is_unknown_dials_for_no_call() -> None:
    """An originate or a consultation does."""
    scene = Scene()
    first = scene.phone("Local/1122@x-00000001;1")
    second = scene.phone("Local/1122@x-00000001;2", "1122")
    scene.created(first)
    scene.created(second)
    scene.rung(second, "1122")
    outer = scene.phone("1124", "s")
    scene.created(outer)
    scene.dial(outer, first, "CHANUNAVAIL")
    inner = scene.phone("Local/9@x-00000002;1")
    inner_leg = scene.phone("1123")
    scene.dial(outer, inner, "BUSY")
    scene.dial(inner, inner_leg, "")
    assert scene.messages == []


def test_a_forwarded_leg_rings_for_the_same_caller() -> None:
    """After a SIP 302 another leg takes its place; one that is dialed already keeps its dialer."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    leg = scene.rung(caller, "1122")
    half = scene.phone("Local/1123@condominio-00000001;1")
    scene.created(half)
    scene.dial(caller, leg, "", forward="1123", forwarded=half)
    table = scene.monitor.book.table
    assert table.channels[half.id].dialer == caller.id
    scene.dial(leg, leg, "", forwarded=half)
    assert table.channels[half.id].dialer == caller.id


def test_a_dial_that_ends_unanswered_tells_why() -> None:
    """The last leg's word counts, until somebody answers; of a call that rings nobody nothing is kept."""
    scene = Scene()
    caller = scene.call("1121", "1120")
    leg = scene.phone("1124")
    scene.dial(caller, leg, "CONGESTION")
    assert scene.monitor.active_calls()[0].dial_status == ""
    for name, status in (("1122", "BUSY"), ("1123", "NOANSWER")):
        scene.dial(caller, scene.rung(caller, name), status)
    scene.destroyed(caller)
    assert scene.said[-1]["dialstatus"] == "NOANSWER"


def test_a_dial_of_channels_that_are_gone_means_nothing() -> None:
    """Nor does one whose caller is."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    leg = scene.phone("1122")
    scene.created(leg)
    scene.destroyed(leg)
    scene.dial(caller, leg, "")
    scene.destroyed(caller)
    scene.dial(caller, scene.phone("1123"), "")
    assert scene.messages == []


def test_a_caller_who_picks_up_is_a_leg_of_the_call_that_he_takes() -> None:
    """Asterisk dials him on behalf of the caller: his own call was none."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    scene.rung(caller, "1122")
    picker = scene.call("1123", "*8")
    scene.answered(caller, picker)
    scene.talk(picker, caller)
    assert scene.monitor.statistics.as_dict()["calls"] == {"discarded": 1}
    assert scene.statuses == ["open", "oncall"]
    assert scene.said[-1]["destiny"] == "1123"


def test_a_told_call_is_not_swallowed_by_a_dial() -> None:
    """Its channel is rung for another one now; both go on."""
    scene = Scene()
    caller, other = scene.call("1121", "1122"), scene.call("1123", "1124")
    scene.rung(caller, "1122")
    scene.rung(other, "1124")
    scene.dial(caller, other, "")
    assert len(scene.monitor.active_calls()) == 2


# -- who answered -----------------------------------------------------------------------------------------------------


def test_the_answer_counts_from_dial_answer_and_is_told_when_both_are_connected() -> None:
    """A phone that still has to press a key has not answered; the first ANSWER of a leg is its answer."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    leg = scene.rung(caller, "1122")
    scene.wait(2)
    scene.answered(caller, leg)
    scene.wait(3)
    scene.answered(caller, leg)
    assert scene.statuses == ["open"]
    scene.talk(leg, caller)
    assert scene.said[-1]["ringduration"] == 2
    assert scene.bodies[-1]["operation"]["timestamp"] == NOON_MS // 1000 + 2


def test_an_answer_that_no_dial_told_of_counts_from_the_conversation() -> None:
    """A pickup shows as a bridge only."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    scene.rung(caller, "1122")
    scene.wait(4)
    picker = scene.call("1123", "*8")
    scene.talk(picker, caller)
    assert (scene.said[-1]["ringduration"], scene.said[-1]["destiny"]) == (4, "1123")
    assert len(scene.monitor.active_calls()) == 1


def test_a_caller_who_is_up_has_been_answered_by_nobody() -> None:
    """A dialplan that answers first does it; so does an announcement."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    scene.rung(caller, "1122")
    scene.up(caller)
    scene.up(scene.phone("1124"))
    assert scene.statuses == ["open"]


def test_of_several_parties_who_answered_last_is_the_new_one() -> None:
    """And who talks already stays it."""
    scene = Scene()
    caller, callee, room = scene.converse()
    other = scene.rung(caller, "1123")
    scene.answered(caller, other)
    scene.enter(room, other)
    (call,) = scene.monitor.active_calls()
    assert call.destiny == "1122"
    scene.hang_up(room, callee)
    third = scene.rung(caller, "1124")
    scene.wait(1)
    scene.answered(caller, third)
    scene.enter(room, third)
    assert call.destiny == "1124"


def test_two_told_calls_in_one_room_stay_two() -> None:
    """Strangers who meet in a conference are no parties of each other's calls."""
    scene = Scene()
    first, second = scene.call("1121", "1122"), scene.call("1123", "1124")
    scene.rung(first, "1122")
    scene.rung(second, "1124")
    scene.talk(first, second)
    assert scene.statuses == ["open", "open"]


def test_untold_callers_who_meet_are_told_of_by_nobody() -> None:
    """A conference of callers rings no extension."""
    scene = Scene()
    scene.talk(scene.call("1121", "800"), scene.call("1123", "800"))
    alone = scene.call("1124", "800")
    scene.talk(alone, scene.phone("1122"))
    assert scene.messages == []
    assert len(scene.monitor.active_calls()) == 3


def test_a_waiting_room_is_no_conversation() -> None:
    """Parked calls sit in a holding bridge."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    leg = scene.rung(caller, "1122")
    scene.enter(scene.room("holding"), caller, leg)
    assert scene.statuses == ["open"]


def test_bridges_of_channels_that_are_gone_mean_nothing() -> None:
    """Events of one millisecond come in any order."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.destroyed(callee)
    scene.leave(room, callee)
    scene.enter(room, callee)
    scene.destroyed(callee)
    assert scene.monitor.book.table.bridges == {room.id: (caller.id,)}


def test_a_call_whose_anchor_is_no_channel_waits_for_its_end() -> None:
    """Nothing is concluded from a conversation of others."""
    scene = Scene()
    caller, callee, _ = scene.converse()
    (call,) = scene.monitor.active_calls()
    call.anchor = "pbx-gone"
    scene.talk(callee, scene.phone("1124"))
    assert call.destiny == "1122"
    assert caller.id in call.members


# -- consultations ----------------------------------------------------------------------------------------------------


def test_a_consultation_by_one_partys_second_leg_changes_nothing() -> None:
    """Who is consulted is no party; he belongs to the call so that his digits and recordings do."""
    scene = Scene()
    _, callee, room = scene.converse()
    scene.leave(room, callee)
    target = scene.phone("1123")
    scene.talk(callee, target)
    (call,) = scene.monitor.active_calls()
    assert (call.destiny, len(call.members)) == ("1122", 2)
    assert scene.monitor.book.table.channels[target.id].call is call


def test_a_consulted_number_is_noted_once_answered_and_only_if_it_is_one() -> None:
    """A Local half that somebody dialed is a leg, not a consultation."""
    for name, dialed, expected in (
        ("Local/1123@condominio-00000001;1", False, "1123"),
        ("Local/1123@condominio-00000001;1", True, ""),
        ("Local/1123@condominio-00000001;2", False, ""),
        ("Local/sala@condominio-00000001;1", False, ""),
    ):
        scene = Scene()
        caller, _, room = scene.converse()
        half = scene.phone(name, "1123")
        if dialed:
            scene.dial(caller, half, "")
        scene.enter(room, half)
        assert scene.monitor.active_calls()[0].consulted == expected


def test_a_local_half_in_a_ringing_call_is_no_consultation() -> None:
    """Nobody talks yet who could consult."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    scene.rung(caller, "1122")
    scene.talk(caller, scene.phone("Local/1123@condominio-00000001;1", "1123"))
    assert scene.monitor.active_calls()[0].consulted == ""
    assert scene.statuses == ["open"]


# -- click-to-call through a Local channel ----------------------------------------------------------------------------


def test_a_local_channels_call_is_its_phones_once_it_is_connected() -> None:
    """The phone that the other half dialed is the origin's side."""
    scene = Scene()
    first, second = (
        scene.phone("Local/1121@clique-00000001;1", "1122"),
        scene.phone("Local/1121@clique-00000001;2", "1121"),
    )
    scene.created(first)
    scene.created(second)
    own = scene.rung(second, "1121")
    scene.answered(second, own)
    scene.talk(own, second)
    leg = scene.rung(first, "1122")
    scene.answered(first, leg)
    scene.talk(leg, first)
    assert scene.statuses == ["open", "oncall"]
    assert (scene.said[-1]["origin"], scene.said[-1]["destiny"]) == ("1121", "1122")
    assert scene.monitor.active_calls()[0].anchor == own.id


def test_a_local_channels_call_stays_its_own_while_its_phone_is_not_seen() -> None:
    """Its other half may be gone, or talk with nobody that counts."""
    for half in ("Local/1121@clique-00000001;2", "PJSIP/9-00000009"):
        scene = Scene()
        first = scene.phone("Local/1121@clique-00000001;1", "1122")
        scene.created(first)
        scene.created(scene.phone(half, "1121"))
        leg = scene.rung(first, "1122")
        scene.answered(first, leg)
        scene.talk(leg, first)
        assert scene.statuses == ["open", "oncall"]
        assert scene.monitor.active_calls()[0].anchor == first.id


# -- AI entries -------------------------------------------------------------------------------------------------------


def test_a_call_to_an_ai_entry_is_told_at_once_and_answered_when_up() -> None:
    """Nobody is rung; the dialplan itself is the party."""
    scene = Scene()
    caller = scene.call("1121", "94")
    assert scene.statuses == ["open"]
    scene.wait(1)
    scene.up(caller)
    scene.up(caller)
    scene.wait(9)
    scene.destroyed(caller)
    assert scene.statuses == ["open", "oncall", "closed"]
    assert [scene.said[1][name] for name in ("destiny", "destiny_type", "extra_channel", "ringduration")] == [
        "94", "ia", "", 1,
    ]  # fmt: skip
    assert scene.said[-1]["callduration"] == 9


def test_an_originated_leg_that_is_sent_to_an_ai_entry_is_a_call() -> None:
    """When a snapshot shows it there, up: the first sign there may be."""
    scene = Scene()
    leg = scene.phone("1121")
    scene.created(leg)
    leg.exten = "94"
    scene.event("ChannelHold", channel=leg)
    assert scene.messages == []
    leg.state = "Up"
    scene.pressed(leg, "5")
    assert scene.statuses == ["open", "oncall"]
    scene.destroyed(leg)
    assert scene.said[-1]["dtmf"] == "5"


@pytest.mark.parametrize("why", ["dialed", "called", "stranger"])
def test_a_leg_that_only_shows_an_ai_entry_is_no_call(why: str) -> None:
    """A leg shows its caller's extension; a trunk's channel is nobody's."""
    scene = Scene()
    leg = scene.phone("PJSIP/tronco-00000001" if why == "stranger" else "1121")
    if why == "dialed":
        scene.dial(scene.phone("1124"), leg, "BUSY")
    leg.exten, leg.state, leg.app = "94", "Up", "AppDial" if why == "called" else ""
    scene.event("ChannelStateChange", channel=leg)
    assert scene.messages == []


def test_a_call_that_ended_at_an_ai_entry_is_not_begun_again() -> None:
    """Its key is known."""
    scene = Scene()
    leg = scene.call("1121", "94")
    scene.monitor.book.table.channels[leg.id].call = None
    leg.state = "Up"
    scene.event("ChannelStateChange", channel=leg)
    assert scene.statuses == ["open"]


# -- what any event may bring -----------------------------------------------------------------------------------------


def test_digits_of_local_halves_and_of_gone_channels_are_not_counted() -> None:
    """The phone behind the half sends them itself."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    scene.rung(caller, "1122")
    scene.pressed(scene.phone("Local/1122@x-00000001;1"), "1")
    gone = scene.phone("1124")
    scene.destroyed(gone)
    scene.pressed(gone, "2")
    scene.event("ChannelDtmfReceived", digit="33", channel=caller)
    scene.event("ChannelDtmfReceived", digit="", channel=caller)
    assert scene.monitor.active_calls()[0].keys == ()
    assert scene.reasons == ["malformed-digit", "malformed-digit"]


def test_a_snapshot_shows_a_recording_in_passing() -> None:
    """Where ari.conf has channelvars; each path once, an empty one never."""
    scene = Scene()
    caller = scene.phone("1121", "1122")
    caller.variables = {"MIXMONITOR_FILENAME": ""}
    scene.created(caller)
    caller.variables = {"MIXMONITOR_FILENAME": "/spool/a.wav", "CHANNEL(linkedid)": "pbx-1.1"}
    scene.rung(caller, "1122")
    scene.event("ChannelStateChange", channel=caller)
    (call,) = scene.monitor.active_calls()
    assert [(recording.path, recording.own) for recording in call.recordings] == [("/spool/a.wav", True)]


def test_channels_that_end_without_a_call_only_go() -> None:
    """And one that is destroyed twice is gone once."""
    scene = Scene()
    phone = scene.phone("1124")
    scene.destroyed(phone)
    assert scene.destroyed(phone) == []
    assert list(scene.monitor.book.table.gone) == [phone.id]
