"""After a reconnect: what Asterisk shows against what was known."""

from __future__ import annotations

import json

import pytest

from arimonitor_core.inputs import ConnectionRestored
from tests.core.events import NOON_MS, Phone, Room, Scene, encode_time


def dialing(phone: Phone, number: str) -> Phone:
    """A caller's snapshot while Dial runs."""
    phone.state, phone.app, phone.app_data, phone.connected = "Ring", "Dial", f"PJSIP/{number},15,tT", number
    return phone


def leg_of(scene: Scene, caller: Phone, name: str, state: str = "Ringing") -> Phone:
    """A leg that rings for him, as GET /channels shows it."""
    leg = scene.phone(name, "")
    leg.state, leg.app, leg.app_data, leg.connected = state, "AppDial", "(Outgoing Line)", caller.number
    return leg


def bridged(scene: Scene, *phones: Phone) -> Room:
    """A bridge that nobody was told of."""
    room = scene.room()
    room.phones += [phone.id for phone in phones]
    return room


# -- calls that were known --------------------------------------------------------------------------------------------


def test_calls_of_which_nothing_is_left_ended_unseen() -> None:
    """A told one is FORCECLOSE, marked in the history; an untold one is forgotten in silence."""
    scene = Scene()
    scene.converse()
    untold = scene.call("1123", "800")
    scene.wait(5)
    scene.lost()
    scene.lost()
    scene.wait(60)
    scene.restored()
    assert scene.statuses == ["open", "oncall", "FORCECLOSE"]
    assert scene.said[-1]["callduration"] == 5
    assert scene.bodies[-1]["operation"]["timestamp"] == NOON_MS // 1000 + 67
    assert scene.monitor.active_calls() == []
    told, silent = scene.monitor.history
    assert [(record.state, record.offrec) for record in (told, silent)] == [("recovered", True), ("discarded", False)]
    assert scene.destroyed(untold) == []


def test_without_a_known_loss_a_call_ended_just_now() -> None:
    """A restart without a word counts as one."""
    scene = Scene()
    scene.converse()
    scene.wait(7)
    scene.restored()
    assert scene.said[-1]["callduration"] == 7


