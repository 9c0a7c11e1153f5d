"""Events that come twice."""

from __future__ import annotations

import pytest

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.snapshot import take_snapshot
from tests.replay.captures import feed, list_captures, load_read, new_monitor, replay_capture

DTMF = b'"type":"ChannelDtmfReceived"'


def _is_dtmf(item: Input) -> bool:
    return isinstance(item, AriEventReceived) and DTMF in item.raw


@pytest.mark.parametrize("capture", list_captures())
def test_every_event_twice_in_a_row_changes_nothing(capture: str) -> None:
    """Messages and state are the same bytes, but for digits: nothing tells a copy from a key pressed twice."""
    once, twice = new_monitor(), new_monitor()
    feed(once, load_read(capture))
    doubled = [copy for item in load_read(capture) for copy in ([item] if _is_dtmf(item) else [item, item])]
    assert feed(twice, doubled) == list(replay_capture(capture))
    assert take_snapshot(twice) == take_snapshot(once)
