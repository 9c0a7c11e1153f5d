"""Explaining a call: its story is complete, says why, and changes nothing about what happens."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from arimonitor_core import ari_events as ari
from arimonitor_core import explain
from arimonitor_core.directory import Client, Directory, Endpoint, RingGroup
from arimonitor_core.effects import Diagnostic, PublishMessage
from arimonitor_core.explain import Explainer, Story
from arimonitor_core.explain_wording import describe_effects, describe_event
from arimonitor_core.inputs import (
    AriEventReceived,
    CallsNumbered,
    ConnectionLost,
    ConnectionReplaced,
    ConnectionRestored,
    DeadlineReached,
    DirectoryChanged,
    FilterChanged,
    Input,
)
from arimonitor_core.monitor import Monitor
from arimonitor_core.records import decode_record

CAPTURES = Path(__file__).parents[2] / "fixtures" / "captures"
DIRECTORY = Directory.of(
    clients=[Client(code="112", vhost="vila")],
    endpoints=[Endpoint(number=number, type="unidade") for number in ("1121", "1122", "1123", "1124")],
    ring_groups=[RingGroup(number="1120", members=("1122", "1123"))],
)
START = 1795345104
UNSEEN = "Part of it passed unseen: what is told of it may be incomplete from now on."
SOMEBODY = "01a20000-0000-7000-8000-000000000000"


def captured(name: str, version: str = "asterisk-22") -> list[Input]:
    (path,) = (CAPTURES / version).glob(f"{name}.ndjson*")
    data = path.read_bytes()
    lines = gzip.decompress(data) if path.suffix == ".gz" else data
    return [decode_record(line) for line in lines.splitlines()]


def monitor() -> Monitor:
    return Monitor(server="voip1", directory=DIRECTORY)


def stamp(at: float) -> str:
    return f"2026-11-22T10:58:{24 + int(at):02d}.{round(at % 1 * 1000):03d}+0000"


def channel(number: str, exten: str = "s", *, name: str = "", state: str = "Ring", at: float = 0) -> dict[str, Any]:
    return {
        "id": f"id-{name or number}",
        "name": name or f"PJSIP/{number}-0000000a",
        "state": state,
        "creationtime": stamp(at),
        "caller": {"number": number},
        "dialplan": {"exten": exten, "context": "inside"},
    }


def event(kind: str, at: float, **fields: Any) -> AriEventReceived:
    raw = json.dumps({"type": kind, "timestamp": stamp(at), **fields}).encode()
    return AriEventReceived(START + at, raw)


CALLER, PHONE, OTHER = channel("1121", "1122"), channel("1122"), channel("1123")
BRIDGE = {"id": "b1", "channels": ["id-1122", "id-1121"]}
CREATED = event("ChannelCreated", 0, channel=CALLER)
DIALED = [
    event("ChannelCreated", 0.1, channel=PHONE),
    event("Dial", 0.2, caller=CALLER, peer=PHONE, dialstatus="", dialstring="1122"),
]
ANSWERED = [
    event("Dial", 2, caller=CALLER, peer=PHONE, dialstatus="ANSWER"),
    event("ChannelEnteredBridge", 2.1, channel=PHONE, bridge={"id": "b1", "channels": ["id-1122"]}),
    event("ChannelEnteredBridge", 2.2, channel=CALLER, bridge=BRIDGE),
]
HUNG_UP = [
    event("ChannelDestroyed", 9, channel=PHONE, cause=16, cause_txt="Normal Clearing"),
    event("ChannelDestroyed", 9, channel=CALLER, cause=16, cause_txt="Normal Clearing"),
]


def guid_of(*inputs: Input) -> str:
    """The guid of the first call that they lead to."""
    watched = monitor()
    for item in inputs:
        watched.handle(item)
        for call in watched.active_calls():
            return call.guid
    raise AssertionError("no call")


def told(*inputs: Input) -> list[tuple[str, tuple[str, ...]]]:
    """The story of the first call, as texts and consequences."""
    explainer = Explainer(monitor(), guid_of(*inputs))
    for item in inputs:
        explainer.handle(item)
    story = explainer.story()
    assert story is not None
    return [(step.text, step.consequences) for step in story.steps]


def test_an_answered_call_is_told_from_its_birth_to_its_end() -> None:
    """Every event of its channels, and behind each what it changed and what was published."""
    assert told(CREATED, *DIALED, *ANSWERED, *HUNG_UP) == [
        (
            "PJSIP/1121-0000000a was created with caller id 1121, at extension 1122 of context inside.",
            ("The call begins: origin 1121, dialed 1122, vhost vila.",),
        ),
        ("PJSIP/1122-0000000a was created with caller id 1122, at extension s of context inside.", ()),
        (
            "PJSIP/1121-0000000a dials PJSIP/1122-0000000a (1122).",
            (
                "From announced to ringing: a leg was dialed for it, so it really rings somebody.",
                "It gets callnumber 1.",
                "Published to vhost vila: received-call.open.",
            ),
        ),
        ("PJSIP/1122-0000000a, dialed by PJSIP/1121-0000000a, answered.", ()),
        ("PJSIP/1122-0000000a entered a bridge, alone so far.", ()),
        (
            "PJSIP/1121-0000000a entered a bridge, with PJSIP/1122-0000000a.",
            (
                "From ringing to answered: PJSIP/1122-0000000a answered 1.800 s after the first leg was dialed, "
                "and is connected.",
                "PJSIP/1122-0000000a talks in the call: it lasts until that has ended.",
                "Its dial status is ANSWER.",
                "Published to vhost vila: received-call.oncall.",
            ),
        ),
        (
            "PJSIP/1122-0000000a is gone: cause 16, Normal Clearing.",
            ("PJSIP/1122-0000000a left; the call goes on with PJSIP/1121-0000000a.",),
        ),
        (
            "PJSIP/1121-0000000a is gone: cause 16, Normal Clearing.",
            (
                "From answered to closed: the last channel that talked in it is gone.",
                "Its hangup cause is 16, Normal Clearing.",
                "Published to vhost vila: received-call.closed.",
            ),
        ),
    ]


def test_a_story_has_an_outcome_and_the_times_of_asterisk() -> None:
    """Milliseconds of the events, not of their arrival."""
    explainer = Explainer(monitor(), guid_of(CREATED))
    for item in (CREATED, *DIALED, *ANSWERED):
        explainer.handle(item)
    story = explainer.story()
    assert isinstance(story, Story)
    assert story.outcome == "Call 1: 1121 dialed 1122, answered after 1 s, in the end with 1122; answered."
    assert [step.at_ms - story.created_ms for step in story.steps] == [0, 100, 200, 2000, 2100, 2200]


def test_an_event_without_a_time_is_told_at_its_arrival() -> None:
    """As the monitor takes it."""
    explainer = Explainer(monitor(), guid_of(CREATED))
    explainer.handle(CREATED)
    timeless = json.dumps({"type": "ChannelHold", "channel": CALLER}).encode()
    explainer.handle(AriEventReceived(START + 0.25, timeless))
    story = explainer.story()
    assert story is not None
    assert [step.at_ms - story.created_ms for step in story.steps] == [0, 250]


def test_a_call_that_never_was_has_no_story() -> None:
    """Other calls have theirs; nothing is told of them here."""
    explainer = Explainer(monitor(), SOMEBODY)
    for item in (CREATED, *DIALED, *HUNG_UP):
        explainer.handle(item)
    assert explainer.story() is None


def test_a_call_that_goes_on_already_is_explained_from_now_on() -> None:
    """The monitor may come from a snapshot."""
    watched = monitor()
    watched.handle(CREATED)
    explainer = Explainer(watched, guid_of(CREATED))
    for item in DIALED:
        explainer.handle(item)
    story = explainer.story()
    assert story is not None
    assert story.outcome == "Call 1: 1121 dialed 1122; ringing."
    assert [step.text[:26] for step in story.steps] == ["PJSIP/1122-0000000a was cr", "PJSIP/1121-0000000a dials "]


def test_other_calls_and_other_inputs_are_left_out() -> None:
    """Among them a filter, a directory, noise, and a gap after the call's end."""
    stranger = channel("1124", "1123", at=1)
    gone = event("ChannelDestroyed", 8, channel=stranger, cause=16, cause_txt="x")
    noise: list[Input] = [
        FilterChanged(received_at=START),
        AriEventReceived(START, b"nonsense"),
        event("ChannelCreated", 1, channel=stranger),
        event("ChannelDialplan", 1, channel=CALLER),
        event("ChannelVarset", 1, variable="X", value="y", channel=CALLER),
        event("ChannelVarset", 1, variable="MIXMONITOR_FILENAME", value="/x.wav"),
        DirectoryChanged(received_at=START + 2, directory=DIRECTORY),
        DeadlineReached(received_at=START + 3),
        gone,
        gone,
    ]
    gap = [ConnectionLost(received_at=START + 10), ConnectionRestored(received_at=START + 11)]
    expected = told(CREATED, *DIALED, *HUNG_UP)
    assert told(CREATED, *DIALED, *noise, *HUNG_UP, *gap) == expected


