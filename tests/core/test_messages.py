"""The wire contract, field by field, as the web system reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arimonitor_core import messages
from arimonitor_core.effects import RecordedFile, StoreRecordings
from arimonitor_core.policies import Policies
from tests.core.contract import check_message
from tests.core.events import NOON_MS, Scene

ALWAYS = ["origin", "destiny", "origin_type", "destiny_type", "callnumber", "guid", "channelstatus", "callstatus",
          "server", "channel", "creationtime", "accuracy"]  # fmt: skip


def play(**policies: Any) -> Scene:
    """A call from 1121 to the group 1120 that 1122 answers, with a recording and a digit."""
    scene = Scene(policies=Policies(**policies))
    caller = scene.call("1121", "1120")
    scene.varset(caller, "MIXMONITOR_FILENAME", r"C:\spool\20261122-1121.wav")
    legs = [scene.rung(caller, "1122"), scene.rung(caller, "1123")]
    scene.wait(3.4)
    scene.answered(caller, legs[0])
    room = scene.talk(legs[0], caller)
    scene.dial(caller, legs[1], "CANCEL")
    scene.destroyed(legs[1])
    scene.wait(60.5)
    scene.pressed(legs[0], "#")
    scene.hang_up(room, caller, legs[0])
    return scene


def test_each_status_has_its_own_fields_in_their_order() -> None:
    """Nothing more, nothing less."""
    opened, oncall, closed = play().said
    assert list(opened) == [*ALWAYS, "ringgroup"]
    assert list(oncall) == [*ALWAYS, "ringgroup", "extra_channel", "ringduration"]
    assert list(closed) == [
        *ALWAYS, "ringgroup", "extra_channel", "ringduration", "callduration", "urlfilename", "recordings", "dtmf",
        "keys", "dialstatus", "hangupcause", "hangupcause_txt",
    ]  # fmt: skip


def test_the_fields_say_what_happened() -> None:
    """The group while it rings, who answered from then on."""
    scene = play()
    opened, oncall, closed = scene.said
    assert (opened["destiny"], opened["destiny_type"]) == ("1120", "ring-group")
    assert (oncall["destiny"], oncall["destiny_type"], oncall["ringgroup"]) == ("1122", "apto", "1120")
    assert oncall["extra_channel"] == "PJSIP/1122-00000002"
    assert {name: closed[name] for name in ("origin", "origin_type", "server", "channel", "creationtime")} == {
        "origin": "1121", "origin_type": "unidade", "server": "voip1", "channel": "PJSIP/1121-00000001",
        "creationtime": "2026-11-22T12:00:00.000+0000",
    }  # fmt: skip
    assert (closed["ringduration"], closed["callduration"], closed["dtmf"]) == (3, 60, "#")
    assert closed["keys"] == [{"digit": "#", "by": "1122", "at": NOON_MS / 1000 + 63.9}]
    assert closed["urlfilename"] == "http://audio.example/voip1/20261122-1121.mp3"
    assert closed["recordings"] == [closed["urlfilename"]]
    assert (closed["dialstatus"], closed["hangupcause"], closed["hangupcause_txt"]) == ("ANSWER", 16, "Normal Clearing")


def test_the_envelope_carries_code_time_and_vhost() -> None:
    """The time is that of the event, in whole seconds."""
    scene = play()
    assert [body["operation"]["timestamp"] - NOON_MS // 1000 for body in scene.bodies] == [0, 3, 63]
    assert scene.bodies[0]["operation"] == {
        "type": "received-call", "event_code": "8000", "timestamp": NOON_MS // 1000, "vhost": "vila-madalena",
    }  # fmt: skip


def test_a_message_is_known_by_guid_and_status() -> None:
    """So that a consumer can drop a repeat, and that a call's messages keep their order."""
    for message, data in zip((scene := play()).messages, scene.said, strict=True):
        assert message.message_id == f"{data['guid']}:{data['channelstatus']}"
        assert message.routing_key == f"received-call.{data['channelstatus']}"
        assert (message.ordering_key, message.callnumber) == (data["guid"], data["callnumber"])


