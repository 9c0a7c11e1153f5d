"""Transfers: who leaves, who stays, which call goes on, and what is said of it."""

from __future__ import annotations

from typing import Any

from arimonitor_core.effects import Effect
from tests.core.events import Phone, Room, Scene


def blind(scene: Scene, by: Phone, transferee: Phone | None, to: str, **more: Any) -> list[Effect]:
    fields = {"result": "Success", **more}
    return scene.event("BridgeBlindTransfer", channel=by, transferee=transferee, exten=to, **fields)


def attended(
    scene: Scene, first: Phone, second: Phone, transferee: Phone | None, target: Phone | None, **more: Any
) -> list[Effect]:
    return scene.event(
        "BridgeAttendedTransfer", transferer_first_leg=first, transferer_second_leg=second, transferee=transferee,
        transfer_target=target, **{"result": "Success", **more},
    )  # fmt: skip


def consult(scene: Scene, transferer: Phone, number: str) -> tuple[Room, Phone, Phone, Phone]:
    """A phone's feature code calls somebody through a Local channel: its room, both halves, who answered."""
    first = scene.call(f"Local/{number}@condominio-00000001;1", number)
    second = scene.call(f"Local/{number}@condominio-00000001;2", number, number="1122")
    leg = scene.rung(second, number)
    scene.answered(second, leg)
    scene.talk(leg, second)
    return scene.enter(scene.room(), transferer, first), first, second, leg


def transfers_of(scene: Scene) -> list[tuple[str, str, str]]:
    return [(made["kind"], made["by"], made["to"]) for made in scene.said[-1].get("transfer", [])]


def test_a_callee_sends_the_caller_on() -> None:
    """The call goes on under its origin; destiny is who talked last."""
    scene = Scene()
    caller, callee, room = scene.converse()
    blind(scene, callee, caller, "1123")
    scene.leave(room, callee, caller)
    scene.destroyed(callee)
    next_leg = scene.rung(caller, "1123")
    scene.answered(caller, next_leg)
    scene.talk(next_leg, caller)
    scene.destroyed(next_leg)
    scene.destroyed(caller)
    assert scene.statuses == ["open", "oncall", "closed"]
    assert transfers_of(scene) == [("blind", "1122", "1123")]
    assert (scene.said[-1]["origin"], scene.said[-1]["destiny"]) == ("1121", "1123")


def test_a_caller_sends_the_callee_on_and_leaves() -> None:
    """Whom he leaves behind speaks for the call."""
    scene = Scene()
    caller, callee, room = scene.converse()
    blind(scene, caller, callee, "1123")
    scene.hang_up(room, caller)
    scene.leave(room, callee)
    next_leg = scene.rung(callee, "1123")
    scene.answered(callee, next_leg)
    scene.talk(callee, next_leg)
    scene.destroyed(next_leg)
    scene.destroyed(callee)
    assert scene.statuses == ["open", "oncall", "closed"]
    assert transfers_of(scene) == [("blind", "1121", "1123")]
    assert (scene.said[-1]["origin"], scene.said[-1]["destiny"]) == ("1121", "1123")


def test_a_caller_sends_several_on() -> None:
    """No transferee is named then: one of those who stay speaks for the call; if nobody stays, nobody does."""
    scene = Scene()
    caller, callee, room = scene.converse()
    blind(scene, caller, None, "1123")
    (call,) = scene.monitor.active_calls()
    assert call.anchor == callee.id
    scene.hang_up(room, caller, callee)
    assert scene.statuses[-1] == "closed"
    alone = Scene()
    lonely = alone.call("1121", "94")
    blind(alone, lonely, None, "1123")
    assert alone.monitor.active_calls()[0].anchor == lonely.id


