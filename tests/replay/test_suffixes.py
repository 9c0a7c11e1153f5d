"""A monitor may start at any moment: every suffix of every capture is replayed, from every event that it reads."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from arimonitor_core.ari_events import ChannelSnapshot
from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.snapshot import take_snapshot
from tests.replay.captures import feed, list_captures, load_capture, load_read, new_monitor, replay_capture


class _Destroyed(msgspec.Struct, tag_field="type", tag="ChannelDestroyed"):
    channel: ChannelSnapshot


def _destroyed_channels(inputs: Sequence[Input]) -> set[str]:
    """Ids of the channels whose end the inputs show."""
    decode = msgspec.json.Decoder(_Destroyed).decode
    events = (item.raw for item in inputs if isinstance(item, AriEventReceived))
    return {decode(raw).channel.id for raw in events if b'"type":"ChannelDestroyed"' in raw}


def _check_end(monitor: Monitor, gone: set[str]) -> None:
    """Nothing that ended is still followed, and no call goes on without a channel."""
    living = monitor.book.table.channels
    assert not gone & living.keys()
    for call in monitor.active_calls():
        assert set(call.members) & living.keys(), call


@pytest.mark.parametrize("capture", list_captures())
def test_events_that_are_not_read_change_nothing(capture: str) -> None:
    """Without them the messages and the state at the end are the same bytes."""
    whole, read = new_monitor(), new_monitor()
    feed(whole, load_capture(capture))
    assert feed(read, load_read(capture)) == list(replay_capture(capture))
    assert take_snapshot(read) == take_snapshot(whole)


@pytest.mark.parametrize("capture", list_captures())
def test_every_suffix_ends_with_no_call_left_open(capture: str) -> None:
    """Starting at any event neither raises nor leaves a call whose channels are all gone.

    Only events that are read count as starts: the others change nothing, as another test shows.
    """
    inputs = load_read(capture)
    gone = _destroyed_channels(inputs)
    for start in range(len(inputs)):
        monitor = new_monitor()
        feed(monitor, inputs[start:])
        _check_end(monitor, gone)
