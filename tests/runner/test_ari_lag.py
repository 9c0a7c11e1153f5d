"""Late events are told once, and once when they are in time again."""

import json

import structlog

from arimonitor_runner.ari.lag import LagWatch
from arimonitor_runner.input_queue import now
from tests.runner.fake_ari import FakeAri
from tests.runner.test_ari import listening, to

HAPPENED_AT = 1795341561.0


def event(timestamp="2026-11-22T09:59:21.000+0000"):
    return json.dumps({"type": "ChannelVarset", "timestamp": timestamp}).encode()


def test_late_events_are_told_once_and_their_end_too():
    """Above five seconds, by Asterisk's own times."""
    watch = LagWatch()
    with structlog.testing.capture_logs() as logs:
        for lag_s in (0.1, 5.0, 5.5, 9.0, 4.0, -3.0):
            watch.look(event(), HAPPENED_AT + lag_s)
    assert [(log["log_level"], log["lag_s"]) for log in logs] == [("warning", 5.5), ("info", 4.0)]
    assert watch.due_at == HAPPENED_AT - 3.0 + 1.0


def test_an_event_without_a_time_says_nothing():
    """The next one is looked at instead."""
    watch = LagWatch()
    with structlog.testing.capture_logs() as logs:
        for raw in (b"{}", b"no json", b"[]", event("yesterday")):
            watch.look(raw, HAPPENED_AT)
    assert logs == []
    assert watch.due_at == 0.0


def test_a_connection_looks_at_its_events(run):
    """One in a second: of two that come together, the second is not looked at."""

    async def scenario():
        async with FakeAri() as server, listening(to(server)) as listener:
            await listener.take(1)
            began_at = now()
            late = {"type": "Dial", "timestamp": "2026-11-22T09:59:21.000+0000"}
            await server.send(late, late)
            await listener.take(2)
            return listener.feed._connection._lag, began_at

    with structlog.testing.capture_logs() as logs:
        lag, began_at = run(scenario())
    assert lag.is_late
    assert lag.due_at >= began_at + 1.0
    assert len([log for log in logs if "come late" in log["event"]]) == 1