def test_a_surrogate_channel_belongs_to_the_call_that_is_transferred() -> None:
    """Asterisk puts one in place of many; not if it is another call's already, or gone."""
    scene = Scene()
    caller, callee, _ = scene.converse()
    surrogate = scene.phone("Local/1123@condominio-00000005;1")
    blind(scene, callee, caller, "1123", replace_channel=surrogate)
    book = scene.monitor.book
    (call,) = scene.monitor.active_calls()
    assert book.table.channels[surrogate.id].call is call
    other = scene.call("1124", "1123")
    scene.wait(1)
    blind(scene, callee, caller, "1123", replace_channel=other)
    assert book.table.channels[other.id].call is not call
    scene.destroyed(other)
    scene.wait(1)
    blind(scene, callee, caller, "1123", replace_channel=other)
    assert len(call.transfers) == 3


def test_a_transfer_that_failed_or_concerns_no_call_is_only_counted() -> None:
    """Nothing is listed."""
    scene = Scene()
    caller, callee, _ = scene.converse()
    stranger, other = scene.phone("1123"), scene.phone("1124")
    blind(scene, callee, caller, "1123", result="Fail")
    attended(scene, callee, other, caller, stranger, result="Invalid")
    blind(scene, stranger, None, "1123")
    attended(scene, stranger, other, None, None)
    assert scene.count("transfer-ignored") == 4
    assert scene.monitor.active_calls()[0].transfers == ()


def test_a_transfer_delivered_twice_is_one() -> None:
    """By both kinds."""
    scene = Scene()
    caller, callee, _ = scene.converse()
    for _ in range(2):
        blind(scene, callee, caller, "1123")
    target = scene.phone("1124")
    for _ in range(2):
        attended(scene, callee, callee, caller, target)
    (call,) = scene.monitor.active_calls()
    assert [made.kind for made in call.transfers] == ["blind", "attended"]


def test_a_transfer_to_a_group_names_the_group_first_rung() -> None:
    """A group that rang before stays the one that is named."""
    scene = Scene()
    caller, callee, room = scene.converse()
    blind(scene, callee, caller, "1120")
    scene.hang_up(room, caller, callee)
    assert scene.said[-1]["ringgroup"] == "1120"


def test_a_consultation_by_feature_code_is_part_of_the_call() -> None:
    """The number stands in the Local half's name; who is consulted is a party only when the transfer joins him."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.leave(room, callee)
    aside, first, second, target = consult(scene, callee, "1123")
    (call,) = scene.monitor.active_calls()
    assert (call.destiny, call.consulted, call.members) == ("1122", "1123", (caller.id, callee.id))
    attended(scene, callee, callee, caller, first)
    scene.leave(aside, callee)
    scene.enter(room, first)
    scene.destroyed(callee)
    assert call.destiny == "1123"
    for phone in (first, second, target, caller):
        scene.destroyed(phone)
    assert scene.statuses == ["open", "oncall", "closed"]
    assert transfers_of(scene) == [("attended", "1122", "1123")]


def test_the_callers_own_consultation_hands_the_call_over() -> None:
    """His transferee speaks for it."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.leave(room, caller)
    aside, first, _, _ = consult(scene, caller, "1123")
    attended(scene, caller, caller, callee, first)
    scene.leave(aside, caller)
    scene.enter(room, first)
    scene.destroyed(caller)
    (call,) = scene.monitor.active_calls()
    assert (call.anchor, call.destiny, call.origin) == (callee.id, "1123", "1121")


def test_the_number_of_a_consultation_is_looked_for_from_both_sides() -> None:
    """The transferer may be gone, and his call never have noted whom he consulted; the channels still show it."""
    for side in ("target", "transferee"):
        scene = Scene()
        caller, callee, room = scene.converse()
        half = scene.phone("Local/1123@condominio-00000001;1", exten="1123")
        scene.event("ChannelStateChange", channel=half)
        if side == "target":
            attended(scene, callee, callee, caller, half)
        else:
            scene.enter(room, half)
            scene.monitor.active_calls()[0].consulted = ""
            attended(scene, callee, callee, caller, None)
        (call,) = scene.monitor.active_calls()
        assert call.transfers[0].to == "1123"


