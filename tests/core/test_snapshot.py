"""The whole state as a document, and back; a damaged one says what is wrong with it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core.directory import Directory
from arimonitor_core.errors import SnapshotError
from arimonitor_core.inputs import FilterChanged
from arimonitor_core.monitor import Monitor
from arimonitor_core.policies import Policies
from arimonitor_core.snapshot import restore_snapshot, take_snapshot
from tests.core.events import DIRECTORY, Scene


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
    scene.give(FilterChanged(received_at=scene.now, types={"DeviceStateChanged": "N"}, variables={"X": "P"}))
    scene.lost()
    return scene


def restored(document: bytes) -> Monitor:
    return restore_snapshot(document, directory=DIRECTORY)


def changed(document: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(document), **changes}).encode()


def test_a_document_read_back_gives_the_same_document() -> None:
    """And the same answers to every question."""
    scene = eventful()
    document = take_snapshot(scene.monitor)
    monitor = restored(document)
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
    assert json.loads(document)["version"] == 1
    assert take_snapshot(restored(document)) == document


def test_a_call_that_is_over_while_its_channel_lives_is_still_over() -> None:
    """The channel must not begin it again."""
    scene = Scene()
    caller, callee, _ = scene.converse("1121", "1122")
    second, target, _ = scene.converse("1122", "1123")
    scene.event(
        "BridgeAttendedTransfer", transferer_first_leg=callee, transferer_second_leg=second, transferee=caller,
        transfer_target=target, result="Success",
    )  # fmt: skip
    monitor = restored(take_snapshot(scene.monitor))
    channel = monitor.book.table.channels[second.id]
    assert channel.call is not None
    assert channel.call.is_over
    assert len(monitor.active_calls()) == 1


def test_directory_and_policies_are_not_part_of_it() -> None:
    """They are configuration, given anew."""
    document = take_snapshot(eventful().monitor)
    monitor = restore_snapshot(document, directory=Directory.of(), policies=Policies(forceclose_status="closed"))
    assert monitor.book.directory == Directory.of()
    assert monitor.book.policies.forceclose_status == "closed"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "not a snapshot"),
        (b"[]", "not a snapshot"),
        (b"{}", "not a snapshot"),
        (b"\xff", "not a snapshot"),
        (b'{"version":"\xff"}', "not a snapshot"),
        (b"[" * 1_000_000, "not a snapshot"),
        (b'{"version":2}', "snapshot of version 2, this program reads version 1"),
        (b'{"version":1}', "required field missing"),
    ],
)
def test_what_is_no_document_of_this_version_is_refused(document: bytes, says: str) -> None:
    """It says why."""
    with pytest.raises(SnapshotError, match=says):
        restored(document)


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
        ({"history": ["AAAA"]}, "contradicts itself"),
    ],
)
def test_a_damaged_document_says_what_is_wrong(changes: dict[str, Any], says: str) -> None:
    """Nothing of it is used."""
    document = take_snapshot(eventful().monitor)
    with pytest.raises(SnapshotError, match=says):
        restored(changed(document, **changes))


@given(st.data())
def test_a_flipped_byte_is_refused_or_read_but_never_raises_anything_else(data: st.DataObject) -> None:
    """A reader sets the document aside at a SnapshotError, and only then."""
    document = bytearray(take_snapshot(EVENTFUL.monitor))
    position = data.draw(st.integers(0, len(document) - 1))
    document[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SnapshotError):
        restored(bytes(document))


EVENTFUL = eventful()