def test_a_call_that_lives_goes_on() -> None:
    """Nothing is told of it until something happens."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.lost()
    assert scene.restored([caller, callee], [room]) == []
    scene.wait(8)
    scene.hang_up(room, caller, callee)
    assert scene.statuses == ["open", "oncall", "closed"]
    assert scene.said[-1]["callduration"] == 8


def test_nothing_is_concluded_from_what_is_missing_in_a_damaged_answer() -> None:
    """The damage is reported; the call goes on."""
    scene = Scene()
    scene.converse()
    for damaged in ({"channels": b"[{}]"}, {"bridges": b"<html>"}):
        scene.give(ConnectionRestored(received_at=scene.now, **damaged))
    assert scene.statuses == ["open", "oncall"]
    assert scene.reasons == ["malformed-shape", "malformed-json"]
    scene.give(ConnectionRestored(received_at=scene.now, endpoints=b"{}"))
    assert scene.statuses[-1] == "FORCECLOSE"


def test_an_answer_that_nobody_saw_is_as_old_as_the_bridge() -> None:
    """It is told now."""
    scene = Scene()
    caller = dialing(scene.call("1121", "1122"), "1122")
    callee = scene.rung(caller, "1122")
    scene.lost()
    scene.wait(3)
    room = bridged(scene, callee, caller)
    scene.wait(20)
    scene.restored([caller, callee], [room])
    assert scene.statuses == ["open", "oncall"]
    assert scene.said[-1]["ringduration"] == 3
    assert scene.bodies[-1]["operation"]["timestamp"] == NOON_MS // 1000 + 23
    assert scene.said[-1]["extra_channel"] == callee.name


def test_an_answer_through_local_channels_is_as_old_as_the_younger_bridge() -> None:
    """Before it nobody could talk through the pair."""
    scene = Scene()
    caller = dialing(scene.call("1121", "1120"), "1122")
    first = scene.rung(caller, "Local/1122@membro-00000001;1")
    second = scene.phone("Local/1122@membro-00000001;2", "1122")
    scene.created(second)
    callee = scene.rung(second, "1122")
    scene.lost()
    scene.wait(2)
    inner = bridged(scene, callee, second)
    scene.wait(1)
    outer = bridged(scene, caller, first)
    scene.restored([caller, first, second, callee], [inner, outer])
    assert scene.said[-1]["ringduration"] == 3


def test_a_call_that_began_to_ring_unseen_is_told_now() -> None:
    """It rings since its first leg was born; where no leg shows it, since its own birth."""
    for shows_leg, rang in ((True, 5), (False, 7)):
        scene = Scene()
        caller = scene.call("1121", "1122")
        scene.lost()
        scene.wait(2)
        leg = leg_of(scene, caller, "1122")
        elder = leg_of(scene, caller, "1124")
        elder.created = encode_time(NOON_MS - 1)
        scene.wait(5)
        scene.restored([dialing(caller, "1122"), elder, *([leg] if shows_leg else [])])
        scene.destroyed(caller)
        assert scene.statuses == ["open", "unanswered"]
        assert scene.said[-1]["ringduration"] == rang


def test_who_is_left_of_a_call_speaks_for_it() -> None:
    """The caller transferred his party, and nobody saw it."""
    scene = Scene()
    caller, callee, _ = scene.converse()
    scene.lost()
    target = scene.phone("1123")
    scene.restored([callee, target], [bridged(scene, callee, target)])
    (call,) = scene.monitor.active_calls()
    assert (call.origin, call.anchor, call.destiny) == ("1121", callee.id, "1123")
    assert caller.id not in call.members


def test_a_phone_that_was_rung_and_is_up_inherits_the_call_of_a_caller_who_left() -> None:
    """He answered and was transferred, all unseen; a leg that only rings inherits nothing, nor does a Local half."""
    for state, name, expected in (
        ("Up", "1122", ["open", "oncall"]),
        ("Ringing", "1122", ["open", "FORCECLOSE"]),
        ("Up", "Local/1122@m-00000001;1", ["open", "FORCECLOSE"]),
    ):
        scene = Scene()
        caller = scene.call("1121", "1122")
        leg = scene.rung(caller, name)
        scene.lost()
        leg.state = state
        target = scene.phone("1123")
        scene.restored([leg, target], [bridged(scene, leg, target)])
        assert scene.statuses == expected
    leg_only = Scene()
    orphan = leg_only.phone("1122")
    leg_only.dial(leg_only.phone("1124", "s"), orphan, "BUSY")
    orphan.state = "Up"
    assert leg_only.restored([orphan]) == []


def test_two_told_calls_in_one_conversation_are_one() -> None:
    """A transfer joined them unseen: the older goes on, the other is closed into it."""
    scene = Scene()
    caller, callee, _ = scene.converse("1121", "1122")
    scene.wait(1)
    second, target, _ = scene.converse("1122", "1123")
    scene.lost()
    scene.restored([caller, target], [bridged(scene, caller, target)])
    (call,) = scene.monitor.active_calls()
    assert (call.origin, call.destiny) == ("1121", "1123")
    assert (scene.statuses[-1], scene.said[-1]["linked_guid"]) == ("closed", call.guid)
    assert not {callee.id, second.id} & set(call.members)


def test_a_conversation_that_ends_between_two_lists_is_told_of() -> None:
    """Both channels were listed, their bridge no more: who leaves it says whom he leaves behind, and since when."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    callee = scene.rung(caller, "1122")
    scene.lost()
    scene.wait(2)
    caller.state = callee.state = "Up"
    room = bridged(scene, callee, caller)
    scene.wait(5)
    scene.restored([caller, callee])
    scene.hang_up(room, callee, caller)
    assert scene.statuses == ["open", "oncall", "closed"]
    last = scene.said[-1]
    assert (last["ringduration"], last["callduration"], last["accuracy"]) == (2, 5, "gap")
    assert last["destiny"] == "1122"