def test_the_number_of_a_transfer_is_else_the_targets_own() -> None:
    """Where nothing shows what was dialed; empty where nobody shows at all."""
    scene = Scene()
    caller, callee, _ = scene.converse()
    attended(scene, callee, callee, caller, scene.phone("1124"))
    scene.wait(1)
    attended(scene, callee, callee, None, None)
    assert [made.to for made in scene.monitor.active_calls()[0].transfers] == ["1124", ""]


def test_two_calls_of_one_phone_become_one() -> None:
    """The call of its first leg goes on; the other is closed at that moment and names it."""
    scene = Scene()
    caller, callee, room = scene.converse("1121", "1122")
    second = scene.call("1122", "1123")
    target = scene.rung(second, "1123")
    scene.answered(second, target)
    aside = scene.talk(target, second)
    scene.wait(3)
    attended(scene, callee, second, caller, target)
    closed = scene.said[-1]
    assert (closed["channelstatus"], closed["origin"], closed["callduration"]) == ("closed", "1122", 3)
    assert closed["linked_guid"] == scene.said[0]["guid"]
    scene.leave(aside, second)
    scene.enter(aside, caller)
    scene.destroyed(second)
    scene.hang_up(room, callee)
    scene.destroyed(target)
    scene.destroyed(caller)
    assert scene.statuses == ["open", "oncall", "open", "oncall", "closed", "closed"]
    assert (scene.said[-1]["destiny"], transfers_of(scene)) == ("1123", [("attended", "1122", "1123")])


def test_the_number_of_a_call_that_the_transferer_was_called_in_is_its_origin() -> None:
    """He dialed nobody there: who called him is whom he transfers to."""
    scene = Scene()
    caller, callee, _ = scene.converse("1121", "1122")
    incoming = scene.call("1123", "1122")
    second = scene.rung(incoming, "1122")
    scene.answered(incoming, second)
    scene.talk(second, incoming)
    attended(scene, callee, second, caller, incoming)
    (call,) = scene.monitor.active_calls()
    assert (call.origin, call.transfers[0].to) == ("1121", "1123")


def test_joining_a_call_whose_channels_are_gone_ends_it_all_the_same() -> None:
    """Nothing is left open."""
    scene = Scene()
    caller, callee, _ = scene.converse("1121", "1122")
    second = scene.call("1122", "1123")
    target = scene.rung(second, "1123")
    scene.answered(second, target)
    scene.talk(target, second)
    other = scene.monitor.active_calls()[1]
    other.members = (*other.members, "pbx-gone")
    attended(scene, callee, second, caller, target)
    assert [call.origin for call in scene.monitor.active_calls()] == ["1121"]


def test_a_transfer_of_which_the_other_call_is_the_same_one_merges_nothing() -> None:
    """Both legs may belong to one call."""
    scene = Scene()
    caller, callee, _ = scene.converse()
    attended(scene, caller, callee, callee, caller)
    assert len(scene.monitor.active_calls()) == 1
    assert scene.statuses == ["open", "oncall"]


def test_a_transfer_whose_channels_are_gone_still_counts_for_who_is_left() -> None:
    """The transferer's channel may end before the event is told."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.hang_up(room, callee)
    attended(scene, callee, callee, caller, None)
    (call,) = scene.monitor.active_calls()
    assert [made.kind for made in call.transfers] == ["attended"]
    scene.wait(1)
    call.anchor = "pbx-gone"
    attended(scene, caller, caller, caller, None)
    assert len(call.transfers) == 2


def test_a_transferee_that_was_taken_for_a_caller_is_joined() -> None:
    """So it is at a reconnect that the transfer's own events overtook: his call is closed into the one that goes on."""
    scene = Scene()
    caller, callee, _ = scene.converse()
    own = scene.call("1123", "1124")
    scene.rung(own, "1124")
    blind(scene, caller, own, "1124")
    (call,) = scene.monitor.active_calls()
    assert (call.origin, call.anchor, call.members) == ("1121", own.id, (caller.id, callee.id, own.id))
    assert (scene.statuses[-1], scene.said[-1]["linked_guid"]) == ("unanswered", call.guid)