def test_a_call_without_a_recording_has_an_empty_link() -> None:
    """The fields are there all the same."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.hang_up(room, caller, callee)
    assert (scene.said[-1]["urlfilename"], scene.said[-1]["recordings"]) == ("", [])


@pytest.mark.parametrize("spelling", ["FORCECLOSE", "closed"])
@pytest.mark.parametrize("answered", [True, False])
def test_a_lost_call_is_told_in_the_operators_spelling(spelling: str, answered: bool) -> None:
    """Callstatus says whether it was answered; the duration counts to the loss, or is 0."""
    scene = Scene(policies=Policies(forceclose_status=spelling))
    if answered:
        scene.converse()
    else:
        scene.rung(scene.call("1121", "1122"), "1122")
    scene.wait(10)
    scene.lost()
    scene.wait(20)
    scene.restored()
    last = scene.said[-1]
    assert (last["channelstatus"], scene.messages[-1].routing_key) == (spelling, f"received-call.{spelling}")
    assert (last["callstatus"], last["callduration"]) == ((2, 10) if answered else (1, 0))
    assert ("extra_channel" in last, "dtmf" in last) == (answered, False)
    assert scene.bodies[-1]["operation"]["timestamp"] == scene.now_ms // 1000


def test_an_update_names_the_call_and_who_talks() -> None:
    """Its id holds the moment: a call may be held many times."""
    scene = Scene(policies=Policies(call_update=True))
    caller, callee, _ = scene.converse()
    scene.event("ChannelHold", channel=callee)
    scene.event("BridgeBlindTransfer", channel=callee, transferee=caller, exten="1123", result="Success")
    held, transferred = scene.said[-2:]
    assert list(held) == ["guid", "callnumber", "update", "destiny", "transfer"]
    assert (held["update"], held["destiny"], held["transfer"]) == ("held", "1122", [])
    assert transferred["transfer"] == [{"kind": "blind", "by": "1122", "to": "1123", "at": scene.now}]
    assert [message.routing_key for message in scene.messages[-2:]] == ["call-update.held", "call-update.transferred"]
    assert scene.messages[-2].message_id == f"{held['guid']}:held:{scene.now_ms}"


def test_texts_from_outside_are_carried_as_they_are() -> None:
    """Quotes, accents and line ends do not break a message."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.leave(room, caller, callee)
    scene.destroyed(callee)
    scene.destroyed(caller, 16, 'Ligação "normal"\n')
    assert scene.said[-1]["hangupcause_txt"] == 'Ligação "normal"\n'
    assert b"\n" not in scene.messages[-1].body


@pytest.mark.parametrize("cause", [-1, 1000, 10**30])
def test_a_cause_that_is_none_is_zero(cause: int) -> None:
    """Asterisk's causes have at most three digits; what a consumer may store has limits."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    scene.rung(caller, "1122")
    scene.destroyed(caller, cause)
    assert scene.said[-1]["hangupcause"] == 0


def test_a_time_that_steps_back_gives_no_negative_duration() -> None:
    """Events of different channels come out of order."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    scene.rung(caller, "1122")
    scene.now_ms -= 5_000
    scene.destroyed(caller)
    assert scene.said[-1]["ringduration"] == 0


def test_every_type_has_its_own_code() -> None:
    """Codes are texts."""
    assert messages.EVENT_CODES == {
        "received-call": "8000", "endpoint-status": "8013", "push": "8015", "call-update": "8016",
        "recording": "8017",
    }  # fmt: skip


def test_a_message_with_another_callnumber_is_the_same_in_every_other_byte() -> None:
    """Whatever texts it holds; a message of no call stays as it is."""
    scene = Scene(policies=Policies(call_update=True))
    scene.restored(endpoints={"1129": "offline"})
    caller, callee, room = scene.converse("1121", "1122")
    scene.event("ChannelHold", channel=callee)
    callee.name = 'PJSIP/"callnumber":1-00000001'
    scene.leave(room, caller, callee)
    scene.destroyed(callee)
    scene.destroyed(caller, 16, '"callnumber":1, \\"callnumber\\":2')
    scene.call("1122", "1129")
    for message in scene.messages:
        renumbered = messages.renumber(message.body, 1234567)
        if message.callnumber:
            assert b'"callnumber":1234567,' in renumbered or renumbered.endswith(b'"callnumber":1234567}}')
            assert messages.renumber(renumbered, message.callnumber) == message.body
            assert json.loads(renumbered)["data"] == json.loads(message.body)["data"] | {"callnumber": 1234567}
        else:
            assert renumbered == message.body
    assert {message.type for message in scene.messages} == {"received-call", "push", "call-update", "endpoint-status"}


