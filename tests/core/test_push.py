"""A sleeping app is woken by a push message, once and as soon as it is known to sleep."""

from __future__ import annotations

import pytest

from arimonitor_core.inputs import DeadlineReached
from arimonitor_core.policies import Policies
from tests.core.events import NOON_MS, Scene


def test_a_call_to_an_offline_app_is_pushed_at_once() -> None:
    """The push carries the numbers that the call's messages will have."""
    scene = Scene()
    scene.restored(endpoints={"1129": "offline"})
    caller = scene.call("1122", "1129")
    assert scene.statuses == ["endpoint-status", "push"]
    push = scene.said[-1]
    assert (push["endpoint"], push["origin"]) == ("1129", "1122")
    scene.wait(6)
    scene.rung(caller, "1129")
    opened = scene.said[-1]
    assert (push["guid"], push["callnumber"]) == (opened["guid"], opened["callnumber"])
    assert scene.statuses[-1] == "open"


def test_a_call_to_an_online_app_needs_no_push() -> None:
    """Nor does one to an endpoint that is no app."""
    scene = Scene()
    scene.restored(endpoints={"1129": "online", "1124": "offline"})
    scene.call("1122", "1129")
    scene.call("1122", "1124")
    assert "push" not in scene.statuses
    assert scene.monitor.next_deadline() is None


def test_an_app_of_unknown_state_that_nothing_rings_is_offline() -> None:
    """After half a second, as the deadline says, and at that time, whenever the timer woke."""
    scene = Scene()
    scene.call("1122", "1129")
    due = scene.monitor.next_deadline()
    assert due == scene.now + 0.5
    assert scene.give(DeadlineReached(received_at=due - 0.001)) == []
    scene.give(DeadlineReached(received_at=due + 7))
    assert scene.statuses == ["push"]
    assert scene.bodies[0]["operation"]["timestamp"] == (NOON_MS + 500) // 1000
    assert scene.monitor.next_deadline() is None


def test_an_event_after_the_deadline_serves_as_well() -> None:
    """What is due is done before the event is looked at."""
    scene = Scene()
    caller = scene.call("1122", "1129")
    scene.wait(0.6)
    scene.rung(caller, "1129")
    assert scene.statuses == ["push", "open"]


def test_an_app_that_is_rung_in_time_needs_no_push() -> None:
    """Its deadline passes without a word, and so does that of a call that is over."""
    scene = Scene()
    caller = scene.call("1122", "1129")
    scene.rung(caller, "1129")
    given_up = scene.call("1123", "1129")
    scene.destroyed(given_up)
    scene.give(DeadlineReached(received_at=scene.now + 1))
    assert scene.statuses == ["open"]


def test_one_call_pushes_an_endpoint_once() -> None:
    """However often it is transferred to it."""
    scene = Scene()
    scene.restored(endpoints={"1129": "offline"})
    caller, callee, room = scene.converse("1124", "1122")
    for _ in range(2):
        scene.event("BridgeBlindTransfer", channel=callee, transferee=caller, exten="1129", result="Success")
        scene.wait(1)
    assert scene.statuses.count("push") == 1
    assert room.phones


def test_a_transfer_to_an_app_of_unknown_state_waits_for_nothing() -> None:
    """Only a call that is not told of yet can be told by silence that nothing rings."""
    scene = Scene()
    caller, callee, _ = scene.converse("1124", "1122")
    scene.event("BridgeBlindTransfer", channel=callee, transferee=caller, exten="1129", result="Success")
    assert scene.monitor.next_deadline() is None


def test_who_is_woken_is_the_operators_choice() -> None:
    """The types, and how long silence must last."""
    scene = Scene(policies=Policies(push_types=frozenset({"apto"}), push_wait_s=2))
    scene.call("1121", "1129")
    scene.call("1121", "1122")
    assert scene.monitor.next_deadline() == scene.now + 2
    with pytest.raises(ValueError, match="push_wait_s"):
        Policies(push_wait_s=-1)
    with pytest.raises(ValueError, match="history_limit"):
        Policies(history_limit=-1)


def test_a_call_adopted_at_a_reconnect_is_pushed_too() -> None:
    """It waits for its app, and nothing rings."""
    scene = Scene()
    caller = scene.phone("1122", "1129")
    caller.app = "Wait"
    scene.restored([caller], endpoints={"1129": "offline"})
    assert scene.statuses == ["endpoint-status", "push"]
