"""The one door: inputs in, effects out, and questions answered."""

from __future__ import annotations

import pytest

from arimonitor_core.effects import PrintEvent
from arimonitor_core.inputs import AriEventReceived, DeadlineReached, FilterChanged, FilterMode
from arimonitor_core.monitor import Monitor
from tests.core.events import DIRECTORY, NOON_MS, Scene


def set_filter(scene: Scene, types: dict[str, FilterMode] | None = None, **variables: FilterMode) -> None:
    scene.give(FilterChanged(received_at=scene.now, types=types or {}, variables=variables))


def test_every_event_is_counted_by_its_type() -> None:
    """Those that the core does not know under one word, and by name."""
    scene = Scene()
    scene.call("1121", "1122")
    scene.event("ChannelDialplan", channel=scene.phone("1121"))
    scene.event("ApplicationReplaced")
    scene.varset(None, "X", "1")
    scene.raw(b'{"type":"ChannelVarset","variable":"X"}')
    scene.raw(b'{"type":"Rocket"}')
    scene.raw(b"junk")
    counted = scene.monitor.statistics.as_dict()
    assert counted["events"] == {
        "ApplicationReplaced": 1, "ChannelCreated": 1, "ChannelDialplan": 1, "ChannelVarset": 2, "MalformedEvent": 1,
        "UnhandledEvent": 1,
    }  # fmt: skip
    assert counted["unhandled"] == {"Rocket": 1}
    assert counted["diagnostics"] == {"malformed-json": 1}
    assert scene.reasons == ["malformed-json"]


def test_an_event_without_a_readable_time_happened_when_it_came() -> None:
    """The recorder's time has to do; it is counted."""
    scene = Scene()
    caller, leg = scene.call("1121", "1122"), scene.phone("1122")
    scene.event("Dial", timestamp="soon", caller=caller, peer=leg, dialstatus="")
    assert scene.bodies[0]["operation"]["timestamp"] == NOON_MS // 1000
    scene.event("ChannelVarset", timestamp="soon", variable="MIXMONITOR_FILENAME", value="/a.wav", channel=caller)
    assert scene.count("malformed-timestamp") == 2
    assert scene.monitor.active_calls()[0].recordings[0].path == "/a.wav"


def test_a_recording_that_is_nobodys_or_nothing_is_no_recording() -> None:
    """A global variable, an empty value, a channel that is gone, a damaged event."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    gone = scene.phone("1124")
    scene.destroyed(gone)
    scene.varset(None, "MIXMONITOR_FILENAME", "/a.wav")
    scene.varset(caller, "MIXMONITOR_FILENAME", "")
    scene.varset(gone, "MIXMONITOR_FILENAME", "/a.wav")
    scene.raw(b'{"variable":"MIXMONITOR_FILENAME","type":"ChannelVarset","channel":7}')
    assert scene.monitor.active_calls()[0].recordings == ()
    assert scene.reasons == ["malformed-shape"]


def test_the_filter_drops_prints_and_processes() -> None:
    """By type; what is dropped is counted too."""
    scene = Scene()
    set_filter(scene, {"ChannelCreated": "P", "Dial": "N", "Rocket": "NP", "ChannelDialplan": "P"})
    caller = scene.phone("1121", "1122")
    (printed,) = scene.created(caller)
    assert isinstance(printed, PrintEvent)
    assert b'"ChannelCreated"' in printed.raw
    assert len(scene.monitor.active_calls()) == 1
    assert scene.dial(caller, scene.phone("1122"), "") == []
    assert [type(effect) for effect in scene.raw(b'{"type":"Rocket"}')] == [PrintEvent]
    assert [type(effect) for effect in scene.event("ChannelDialplan", channel=caller)] == [PrintEvent]
    scene.raw(b"junk")
    counted = scene.monitor.statistics.as_dict()
    assert counted["filtered"] == {"Dial": 1, "Rocket": 1}
    assert counted["events"]["Dial"] == 1
    set_filter(scene, {"ChannelCreated": "Y", "Dial": "Y", "Rocket": "Y", "ChannelDialplan": "Y"})
    assert scene.statuses == []
    scene.dial(caller, scene.phone("1122"), "")
    assert scene.statuses == ["open"]


def test_a_variable_has_a_mode_of_its_own() -> None:
    """It is stronger than that of ChannelVarset."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    set_filter(scene, {"ChannelVarset": "N"}, MIXMONITOR_FILENAME="P")
    assert len(scene.varset(caller, "MIXMONITOR_FILENAME", "/a.wav")) == 1
    assert scene.varset(caller, "DIALSTATUS", "") == []
    assert scene.monitor.active_calls()[0].recordings[0].path == "/a.wav"
    assert scene.monitor.statistics.as_dict()["filtered"] == {"ChannelVarset/DIALSTATUS": 1}


def test_a_deadline_that_nobody_waits_for_passes() -> None:
    """So does one that was reached already."""
    scene = Scene()
    assert scene.monitor.next_deadline() is None
    assert scene.give(DeadlineReached(received_at=scene.now)) == []


def test_effects_are_handed_out_once() -> None:
    """What one input led to is not there at the next, nor changed by it."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    leg = scene.phone("1122")
    first = scene.monitor.handle(AriEventReceived(scene.now, b"junk"))
    assert scene.dial(caller, leg, "")
    assert len(first) == 1
    assert scene.monitor.handle(AriEventReceived(scene.now, b'{"type":"ChannelDialplan"}')) == ()


def test_calls_are_found_by_whatever_names_them() -> None:
    """Guid, callnumber, parties, channels by name and id, those that are only being rung too."""
    scene = Scene()
    caller = scene.call("1121", "1120")
    leg = scene.rung(caller, "1122")
    scene.call("1123", "800")
    monitor = scene.monitor
    call, other = monitor.active_calls()
    for name in (call.guid, "1", "1121", "1120", caller.name, caller.id, leg.name, leg.id):
        assert monitor.find_calls(name) == [call]
    assert monitor.find_calls("nobody") == []
    assert monitor.find_call(other.guid) is other
    assert monitor.find_call("none") is None
    assert [channel.id for channel in monitor.channels_of(call)] == [caller.id, leg.id]


def test_ended_calls_are_found_in_the_history() -> None:
    """By their guid."""
    scene = Scene()
    caller, callee, room = scene.converse()
    scene.hang_up(room, caller, callee)
    guid = scene.said[0]["guid"]
    record = scene.monitor.find_history(guid)
    assert record is not None
    assert (record.state, record.destiny, len(scene.monitor.history)) == ("closed", "1122", 1)
    assert scene.monitor.find_history("none") is None


def test_a_monitor_needs_no_policies() -> None:
    """The defaults do; the first callnumber is given."""
    monitor = Monitor(server="voip1", directory=DIRECTORY, first_callnumber=7)
    assert monitor.next_callnumber == 7
    assert monitor.book.policies.forceclose_status == "FORCECLOSE"


def test_misuse_raises() -> None:
    """Only bad data from outside is never an error."""
    with pytest.raises(KeyError):
        Monitor(server="voip1", directory=DIRECTORY).handle(Misuse())  # type: ignore[arg-type]


class Misuse:
    """No input."""

    received_at = 0.0


def test_the_channels_that_are_believed_to_live_can_be_asked_for() -> None:
    """Those that have ended are not among them."""
    scene = Scene()
    caller = scene.call("1121", "1122")
    leg = scene.rung(caller, "1122")
    assert list(scene.monitor.channel_ids()) == [caller.id, leg.id]
    scene.destroyed(leg)
    assert list(scene.monitor.channel_ids()) == [caller.id]