def test_a_gap_concerns_a_call_that_goes_on() -> None:
    """It is told when it begins; what it ended is told when it is over."""
    lost, back = ConnectionLost(received_at=START + 5), ConnectionRestored(received_at=START + 7)
    assert told(CREATED, *DIALED, *ANSWERED, lost, back)[-2:] == [
        ("The connection to Asterisk is lost; what happens now is unseen.", ()),
        (
            "The connection to Asterisk is up, and shows what goes on there.",
            (
                "From answered to recovered: after the gap Asterisk no longer knows any channel of it.",
                UNSEEN,
                "Published to vhost vila: received-call.FORCECLOSE.",
            ),
        ),
    ]
    text, consequences = told(CREATED, back)[-1]
    assert text.startswith("The connection to Asterisk is up")
    assert consequences == (
        "From announced to discarded: it ended before anything was rung, so nobody is told of it.",
        UNSEEN,
    )
    alive = ConnectionRestored(received_at=START + 7, channels=json.dumps([CALLER]).encode())
    assert told(CREATED, alive)[-1][1] == ()
    assert told(CREATED, lost, alive)[-1][1] == (UNSEEN,)


def test_a_restart_of_asterisk_is_said_to_whom_it_concerns() -> None:
    """It ended the call, whatever was shown then."""
    before, after = (
        ConnectionRestored(
            received_at=START + at,
            info=b'{"status":{"startup_time":"2026-11-22T10:58:%02d.000+0000"}}' % at,
        )
        for at in (0, 30)
    )
    text, consequences = told(before, CREATED, after)[-1]
    assert text.endswith("Asterisk was restarted meanwhile: what went on before is over.")
    assert consequences[0].startswith("From announced to discarded")