def test_who_leaves_an_unseen_bridge_alone_or_a_waiting_room_talked_with_nobody() -> None:
    """Nor did somebody whose call passed in sight."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    callee = scene.rung(caller, "1122")
    scene.leave(bridged(scene, callee, caller), callee)
    scene.lost()
    scene.restored([caller, callee])
    waiting = bridged(scene, callee, caller)
    waiting.kind = "holding"
    scene.leave(waiting, callee)
    scene.leave(bridged(scene, callee), callee)
    assert scene.statuses == ["open"]


def test_an_ai_entry_that_answered_unseen_is_told_now() -> None:
    """The caller is up."""
    scene = Scene()
    caller = scene.call("1121", "94")
    scene.lost()
    caller.state = "Up"
    scene.wait(1)
    scene.restored([caller])
    assert scene.statuses == ["open", "oncall"]


# -- calls that were not ----------------------------------------------------------------------------------------------


def test_a_call_that_rings_at_the_reconnect_is_adopted() -> None:
    """Its ring time counts from the caller channel's creation, its open is told now."""
    scene = Scene()
    caller = dialing(scene.phone("1121", "1122"), "1122")
    leg = leg_of(scene, caller, "1122")
    scene.wait(4)
    scene.restored([leg, caller])
    assert (scene.statuses, scene.said[0]["destiny"]) == (["open"], "1122")
    assert scene.bodies[0]["operation"]["timestamp"] == NOON_MS // 1000 + 4
    scene.answered(caller, leg)
    scene.talk(leg, caller)
    assert (scene.statuses[-1], scene.said[-1]["ringduration"]) == ("oncall", 4)


def test_a_conversation_at_the_reconnect_is_adopted_with_its_answer() -> None:
    """All that is told of it is told now."""
    scene = Scene()
    caller = dialing(scene.phone("1121", "1120"), "1122")
    leg = leg_of(scene, caller, "1122", "Up")
    scene.wait(3)
    room = bridged(scene, leg, caller)
    scene.wait(30)
    scene.restored([leg, caller], [room])
    assert scene.statuses == ["open", "oncall"]
    assert (scene.said[-1]["ringduration"], scene.said[-1]["ringgroup"]) == (3, "1120")


@pytest.mark.parametrize(
    ("exten", "connected", "data", "dialed"),
    [
        ("1122", "", "", "1122"),
        ("s", "1123", "PJSIP/1122,15", "1123"),
        ("s", "", "PJSIP/1122&PJSIP/1123,15,tT", "1122"),
        ("s", "", "", ""),
    ],
)
def test_the_number_that_an_adopted_caller_dialed(exten: str, connected: str, data: str, dialed: str) -> None:
    """Where he is, else whom he is connected to, else whom he rings first."""
    scene = Scene()
    caller = scene.phone("1121", exten)
    caller.app, caller.app_data, caller.connected = "Dial", data, connected
    scene.restored([caller])
    assert scene.said[0]["destiny"] == dialed


def test_a_caller_whom_nothing_rings_for_is_followed_untold() -> None:
    """Unless he called an AI entry; a channel that begins no call begins none now either."""
    scene = Scene()
    waiting, ai = scene.phone("1121", "800"), scene.phone("1123", "94")
    leg, refused = leg_of(scene, waiting, "1124"), scene.phone("1122", "s")
    half = scene.phone("Local/1122@x-00000001;2", "1122", number="1121")
    scene.restored([waiting, ai, leg, refused, half])
    assert [(data["origin"], data["channelstatus"]) for data in scene.said] == [("1123", "open")]
    assert [call.origin for call in scene.monitor.active_calls()] == ["1121", "1123"]


def test_an_ai_entry_that_talks_at_the_reconnect_is_adopted_with_its_answer() -> None:
    """It rang from its creation on; when it answered nobody knows, and most answer at once."""
    scene = Scene()
    caller = scene.phone("1121", "94")
    caller.state = "Up"
    scene.wait(3)
    scene.restored([caller])
    assert (scene.statuses, scene.said[-1]["ringduration"]) == (["open", "oncall"], 0)
    scene.wait(4)
    scene.destroyed(caller)
    assert scene.said[-1]["callduration"] == 7


def test_an_ai_entry_that_ends_right_after_the_reconnect_talked_from_its_creation_on() -> None:
    """Its end is the first that is heard of it, and Asterisk's lists were made without it."""
    scene = Scene()
    caller = scene.phone("1121", "94")
    caller.state = "Up"
    scene.restored([])
    scene.wait(3)
    scene.destroyed(caller)
    assert scene.statuses == ["open", "oncall", "closed"]
    assert (scene.said[-1]["callduration"], scene.said[-1]["accuracy"]) == (3, "gap")


