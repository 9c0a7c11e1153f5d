"""Websocket messages become typed events, unknown ones stay known by name, damaged ones by their reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core import ari_events as ari
from arimonitor_core.ari_answers import read_answers
from arimonitor_core.inputs import ConnectionRestored
from tests.core.events import Scene

CHANNEL = b'{"id":"pbx-1.1","name":"PJSIP/1121-00000001"}'
DEEP = b'{"type":"Dial","peer":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001


def test_an_event_is_read_with_only_the_fields_that_count() -> None:
    """Others, known or new, are skipped."""
    raw = (
        b'{"type":"ChannelDestroyed","timestamp":"t","cause":16,"cause_txt":"Normal","new":[{}],"channel":%b}' % CHANNEL
    )
    event = ari.decode_event(raw)
    assert isinstance(event, ari.ChannelDestroyed)
    assert (event.timestamp, event.cause, event.cause_txt) == ("t", 16, "Normal")
    assert (event.channel.id, event.channel.caller.number, event.channel.channelvars) == ("pbx-1.1", "", None)


def test_an_unknown_type_is_no_error() -> None:
    """It keeps its name, and the variable that the event filter may ask for."""
    event = ari.decode_event(b'{"type":"ChannelRocketed","variable":"X","value":1}')
    assert event == ari.UnhandledEvent("ChannelRocketed", "X")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "malformed-json"),
        (b'{"type":"Dial"', "malformed-json"),
        (b'{"type":"ChannelDestroyed","cause":NaN,"channel":%b}' % CHANNEL, "malformed-json"),
        (b'{"type":"Dial"}', "malformed-shape"),
        (b"[]", "malformed-shape"),
        (b"{}", "malformed-shape"),
        (b'{"type":7}', "malformed-shape"),
        (b'{"type":"ChannelDtmfReceived","digit":5,"channel":%b}' % CHANNEL, "malformed-shape"),
        (b'{"type":"New","variable":7}', "malformed-shape"),
        (b'{"type":"New","variable":"\xff"}', "malformed-utf8"),
        (b'{"type":"ChannelDtmfReceived","digit":"\xff","channel":%b}' % CHANNEL, "malformed-utf8"),
        (DEEP, "malformed-depth"),
        (b'{"type":"New","x":' + b"[" * 20_000, "malformed-depth"),
    ],
)
def test_damage_has_a_reason(raw: bytes, reason: str) -> None:
    """The same word each time, to be counted by."""
    event = ari.decode_event(raw)
    assert isinstance(event, ari.MalformedEvent)
    assert event.reason == reason
    assert event.detail


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise(raw: bytes) -> None:
    """Neither as an event, nor as a recording, nor as an answer."""
    ari.decode_event(raw)
    ari.decode_recording(raw)
    fields = ("channels", "bridges", "endpoints", "info", "variables")
    read_answers(ConnectionRestored(received_at=1.0, **dict.fromkeys(fields, raw)))


def test_a_recording_names_its_file_and_channel() -> None:
    """A global variable has no channel."""
    event = ari.decode_recording(b'{"variable":"MIXMONITOR_FILENAME","value":"/a.wav","channel":%b}' % CHANNEL)
    assert isinstance(event, ari.RecordingVarset)
    assert event.value == "/a.wav"
    assert event.channel is not None
    assert event.channel.name == "PJSIP/1121-00000001"
    without = ari.decode_recording(b'{"variable":"MIXMONITOR_FILENAME"}')
    assert isinstance(without, ari.RecordingVarset)
    assert without.channel is None
    assert isinstance(ari.decode_recording(b'{"value":[]}'), ari.MalformedEvent)


def test_a_snapshot_shows_the_recording_where_channelvars_are_set() -> None:
    """The variable's own name is the key."""
    raw = b'{"type":"ChannelHold","channel":{"id":"a","name":"b","channelvars":{"MIXMONITOR_FILENAME":"/a.wav"}}}'
    event = ari.decode_event(raw)
    assert isinstance(event, ari.ChannelHold)
    assert event.channel.channelvars is not None
    assert event.channel.channelvars.recording == "/a.wav"


@pytest.mark.parametrize("name", ari.SKIPPED_TYPES)
def test_an_ignored_event_is_counted_by_its_type_however_it_is_written(name: str) -> None:
    """Known by its first bytes, or decoded where Asterisk's order of keys is another."""
    scene = Scene()
    scene.raw(b'{"type":"%b","timestamp":"t"}' % name.encode())
    scene.raw(b'{"timestamp":"t","type":"%b"}' % name.encode())
    scene.raw(b'{ "type": "%b" }' % name.encode())
    assert scene.monitor.statistics.as_dict()["events"] == {name: 3}
    assert scene.effects == []


def test_heads_tell_the_ignored_types_from_all_others() -> None:
    """A type that only begins like an ignored one is not ignored."""
    scene = Scene()
    scene.raw(b'{"type":"ChannelDialplanX"}')
    assert scene.monitor.statistics.as_dict()["events"] == {"UnhandledEvent": 1}