def test_a_handover_and_another_monitors_numbers_are_told() -> None:
    """The first concerns every call that goes on, the second those that take a number."""
    replaced = ConnectionReplaced(received_at=START + 1)
    numbers = CallsNumbered(received_at=START + 1, numbers={guid_of(CREATED): 40})
    assert told(CREATED, *DIALED, replaced, numbers)[-2:] == [
        ("A successor of this monitor listens from here on; nothing was missed.", ()),
        ("Another monitor of this Asterisk told which callnumbers it gave.", ("It gets callnumber 40 in place of 1.",)),
    ]


def test_a_call_that_began_in_a_gap_begins_with_the_reconnect() -> None:
    """Everything about it is learned at once."""
    dialing = CALLER | {"dialplan": {"exten": "1122", "context": "inside", "app_name": "Dial"}}
    back = ConnectionRestored(received_at=START + 7, channels=json.dumps([dialing]).encode())
    ((text, consequences),) = told(back)
    assert text == "The connection to Asterisk is up, and shows what goes on there."
    assert consequences[0] == "The call begins: origin 1121, dialed 1122, vhost vila."
    assert UNSEEN in consequences
    assert consequences[1] == (
        "From announced to ringing: an entry of the AI is trusted, or Asterisk shows that somebody was dialed."
    )


def test_a_push_is_a_step_of_its_own_at_its_deadline() -> None:
    """Not a consequence of whatever event came next."""
    later = event("ChannelStateChange", 5, channel=channel("1124"))
    steps = told(CREATED, later)
    assert steps[-1] == (
        "Time went by.",
        (
            "It gets callnumber 1.",
            "1122 is offline as far as anybody knows: its app is woken.",
            "Published to vhost vila: push.",
        ),
    )