def test_a_click_to_call_through_a_local_channel_is_adopted() -> None:
    """Its `;1` dials by itself; its own phone is the one that talks with the other half."""
    scene = Scene()
    first = dialing(scene.phone("Local/1121@clique-00000001;1", "1122", number="1121"), "1122")
    second = dialing(scene.phone("Local/1121@clique-00000001;2", "1121", number="1121"), "1121")
    own, leg = leg_of(scene, second, "1121", "Up"), leg_of(scene, first, "1122", "Up")
    scene.wait(2)
    inner = bridged(scene, second, own)
    scene.wait(2)
    outer = bridged(scene, first, leg)
    scene.restored([first, second, own, leg], [inner, outer])
    assert scene.statuses == ["open", "oncall"]
    assert (scene.said[-1]["origin"], scene.said[-1]["destiny"], scene.said[-1]["ringduration"]) == ("1121", "1122", 4)


def test_the_number_of_a_trunk_that_was_dialed_unseen_is_its_own() -> None:
    """A leg's own number is what was dialed on it; one that was seen being dialed keeps what was."""
    scene = Scene()
    caller = dialing(scene.phone("1121", "011977776666"), "11977776666@tronco")
    leg = leg_of(scene, caller, "PJSIP/tronco-00000001", "Up")
    leg.number = "011977776666"
    scene.restored([caller, leg], [bridged(scene, caller, leg)])
    assert scene.said[-1]["destiny"] == "011977776666"
    leg.number = "1"
    scene.restored([caller, leg], [bridged(scene, caller, leg)])
    assert scene.monitor.book.table.channels[leg.id].dialed == "011977776666"


# -- accuracy ---------------------------------------------------------------------------------------------------------


def accuracies(scene: Scene) -> list[tuple[str, str]]:
    return [(data["channelstatus"], data["accuracy"]) for data in scene.said]


def test_a_call_that_lived_through_a_loss_says_so_from_then_on() -> None:
    """Even if nothing seems to have happened; calls that begin later, and those that ended before, are exact."""
    scene = Scene()
    before, leg, room = scene.converse("1123", "1124")
    scene.hang_up(room, before, leg)
    caller, callee, room = scene.converse()
    scene.lost()
    scene.restored([caller, callee], [room])
    scene.hang_up(room, caller, callee)
    scene.converse("1123", "1124")
    exact = [(status, "exact") for status in ("open", "oncall", "closed", "open", "oncall")]
    assert accuracies(scene) == [*exact, ("closed", "gap"), ("open", "exact"), ("oncall", "exact")]