def recorded(*paths: str, origin: str = "1121") -> Scene:
    """An answered call with these recordings."""
    scene = Scene()
    caller, callee, room = scene.converse(origin)
    for path in paths:
        scene.varset(caller, "MIXMONITOR_FILENAME", path)
    scene.wait(5)
    scene.hang_up(room, caller, callee)
    return scene


def stores(scene: Scene) -> list[StoreRecordings]:
    """What the core asked to be stored."""
    return [effect for effect in scene.effects if isinstance(effect, StoreRecordings)]


def test_the_recordings_of_a_call_are_to_be_stored_directly_before_its_end_is_told() -> None:
    """With all that the links need."""
    scene = recorded("/spool/a.wav", "/spool/b.wav")
    (store,) = stores(scene)
    assert scene.effects[scene.effects.index(store) + 1] is scene.messages[-1]
    closed = scene.said[-1]
    assert (store.message_id, store.guid, store.callnumber) == (
        scene.messages[-1].message_id, closed["guid"], closed["callnumber"],
    )  # fmt: skip
    assert (store.vhost, store.client, store.origin, store.destiny) == ("vila-madalena", "112", "1121", "1122")
    assert store.created_ms <= store.answered_ms < store.ended_ms == scene.now_ms
    assert store.files == (
        RecordedFile("/spool/a.wav", closed["recordings"][0], True),
        RecordedFile("/spool/b.wav", closed["recordings"][1], False),
    )


def test_a_lost_call_has_its_recordings_stored_too() -> None:
    """They are there, whoever heard its end."""
    scene = Scene()
    caller, _, _ = scene.converse()
    scene.varset(caller, "MIXMONITOR_FILENAME", "/spool/a.wav")
    scene.lost()
    scene.wait(20)
    scene.restored()
    assert [store.message_id for store in stores(scene)] == [scene.messages[-1].message_id]


@pytest.mark.parametrize("lost", [False, True])
def test_the_recording_of_a_call_that_nobody_answered_is_not_stored(lost: bool) -> None:
    """It holds the ringing; that it was there is counted."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    scene.varset(caller, "MIXMONITOR_FILENAME", "/spool/a.wav")
    leg = scene.rung(caller, "1122")
    if lost:
        scene.lost()
        scene.restored()
    else:
        scene.destroyed(leg)
        scene.destroyed(caller)
    assert stores(scene) == []
    assert scene.monitor.statistics.diagnostics["unanswered-recording"] == 1


def test_a_recording_of_no_client_says_so() -> None:
    """Its code is empty."""
    scene = Scene()
    caller, callee, room = scene.converse("999", "888")
    scene.varset(caller, "MIXMONITOR_FILENAME", "/spool/a.wav")
    scene.hang_up(room, caller, callee)
    assert [(store.client, store.vhost) for store in stores(scene)] == [("", "")]


def test_a_message_with_other_links_is_the_same_in_every_other_byte() -> None:
    """Whatever a file or a party is called."""
    scene = recorded('/spool/"urlfilename":"x",\\.wav', "/spool/b].wav")
    message = scene.messages[-1]
    closed = scene.said[-1]
    body = messages.relink(message.body, "http://a/1.mp3", ["http://a/1.mp3", "http://a/2.mp3"])
    changed = {"urlfilename": "http://a/1.mp3", "recordings": ["http://a/1.mp3", "http://a/2.mp3"]}
    assert json.loads(body)["data"] == closed | changed
    assert messages.relink(body, closed["urlfilename"], closed["recordings"]) == message.body
    emptied = json.loads(messages.relink(message.body, "", []))["data"]
    assert (emptied["urlfilename"], emptied["recordings"]) == ("", [])
    assert messages.relink(messages.relink(message.body, "", []), "", ["x"]) == messages.relink(body, "", ["x"])


def test_what_became_of_a_recording_is_told_in_the_order_of_its_call() -> None:
    """The id names the file and what became of it: a repeat carries the same one."""
    scene = recorded("/spool/a.wav")
    (store,) = stores(scene)
    told = messages.recording(
        guid=store.guid,
        callnumber=store.callnumber,
        vhost=store.vhost,
        urlfilename="http://audio2.example/a.mp3",
        status="stored-elsewhere",
        reason="audio: login refused",
        at_ms=NOON_MS,
    )
    check_message(told)
    assert told.message_id == f"{store.guid}:recording:a.mp3:stored-elsewhere"
    assert (told.routing_key, told.timestamp) == ("recording", NOON_MS // 1000)