def test_an_entry_of_the_ai_is_trusted_and_answers_by_itself() -> None:
    """No leg, no answering channel."""
    caller = channel("1121", "94")
    up = event("ChannelStateChange", 1, channel=caller | {"state": "Up"})
    steps = told(event("ChannelCreated", 0, channel=caller), up)
    assert steps[0][1][1] == (
        "From announced to ringing: an entry of the AI is trusted, or Asterisk shows that somebody was dialed."
    )
    assert steps[1][0] == "PJSIP/1121-0000000a is now Up."
    assert steps[1][1][0] == "From ringing to answered: the entry of the AI answered: the caller's channel is up."


def test_a_group_digits_recordings_and_a_busy_leg_are_noted() -> None:
    """Each where it is learned."""
    caller = channel("1121", "1120")
    steps = told(
        event("ChannelCreated", 0, channel=caller),
        event("Dial", 0.2, caller=caller, peer=PHONE, dialstatus=""),
        event("Dial", 0.3, caller=caller, peer=PHONE, dialstatus="BUSY"),
        event("ChannelDtmfReceived", 1, channel=caller, digit="5"),
        event("ChannelVarset", 1, channel=caller, variable="MIXMONITOR_FILENAME", value="/r/1.wav"),
        event("ChannelDestroyed", 2, channel=caller, cause=17, cause_txt=""),
    )
    assert "1120 is a ring group." in steps[1][1]
    assert steps[2:] == [
        (
            "The dialing of PJSIP/1122-0000000a by PJSIP/1121-0000000a ended: BUSY.",
            ("Its dial status is BUSY.",),
        ),
        ("PJSIP/1121-0000000a pressed 5.", ("Digit 5 by 1121 is noted.",)),
        ("PJSIP/1121-0000000a announced the recording /r/1.wav.", ("The recording /r/1.wav is noted.",)),
        (
            "PJSIP/1121-0000000a is gone: cause 17, .",
            (
                "From ringing to unanswered: its last channel ended before anybody answered.",
                "Its hangup cause is 17, without a text.",
                "Published to vhost vila: received-call.unanswered.",
            ),
        ),
    ]


def test_a_pickup_is_told_as_a_leg_of_another_call() -> None:
    """Its own call is discarded for that reason."""
    pickup = channel("1123", "*8", at=1)
    first = [CREATED, *DIALED]
    inputs: list[Input] = [
        event("ChannelCreated", 1, channel=pickup),
        event("Dial", 1.1, caller=CALLER, peer=pickup, dialstatus="ANSWER"),
    ]
    watched = monitor()
    for item in (*first, inputs[0]):
        watched.handle(item)
    guid = watched.active_calls()[-1].guid
    explainer = Explainer(monitor(), guid)
    for item in (*first, *inputs):
        explainer.handle(item)
    story = explainer.story()
    assert story is not None
    assert story.outcome == "A call without a number: 1123 dialed *8; discarded."
    assert story.steps[-1].consequences == (
        "From announced to discarded: its channel is a leg of another call, not a caller.",
    )


def test_a_complaint_about_the_call_is_told() -> None:
    """What the core could not do, with its reason; complaints about others are not."""
    mine = Diagnostic(severity="warning", reason="illegal-transition", detail="ring while lost", call_id="g")
    other = Diagnostic(severity="warning", reason="illegal-transition", call_id="h")
    assert list(describe_effects([mine, other], "g")) == ["Complaint: illegal-transition ring while lost."]