def test_a_call_that_was_not_told_of_yet_keeps_the_mark_too() -> None:
    """Nothing shows whether somebody was rung meanwhile. A damaged answer marks it as well."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    scene.lost()
    scene.give(ConnectionRestored(received_at=scene.now, channels=b"<html>"))
    scene.rung(caller, "1122")
    assert accuracies(scene) == [("open", "gap")]


def test_without_a_loss_only_what_had_to_be_changed_is_marked() -> None:
    """An operator asked for it: a call that is as it was known stays exact, all others do not."""
    scene = Scene()
    caller, callee, room = scene.converse()
    lost, lost_leg, _ = scene.converse("1122", "1123")
    ringing = dialing(scene.call("1124", "1129"), "1129")
    leg = scene.rung(ringing, "1129")
    begun = dialing(scene.phone("1123", "1124"), "1124")
    told = len(scene.messages)
    answered = bridged(scene, ringing, leg)
    scene.restored([caller, callee, ringing, leg, begun], [room, answered])
    scene.hang_up(room, caller, callee)
    assert [(data["origin"], data["channelstatus"], data["accuracy"]) for data in scene.said[told:]] == [
        ("1122", "FORCECLOSE", "gap"), ("1123", "open", "gap"), ("1124", "oncall", "gap"), ("1121", "closed", "exact"),
    ]  # fmt: skip
    assert {lost.id, lost_leg.id}.isdisjoint(scene.monitor.channel_ids())


@pytest.mark.parametrize("change", ["a party left", "a party came", "a recording"])
def test_whatever_the_picture_changes_of_a_call_marks_it(change: str) -> None:
    """Without a loss before it."""
    scene = Scene()
    caller, callee, room = scene.converse()
    third = scene.phone("1123")
    phones = [caller, callee]
    if change == "a party left":
        phones.remove(callee)
    elif change == "a party came":
        phones.append(third)
        room.phones.append(third.id)
    else:
        caller.variables = {"MIXMONITOR_FILENAME": "/spool/a.wav"}
    scene.restored(phones, [room])
    scene.hang_up(room, *[phone for phone in phones if phone.id in room.phones])
    assert accuracies(scene)[-1] == ("closed", "gap")


@pytest.mark.parametrize("case", ["seen", "born unseen", "in a gap"])
def test_a_call_that_begins_at_a_dial_is_exact_where_its_caller_was_seen_from_its_creation_on(case: str) -> None:
    """An outgoing leg that dials is no caller before."""
    scene = Scene()
    own = scene.phone("1121")
    if case != "born unseen":
        scene.created(own)
    if case == "in a gap":
        scene.lost()
        scene.restored([own])
    scene.rung(own, "1122")
    assert accuracies(scene) == [("open", "exact" if case == "seen" else "gap")]


# -- a restart of Asterisk --------------------------------------------------------------------------------------------

STARTED = "2026-11-22T08:00:00.000-0300"
SAME_INSTANT = "2026-11-22T09:00:00.000-0200"
RESTARTED = "2026-11-22T12:00:08.500+0000"


@pytest.mark.parametrize("known_loss", [True, False])
def test_a_restart_of_asterisk_ends_every_call_whatever_is_shown(known_loss: bool) -> None:
    """Channels that are shown now are new ones, even under an id that was chosen again."""
    scene = Scene()
    scene.restored(started=STARTED)
    caller, callee, room = scene.converse()
    scene.call("1123", "800")
    scene.wait(5)
    if known_loss:
        scene.lost()
    scene.wait(5)
    again = dialing(scene.phone("1123", "1124"), "1124")
    again.id = caller.id
    scene.restored([again, callee], [room], started=RESTARTED)
    assert [(data["origin"], data["channelstatus"], data["accuracy"]) for data in scene.said[2:]] == [
        ("1121", "FORCECLOSE", "gap"), ("1123", "open", "gap"), ("1123", "oncall", "gap"),
    ]  # fmt: skip
    assert scene.said[2]["callduration"] == (5 if known_loss else 10)
    assert scene.reasons == ["asterisk-restarted"]
    assert scene.monitor.startup_time == RESTARTED
    assert [call.origin for call in scene.monitor.active_calls()] == ["1123"]


def test_a_restart_ends_calls_even_where_the_lists_cannot_be_read() -> None:
    """It does not depend on them."""
    scene = Scene()
    scene.restored(started=STARTED)
    scene.converse()
    info = b'{"status":{"startup_time":"%b"}}' % RESTARTED.encode()
    scene.give(ConnectionRestored(received_at=scene.now, channels=b"<html>", info=info))
    assert scene.statuses == ["open", "oncall", "FORCECLOSE"]


@pytest.mark.parametrize("started", [STARTED, SAME_INSTANT, "", "soon"])
def test_without_another_time_of_its_start_asterisk_is_the_same(started: str) -> None:
    """The same instant may be written in another zone; a missing or unreadable one says nothing, and is not kept."""
    scene = Scene()
    scene.restored(started=STARTED)
    caller, callee, room = scene.converse()
    scene.restored([caller, callee], [room], started=started)
    assert scene.statuses == ["open", "oncall"]
    assert scene.monitor.startup_time in {STARTED, SAME_INSTANT}
    assert scene.reasons == (["malformed-startup-time"] if started == "soon" else [])
    scene.restored([caller, callee], [room], started=RESTARTED)
    assert scene.statuses == ["open", "oncall", "FORCECLOSE"]


def test_the_first_start_that_is_told_is_no_restart() -> None:
    """There is nothing to compare it with."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.restored([caller, callee], [room], started=STARTED)
    assert scene.reasons == []


# -- variables --------------------------------------------------------------------------------------------------------


