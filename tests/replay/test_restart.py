"""A restart in the middle of anything: what a snapshot holds is all that matters."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core.inputs import Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.snapshot import restore_snapshot, take_snapshot
from tests.replay.captures import directory, feed, list_captures, load_read, new_monitor, replay_capture


def _restart(monitor: Monitor) -> Monitor:
    document = take_snapshot(monitor)
    restored = restore_snapshot(document, directory=directory())
    assert take_snapshot(restored) == document
    return restored


@pytest.mark.parametrize("capture", list_captures("asterisk-22-lean", "asterisk-16-lean"))
def test_a_restart_before_every_event_changes_nothing(capture: str) -> None:
    """Restored again and again, the monitor says the same bytes and ends in the same state."""
    restarted, unbroken = new_monitor(), new_monitor()
    told = []
    for item in load_read(capture):
        restarted = _restart(restarted)
        told += feed(restarted, [item])
    feed(unbroken, load_read(capture))
    assert told == list(replay_capture(capture))
    assert take_snapshot(restarted) == take_snapshot(unbroken)


@given(st.sampled_from(list_captures()), st.randoms(use_true_random=False))
def test_restarts_at_any_moments_change_nothing(capture: str, random: Random) -> None:
    """The messages are those of the unbroken run, byte for byte."""
    inputs: tuple[Input, ...] = load_read(capture)
    moments = set(random.sample(range(len(inputs) + 1), k=min(3, len(inputs))))
    monitor, told = new_monitor(), []
    for position, item in enumerate(inputs):
        if position in moments:
            monitor = _restart(monitor)
        told += feed(monitor, [item])
    assert told == list(replay_capture(capture))
