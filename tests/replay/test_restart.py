"""A restart in the middle of anything: what a snapshot holds is all that matters."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core.inputs import Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.snapshot import restore_snapshot, take_snapshot
from tests.replay.captures import list_captures, load_capture, load_read, new_monitor
from tests.replay.pbx import ShadowPbx
from tests.replay.test_gaps import Gap, break_capture, gaps


def _restart(monitor: Monitor) -> Monitor:
    document = take_snapshot(monitor)
    restored = restore_snapshot(document)
    assert take_snapshot(restored) == document
    return restored


@pytest.mark.parametrize("capture", list_captures())
def test_a_restart_before_every_event_changes_nothing(capture: str) -> None:
    """Restored again and again, the monitor asks for the same and ends in the same state, byte for byte."""
    restarted, unbroken = new_monitor(), new_monitor()
    for item in load_read(capture):
        restarted = _restart(restarted)
        assert list(restarted.handle(item)) == list(unbroken.handle(item))
    assert take_snapshot(restarted) == take_snapshot(unbroken)


@given(st.sampled_from(list_captures()), st.randoms(use_true_random=False))
def test_a_restart_at_any_moment_changes_nothing(capture: str, random: Random) -> None:
    """Restored once, the monitor asks for the same in all that follows and ends in the same state."""
    _check_restart(load_read(capture), random)


@given(gaps(), st.randoms(use_true_random=False))
def test_a_restart_before_within_or_behind_a_gap_changes_nothing(gap: Gap, random: Random) -> None:
    """The loss, what became of the calls in it, and the variables that were read are remembered."""
    pbx = ShadowPbx()
    pbx.follow(load_capture(gap.capture)[: gap.end])
    _check_restart(break_capture(gap, pbx), random)


def _check_restart(inputs: Sequence[Input], random: Random) -> None:
    moment = random.randrange(len(inputs) + 1)
    unbroken = new_monitor()
    for item in inputs[:moment]:
        unbroken.handle(item)
    restarted = _restart(unbroken)
    for item in inputs[moment:]:
        assert list(restarted.handle(item)) == list(unbroken.handle(item))
    assert take_snapshot(restarted) == take_snapshot(unbroken)