def test_a_recording_that_was_read_counts_like_one_that_was_shown() -> None:
    """Where Asterisk's snapshots bring no variables. Junk is reported and harms nothing."""
    for shown in (True, False):
        scene = Scene()
        caller, callee, room = scene.converse()
        read = {"MIXMONITOR_FILENAME": "/spool/a.wav"}
        if shown:
            caller.variables = read
        scene.lost()
        scene.restored([caller, callee], [room], variables={} if shown else {caller.id: read, "pbx-ghost": read})
        scene.hang_up(room, caller, callee)
        assert scene.said[-1]["recordings"] == ["http://audio.example/voip1/a.mp3"]
    scene.give(ConnectionRestored(received_at=scene.now, variables=b"[]"))
    assert scene.reasons == ["malformed-shape"]


# -- linkedid ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", [True, False])
def test_a_party_that_came_and_was_transferred_unseen_goes_on_with_the_call_that_asterisk_links_it_to(
    linked: bool,
) -> None:
    """The caller rang it, sent it to somebody else and left, all in one gap. Without the linkedid it seems a caller."""
    scene = Scene()
    caller = scene.call("1121", "1120")
    first = scene.rung(caller, "1122")
    scene.lost()
    party = scene.phone("1123", "1124")
    target = leg_of(scene, party, "1124", "Up")
    party.state, party.app = "Up", "Dial"
    half = scene.phone("Local/1124@m-00000001;1")
    half.state = "Up"
    linkedid = {one.id: {"CHANNEL(linkedid)": caller.id} for one in (party, target, half)}
    scene.restored([half, target, party], [bridged(scene, party, target)], variables=linkedid if linked else {})
    if linked:
        assert scene.statuses == ["open", "oncall"]
        (call,) = scene.monitor.active_calls()
        assert (call.origin, call.anchor, call.destiny) == ("1121", party.id, "1124")
    else:
        assert scene.statuses == ["open", "FORCECLOSE", "open", "oncall"]
    assert first.id not in scene.monitor.channel_ids()


def test_a_link_ties_nobody_who_is_known_rings_or_has_ended() -> None:
    """It only tells whose heir a stranger is that talks."""
    for case in ("known", "ringing", "gone"):
        scene = Scene()
        caller = scene.call("1121", "1122")
        scene.rung(caller, "1122")
        other = scene.call("1123", "1124") if case == "known" else scene.phone("1123", "800")
        other.state = "Ringing" if case == "ringing" else "Up"
        if case == "gone":
            scene.destroyed(other)
        scene.lost()
        scene.restored([other], variables={other.id: {"CHANNEL(linkedid)": caller.id}})
        assert scene.statuses == ["open", "FORCECLOSE"]


# -- strange answers --------------------------------------------------------------------------------------------------


def test_what_is_listed_oddly_does_no_harm() -> None:
    """Unreadable times, channels that are gone, bridges of nobody, waiting rooms, the same channel twice."""
    scene = Scene()
    gone = scene.phone("1124", "1122")
    scene.destroyed(gone)
    caller = dialing(scene.phone("1121", "1122"), "1122")
    leg = leg_of(scene, caller, "1122", "Up")
    caller.created = leg.created = "then"
    parked = scene.room("holding")
    parked.phones += [caller.id, leg.id]
    nobody = scene.room()
    nobody.phones += ["pbx-ghost", gone.id]
    room = bridged(scene, caller, leg)
    room.created = "then"
    scene.restored([caller, caller, leg, gone], [parked, scene.room(), nobody, room])
    assert scene.statuses == ["open", "oncall"]
    assert scene.reasons == ["malformed-creationtime"]
    assert scene.monitor.book.table.bridges == {room.id: (caller.id, leg.id)}


def test_a_caller_whose_key_is_taken_begins_nothing_anew() -> None:
    """He is told of once."""
    scene = Scene()
    caller = dialing(scene.call("1121", "1122"), "1122")
    scene.monitor.book.table.channels[caller.id].call = None
    assert scene.restored([caller]) == []


def test_the_answers_are_what_asterisk_sent() -> None:
    """An empty list each, where nothing lives."""
    restored = ConnectionRestored(received_at=1.0)
    assert [json.loads(text) for text in (restored.channels, restored.bridges, restored.endpoints)] == [[], [], []]
