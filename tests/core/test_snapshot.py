"""The whole state as a document, and back; a damaged one says what is wrong with it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core.directory import Directory, MqServer
from arimonitor_core.errors import SnapshotError
from arimonitor_core.inputs import CallsNumbered, DirectoryChanged, FilterChanged
from arimonitor_core.policies import Policies
from arimonitor_core.snapshot import VERSION, restore_snapshot, take_snapshot
from tests.core.events import DIRECTORY, NOON_MS, Scene

VERSION_1 = Path(__file__).parents[2] / "fixtures" / "snapshots" / "version-1.json"
"""What a daemon of the first format left behind: two calls going on, one waiting, two ended, a gap begun."""


def eventful() -> Scene:
    """A scene in which everything that a document holds is there."""
    scene = Scene()
    scene.restored(endpoints={"1122": "online", "1124": "offline"})
    info = {"uri": "sip:1122@10.0.0.7:5060", "contact_status": "Reachable", "aor": "1122"}
    scene.event(
        "ContactStatusChange",
        endpoint={"technology": "PJSIP", "resource": "1122", "state": "online"},
        contact_info=info,
    )
    caller, callee, room = scene.converse()
    scene.hang_up(room, callee, caller)
    caller, callee, _ = scene.converse("1123", "1124")
    scene.varset(callee, "MIXMONITOR_FILENAME", "/spool/a.wav")
    scene.pressed(caller, "7")
    scene.event("BridgeBlindTransfer", channel=callee, transferee=caller, exten="1121", result="Success")
    early = scene.phone("1122")
    scene.pressed(early, "9")
    scene.call("1122", "1129")
    scene.give(CallsNumbered(received_at=scene.now, numbers={"01a20000-0000-7000-8000-000000000001": 70}))
    scene.give(FilterChanged(received_at=scene.now, types={"DeviceStateChanged": "N"}, variables={"X": "P"}))
    scene.lost()
    return scene


def changed(document: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(document), **changes}).encode()


def test_a_document_read_back_gives_the_same_document() -> None:
    """And the same answers to every question."""
    scene = eventful()
    document = take_snapshot(scene.monitor)
    monitor = restore_snapshot(document)
    assert take_snapshot(monitor) == document
    assert [call.guid for call in monitor.active_calls()] == [call.guid for call in scene.monitor.active_calls()]
    assert list(monitor.history) == list(scene.monitor.history)
    assert monitor.next_callnumber == scene.monitor.next_callnumber
    assert monitor.next_deadline() == scene.monitor.next_deadline()
    assert monitor.lost_at == scene.monitor.lost_at
    assert monitor.endpoint_book.is_online("1124") is False
    assert list(monitor.endpoint_book.addresses) == ["10.0.0.7"]
    assert monitor.filter.mode("DeviceStateChanged", "") == "N"


def test_a_new_monitor_has_a_document_too() -> None:
    """An empty one."""
    document = take_snapshot(Scene().monitor)
    assert json.loads(document)["version"] == VERSION
    assert take_snapshot(restore_snapshot(document)) == document


def test_a_call_that_is_over_while_its_channel_lives_is_still_over() -> None:
    """The channel must not begin it again."""
    scene = Scene()
    caller, callee, _ = scene.converse("1121", "1122")
    second, target, _ = scene.converse("1122", "1123")
    scene.event(
        "BridgeAttendedTransfer", transferer_first_leg=callee, transferer_second_leg=second, transferee=caller,
        transfer_target=target, result="Success",
    )  # fmt: skip
    monitor = restore_snapshot(take_snapshot(scene.monitor))
    channel = monitor.book.table.channels[second.id]
    assert channel.call is not None
    assert channel.call.is_over
    assert len(monitor.active_calls()) == 1


def test_an_ended_and_a_living_call_of_one_channel_are_told_apart() -> None:
    """A channel that was absorbed into a call and then dials somebody is a caller again, under the same guid."""
    scene = Scene()
    picker = scene.call("1123", "*8")
    caller = scene.call("1121", "1122")
    callee = scene.rung(caller, "1122")
    scene.dial(caller, picker, "")
    other = scene.phone("1124")
    scene.dial(picker, other, "")
    calls = {
        channel.id: channel.call
        for channel in restore_snapshot(take_snapshot(scene.monitor)).book.table.channels.values()
    }
    live = {channel.id: channel.call for channel in scene.monitor.book.table.channels.values()}
    assert {one: call and (call.guid, call.state) for one, call in calls.items()} == {
        one: call and (call.guid, call.state) for one, call in live.items()
    }
    assert callee.id in calls


def test_of_two_local_halves_with_one_name_the_same_is_found() -> None:
    """A masquerade gives an older channel the name of a younger one."""
    scene = Scene()
    older, younger = scene.phone("1121"), scene.phone("Local/1122@m-00000001;1")
    half = scene.phone("Local/1122@m-00000001;2")
    for channel in (older, younger, half):
        scene.created(channel)
    older.name = younger.name
    scene.up(older)
    monitor = restore_snapshot(take_snapshot(scene.monitor))
    found = monitor.book.table.find_other_half(monitor.book.table.channels[half.id])
    assert found is not None
    assert found.id == older.id


def test_the_directory_is_part_of_it_without_passwords_and_the_policies_are_not() -> None:
    """The directory is an input, what operators decided is given anew."""
    servers = [MqServer(name="mq1", url="amqp://arimonitor:secret@mq1")]
    scene = Scene(directory=evolve(DIRECTORY, mq_servers={server.name: server for server in servers}))
    document = take_snapshot(scene.monitor)
    monitor = restore_snapshot(document, policies=Policies(forceclose_status="closed"))
    assert monitor.book.directory == DIRECTORY
    assert b"secret" not in document
    assert monitor.book.policies.forceclose_status == "closed"


def test_a_document_of_version_1_is_still_read() -> None:
    """It holds no directory: the input that follows every start brings one. All else is there."""
    monitor = restore_snapshot(VERSION_1.read_bytes())
    assert monitor.book.directory == Directory.of(ai_entries=())
    monitor.handle(DirectoryChanged(received_at=NOON_MS / 1000, directory=DIRECTORY))
    assert [(call.origin, call.destiny, call.state) for call in monitor.active_calls()] == [
        ("1123", "1124", "answered"), ("1122", "1129", "announced"), ("1121", "1122", "answered"),
    ]  # fmt: skip
    states = {channel.call.state for channel in monitor.book.table.channels.values() if channel.call is not None}
    assert states == {"answered", "announced", "closed"}
    assert [record.destiny for record in monitor.history] == ["1122", "1123"]
    assert list(monitor.book.table.halves) == ["Local/1122@membro-00000001;1"]
    assert (monitor.next_callnumber, monitor.startup_time, monitor.lost_at) == (6, "", NOON_MS / 1000 + 4)
    document = take_snapshot(monitor)
    assert take_snapshot(restore_snapshot(document)) == document


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "not a snapshot"),
        (b"[]", "not a snapshot"),
        (b"{}", "not a snapshot"),
        (b"\xff", "not a snapshot"),
        (b'{"version":"\xff"}', "not a snapshot"),
        (b"[" * 1_000_000, "not a snapshot"),
        (b'{"version":3}', "snapshot of version 3, this program reads versions 1 to 2"),
        (b'{"version":2}', "missing required field `server`"),
        (b'{"version":1}', "KeyError"),
        (VERSION_1.read_bytes().replace(b'"history": ["', b'"history": [" '), "base85"),
    ],
)
def test_what_is_no_document_of_this_version_is_refused(document: bytes, says: str) -> None:
    """It says why."""
    with pytest.raises(SnapshotError, match=says):
        restore_snapshot(document)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"surprise": 1}, "surprise"),
        ({"calls": 7}, "calls"),
        ({"calls": [{"guid": 7}]}, "calls"),
        ({"channels": [{"id": "a"}]}, "channels"),
        ({"waiting": [["soon", 1, ["a", "b"]]]}, "waiting"),
        ({"filter_types": {"Dial": "maybe"}}, "filter_types"),
        ({"next_callnumber": "many"}, "next_callnumber"),
        ({"calls": []}, "contradicts itself"),
        ({"calls_of_channels": []}, "contradicts itself"),
        ({"calls_of_channels": [-1]}, "calls_of_channels"),
        ({"directory": {"clients": [{"code": 7}]}}, "directory.clients"),
        ({"history": ["AAAA"]}, "contradicts itself"),
    ],
)
def test_a_damaged_document_says_what_is_wrong(changes: dict[str, Any], says: str) -> None:
    """Nothing of it is used."""
    document = take_snapshot(eventful().monitor)
    with pytest.raises(SnapshotError, match=says):
        restore_snapshot(changed(document, **changes))


@given(st.sampled_from([take_snapshot(eventful().monitor), VERSION_1.read_bytes()]), st.data())
def test_a_flipped_byte_is_refused_or_read_but_never_raises_anything_else(whole: bytes, data: st.DataObject) -> None:
    """A reader sets the document aside at a SnapshotError, and only then."""
    document = bytearray(whole)
    position = data.draw(st.integers(0, len(document) - 1))
    document[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SnapshotError):
        restore_snapshot(bytes(document))