def test_what_is_kept_aside_of_a_channel_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone that never belongs to a call may hold and unhold all day."""
    monkeypatch.setattr(explain, "ASIDE_MAX", 2)
    holds = [event("ChannelHold", 0.1, channel=PHONE) for _ in range(5)]
    steps = told(CREATED, *holds, DIALED[1])
    assert len(steps) == 1 + 2 + 1


def names(_: str) -> str:
    return "somebody"


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        (
            "ChannelCreated",
            {"channel": {"id": "1", "name": "N"}},
            "N was created with caller id (none), at extension (none) of context (none).",
        ),
        ("ChannelHangupRequest", {"channel": OTHER}, "PJSIP/1123-0000000a hangs up, or is told to."),
        ("ChannelHold", {"channel": OTHER}, "PJSIP/1123-0000000a put the other side on hold."),
        ("ChannelUnhold", {"channel": OTHER}, "PJSIP/1123-0000000a took the other side back from hold."),
        ("ChannelLeftBridge", {"channel": OTHER, "bridge": BRIDGE}, "PJSIP/1123-0000000a left a bridge."),
        (
            "ChannelEnteredBridge",
            {"channel": OTHER, "bridge": {"id": "b", "channels": ["1", "2", "id-1123", "3"]}},
            "PJSIP/1123-0000000a entered a bridge, with somebody, somebody and somebody.",
        ),
        ("Dial", {"peer": OTHER}, "no channel dials PJSIP/1123-0000000a."),
        (
            "Dial",
            {"peer": OTHER, "caller": CALLER, "dialstatus": "RINGING"},
            "PJSIP/1123-0000000a rings, dialed by PJSIP/1121-0000000a.",
        ),
        (
            "Dial",
            {"peer": OTHER, "caller": CALLER, "forwarded": PHONE},
            "PJSIP/1123-0000000a, dialed by PJSIP/1121-0000000a, forwards to PJSIP/1122-0000000a.",
        ),
        (
            "BridgeBlindTransfer",
            {"channel": OTHER, "exten": "", "result": "Fail"},
            "PJSIP/1123-0000000a sent the other side to extension (none), a blind transfer. That failed: Fail.",
        ),
        (
            "BridgeBlindTransfer",
            {"channel": OTHER, "transferee": CALLER, "exten": "9", "result": "Success"},
            "PJSIP/1123-0000000a sent PJSIP/1121-0000000a to extension 9, a blind transfer.",
        ),
        (
            "BridgeAttendedTransfer",
            {"transferer_first_leg": OTHER, "transferer_second_leg": OTHER},
            "PJSIP/1123-0000000a left the other side and the other side to each other, "
            "an attended transfer. That failed: no result given.",
        ),
        (
            "BridgeAttendedTransfer",
            {
                "transferer_first_leg": OTHER,
                "transferer_second_leg": PHONE,
                "transferee": CALLER,
                "transfer_target": OTHER,
                "result": "Success",
            },
            "PJSIP/1123-0000000a and PJSIP/1122-0000000a left PJSIP/1121-0000000a and PJSIP/1123-0000000a to each "
            "other, an attended transfer.",
        ),
        ("PeerStatusChange", {"endpoint": {"resource": "1"}, "peer": {"peer_status": "Reachable"}}, ""),
    ],
)
def test_each_kind_of_event_is_said_in_a_sentence(kind: str, fields: dict[str, Any], text: str) -> None:
    """Also where Asterisk leaves something out."""
    assert describe_event(ari.decode_event(event(kind, 0, **fields).raw), names) == text


def bodies(effects: Iterable[Any]) -> list[bytes]:
    return [effect.body for effect in effects if isinstance(effect, PublishMessage)]


@pytest.mark.parametrize(
    "name",
    [
        "attended_transfer",
        "blind_transfer",
        "click_to_call_local",
        "gap_during_consultation",
        "gap_while_push_waits",
        "pickup_directed",
        "push_registers_then_answers",
        "refer_replaces_by_caller",
        "ring_group_local_channels",
    ],
)
def test_explaining_changes_nothing_and_leaves_no_message_out(name: str) -> None:
    """Real captures: the same messages come out, and each is told in the story of its call, told one by one."""
    records = captured(name)
    plain = monitor()
    effects = [effect for record in records for effect in plain.handle(record)]
    messages = [effect for effect in effects if isinstance(effect, PublishMessage)]
    calls = {message.ordering_key for message in messages if message.callnumber}
    assert calls
    for guid in sorted(calls):
        explainer = Explainer(monitor(), guid)
        again = [effect for record in records for effect in explainer.handle(record)]
        assert bodies(again) == bodies(effects)
        story = explainer.story()
        assert story is not None
        published = [text for step in story.steps for text in step.consequences if text.startswith("Published")]
        own = [message for message in messages if message.ordering_key == guid]
        assert [text.rpartition(" ")[2] for text in published] == [f"{message.routing_key}." for message in own]
        assert all(step.text for step in story.steps)
