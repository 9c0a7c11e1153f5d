"""The ARI feed: what it asks of Asterisk, in which order, and what it tells the core when things break."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import structlog
import typed_settings as ts
from attrs import evolve

from arimonitor_core.inputs import AriEventReceived
from arimonitor_runner.ari import AriError, AriFeed
from arimonitor_runner.ari.channelvars import look_at_channels, look_at_event
from arimonitor_runner.input_queue import InputQueue
from arimonitor_runner.settings import LEAN_EVENTS, AriSettings
from tests.runner.fake_ari import PASSWORD, USER, FakeAri
from tests.runner.proxy import Proxy
from tests.runner.waiting import until

SETTINGS = AriSettings(
    user=USER,
    password=ts.SecretStr(PASSWORD),
    backoff_first_s=0.01,
    backoff_max_s=0.05,
    # Generous: a busy machine is no fault. The tests of what hangs shorten what hangs there.
    handshake_timeout_s=30.0,
    request_timeout_s=30.0,
)
WITH_VARIABLES = {"id": "1", "channelvars": {"MIXMONITOR_FILENAME": "", "CHANNEL(linkedid)": "1"}}
WITHOUT_VARIABLES = {"id": "1"}


def created(number, channel=WITHOUT_VARIABLES):
    return {"type": "ChannelCreated", "number": number, "channel": channel}


def numbers(inputs):
    """The events' numbers, and for the other inputs the names of their classes."""
    return [
        json.loads(item.raw).get("number") if isinstance(item, AriEventReceived) else type(item).__name__
        for item in inputs
    ]


class Listening:
    """A feed that runs, and what came out of it."""

    def __init__(self, feed, queue, task):
        self.feed, self.queue, self.task = feed, queue, task
        self.inputs = []

    async def take(self, count):
        """Wait for so many inputs more."""
        wanted = len(self.inputs) + count
        while len(self.inputs) < wanted:
            filled = asyncio.create_task(self.queue.wait())
            await asyncio.wait({filled, self.task}, return_when=asyncio.FIRST_COMPLETED)
            if not filled.done():
                filled.cancel()
                self.task.result()
            self.inputs += self.queue.take(wanted - len(self.inputs))
        return self.inputs[-count:]


@asynccontextmanager
async def listening(settings, **parts):
    queue = InputQueue(settings.queue_max)
    feed = AriFeed(settings, queue, **parts)
    task = asyncio.create_task(feed.run())
    try:
        yield Listening(feed, queue, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def to(server, **changes):
    return evolve(SETTINGS, url=server.url, **changes)


def test_the_start_is_in_the_order_that_keeps_the_pbx_safe(run):
    """Connect without subscribeAll, filter, subscribe, verify, and only then read; no secret in any address."""

    async def scenario():
        async with FakeAri() as server, listening(to(server)) as listener:
            (restored,) = await listener.take(1)
            assert listener.feed.is_up
            return server.requests, server.handshakes, server.filters, restored

    requests, (handshake,), filters, restored = run(scenario())
    assert requests == [
        "PUT applications/arimonitor/eventFilter",
        "POST applications/arimonitor/subscription",
        "GET applications/arimonitor",
        "GET asterisk/info",
        "GET channels",
        "GET bridges",
        "GET endpoints",
    ]
    assert handshake.query_string == "app=arimonitor"
    assert "Sec-WebSocket-Extensions" not in handshake.headers
    assert set(filters[0]) == {*LEAN_EVENTS, "ChannelVarset"}
    assert (restored.channels, restored.bridges, restored.endpoints) == (b"[]", b"[]", b"[]")
    assert json.loads(restored.info) == {"status": {"startup_time": "2026-11-22T09:59:21.339+0000"}}


def test_events_that_come_before_the_answers_follow_them_in_order(run):
    """What happens while Asterisk is being read waits, and is fed after the picture it belongs to."""

    async def scenario():
        async with FakeAri() as server:
            server.before_answer = {"channels": [created(1)], "bridges": [created(2)], "endpoints": [created(3)]}
            async with listening(to(server)) as listener:
                await server.when_subscribed()
                await server.send(created(4), created(5))
                return await listener.take(6)

    inputs = run(scenario())
    assert numbers(inputs) == ["ConnectionRestored", 1, 2, 3, 4, 5]
    times = [item.received_at for item in inputs]
    assert times == sorted(times)
    assert inputs[1].raw == json.dumps(created(1)).encode()


def test_each_loss_is_told_once_and_everything_is_asked_anew(run):
    """A closed websocket: the events before it, one ConnectionLost, then a whole new start."""

    async def scenario():
        async with FakeAri() as server, listening(to(server)) as listener:
            await server.when_subscribed()
            await listener.take(1)
            await server.send(created(1))
            await server.drop()
            await server.when_subscribed()
            await listener.take(3)
            await server.send(created(2))
            await listener.take(1)
            return numbers(listener.inputs), len(server.filters), listener.feed.statistics()

    inputs, filters, counts = run(scenario())
    assert inputs == ["ConnectionRestored", 1, "ConnectionLost", "ConnectionRestored", 2]
    assert filters == 2
    assert counts == {
        "connections": 2, "losses": 1, "failures": 0, "overruns": 0, "refreshes": 0,
        "orphans": 0, "unlisted": 0, "requests": 14,
    }  # fmt: skip


def test_a_connection_lost_while_it_starts_is_no_loss(run):
    """The core hears of a loss only where it had heard of a connection."""

    async def scenario():
        async with FakeAri() as server:
            server.hang_rest = {"bridges"}
            async with listening(to(server, request_timeout_s=30.0)) as listener:
                await server.when(lambda: "GET bridges" in server.requests)
                server.hang_rest = set()
                await server.drop()
                await server.when_subscribed()
                await listener.take(1)
                return numbers(listener.inputs), listener.feed.counts.failures

    assert run(scenario()) == (["ConnectionRestored"], 1)


def test_a_silent_network_is_noticed_by_ping(run):
    """No close frame, no reset, no event: the unanswered ping ends the connection."""

    async def scenario():
        async with FakeAri() as server, Proxy(int(server.url.rpartition(":")[2])) as proxy:
            settings = evolve(SETTINGS, url=f"http://127.0.0.1:{proxy.port}", ping_interval_s=0.05, ping_timeout_s=0.1)
            async with listening(settings) as listener:
                await listener.take(1)
                proxy.stall()
                await listener.take(1)
                proxy.resume()
                await listener.take(1)
                return numbers(listener.inputs)

    assert run(scenario()) == ["ConnectionRestored", "ConnectionLost", "ConnectionRestored"]


def test_a_successor_ends_the_feed_for_good(run):
    """ApplicationReplaced is passed on, told as no loss, and answered by leaving."""

    async def scenario():
        async with FakeAri() as server, listening(to(server)) as listener:
            await listener.take(1)
            await server.send({"type": "ApplicationReplaced", "application": "another"}, created(1))
            await server.send({"type": "ApplicationReplaced", "application": "arimonitor"})
            await listener.task
            return numbers(listener.inputs + listener.queue.take(100)), len(server.handshakes)

    assert run(scenario()) == (["ConnectionRestored", None, 1, None], 1)


@pytest.mark.parametrize(
    ("channelvars", "channels", "filters"),
    [
        ("auto", [WITH_VARIABLES], [True, False]),
        ("auto", [WITHOUT_VARIABLES], [True]),
        ("auto", [{"id": "1", "channelvars": {"OTHER": ""}}], [True]),
        ("yes", [], [False]),
        ("no", [WITH_VARIABLES], [True]),
    ],
)
def test_channelvarset_is_let_through_where_it_is_needed(run, channelvars, channels, filters):
    """By what GET /channels shows, unless the operator decided it."""

    async def scenario():
        async with FakeAri() as server:
            server.answers["channels"] = channels
            async with listening(to(server, channelvars=channelvars)) as listener:
                await listener.take(1)
                await server.when(lambda: len(server.filters) == len(filters))
                await server.send(created(1))
                await listener.take(1)
            return ["ChannelVarset" in allowed for allowed in server.filters]

    assert run(scenario()) == filters


@pytest.mark.parametrize(("channel", "filters"), [(WITH_VARIABLES, [True, False]), (WITHOUT_VARIABLES, [True])])
def test_without_any_channel_the_first_one_seen_decides(run, channel, filters):
    """At a quiet start one cannot know: the first snapshot with a channel tells, also one that came early."""

    async def quiet(early):
        async with FakeAri() as server:
            first = created(1, channel)
            other = {"type": "PeerStatusChange", "peer": {"peer_status": "Reachable"}}
            server.before_answer = {"endpoints": [other, first] if early else [other]}
            async with listening(to(server)) as listener:
                await listener.take(2)
                if not early:
                    assert len(server.filters) == 1
                    await server.send(first)
                await listener.take(1)
                await server.when(lambda: len(server.filters) == len(filters))
            return ["ChannelVarset" in allowed for allowed in server.filters]

    assert run(quiet(early=True)) == filters
    assert run(quiet(early=False)) == filters


def test_a_filter_that_cannot_be_narrowed_is_no_loss(run):
    """The second filter fails: said, and the connection goes on with more events than it needs."""

    async def scenario():
        async with FakeAri() as server, listening(to(server)) as listener:
            await listener.take(1)
            server.read_only = True
            await server.send(created(1, WITH_VARIABLES))
            await server.when(lambda: len([r for r in server.requests if r.startswith("PUT")]) == 2)
            await server.send(created(2))
            await listener.take(2)
            return numbers(listener.inputs)

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == ["ConnectionRestored", 1, 2]
    assert any("could not be filtered" in log["event"] for log in logs)


def reasons(logs):
    return [log["reason"] for log in logs if log["log_level"] == "error"]


def test_a_read_only_user_is_told_what_to_change(run):
    """403 names the user and the line in ari.conf."""

    async def scenario():
        async with FakeAri() as server:
            server.read_only = True
            async with listening(to(server)) as listener:
                await until(lambda: listener.feed.counts.failures)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert "user arimonitor may not write; set read_only = no" in reasons(logs)[0]
    assert PASSWORD not in str(logs)


def test_a_wrong_password_is_told_without_it(run):
    """401 names the user, not the password."""

    async def scenario():
        async with FakeAri() as server, listening(to(server, password=ts.SecretStr("guessed"))) as listener:
            await until(lambda: listener.feed.counts.failures)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert "does not accept user arimonitor" in reasons(logs)[0]
    assert "guessed" not in str(logs)


def test_a_handshake_that_hangs_while_rest_answers_is_an_alarm_of_its_own(run):
    """The sign of ARI's deadlock: said as such, and not hammered at."""

    async def scenario():
        async with FakeAri() as server:
            server.hang_handshake = True
            async with listening(to(server, handshake_timeout_s=0.3, backoff_deadlock_s=1000.0)) as listener:
                await until(lambda: listener.feed.counts.failures)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    (alarm,) = [log for log in logs if log["log_level"] == "error"]
    assert "deadlocked" in alarm["event"]
    assert 1000 <= alarm["retry_in_s"] <= 1250


def test_a_handshake_that_a_restart_interrupted_is_no_sign_of_a_deadlock(run):
    """Asterisk has just started: the next attempt is as soon as after any loss."""

    async def scenario():
        async with FakeAri() as server:
            server.hang_handshake = True
            started_at = datetime.now(UTC) + timedelta(seconds=10)  # after the handshake began, however long that takes
            server.startup_time = started_at.isoformat(timespec="milliseconds").replace("+00:00", "+0000")
            async with listening(to(server, handshake_timeout_s=0.3, backoff_deadlock_s=1000.0)) as listener:
                await until(lambda: listener.feed.counts.failures)
                server.hang_handshake = False
                await listener.take(1)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert reasons(logs)[0].endswith("Asterisk has just started")
    assert "deadlocked" not in str(logs)


def test_an_answer_without_a_startup_time_says_nothing_of_a_restart(run):
    """Then a handshake that hangs is the alarm that it was."""

    async def scenario():
        async with FakeAri() as server:
            server.hang_handshake, server.raw = True, {"asterisk/info": b"{}"}
            async with listening(to(server, handshake_timeout_s=0.3, backoff_deadlock_s=1000.0)) as listener:
                await until(lambda: listener.feed.counts.failures)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert "deadlocked" in str(logs)


def test_a_pbx_that_answers_nothing_is_not_taken_for_a_deadlock(run):
    """Handshake and REST both hang: the ordinary back-off."""

    async def scenario():
        async with FakeAri() as server:
            server.hang_handshake = True
            server.hang_rest = {"asterisk/info"}
            async with listening(to(server, handshake_timeout_s=0.3, request_timeout_s=0.3)) as listener:
                await until(lambda: listener.feed.counts.failures)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert reasons(logs)[0].endswith("GET asterisk/info?only=status: no answer in time")
    assert "deadlocked" not in str(logs)


def test_a_subscription_that_is_not_whole_is_not_trusted(run):
    """Asterisk says 200 but has us not subscribed to all: that is an error, not silence."""

    async def scenario():
        async with FakeAri() as server:
            server.lacking = {"endpoint"}
            async with listening(to(server)) as listener:
                await until(lambda: listener.feed.counts.failures)
                server.lacking = set()
                await listener.take(1)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert "lacks __AST_ENDPOINT_ALL_TOPIC" in reasons(logs)[0]


@pytest.mark.parametrize("answer", [b"[" * 100_000, b"\xff", b"[]", b'{"channel_ids":7}'])
def test_an_odd_answer_about_our_application_ends_the_attempt(run, answer):
    """Whatever it is: the next attempt follows."""

    async def scenario():
        async with FakeAri() as server:
            server.raw = {"applications/arimonitor": answer}
            async with listening(to(server)) as listener:
                await until(lambda: listener.feed.counts.failures)
                server.raw = {}
                await listener.take(1)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert "lacks __AST_CHANNEL_ALL_TOPIC" in reasons(logs)[0]


def test_an_application_registered_a_moment_late_is_waited_for(run):
    """404 right after the handshake is no failure yet."""

    async def scenario():
        async with FakeAri() as server:
            server.late_registrations = 2
            async with listening(to(server)) as listener:
                await listener.take(1)
                return listener.feed.counts.failures

    assert run(scenario()) == 0


def test_a_request_without_an_answer_ends_the_attempt(run):
    """Every request has its time limit."""

    async def scenario():
        async with FakeAri() as server:
            server.hang_rest = {"channels"}
            async with listening(to(server, request_timeout_s=2.0)) as listener:
                await until(lambda: listener.feed.counts.failures)
                server.hang_rest = set()
                return numbers(await listener.take(1))

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == ["ConnectionRestored"]
    assert reasons(logs)[0] == "GET channels: no answer in time"


def test_a_full_queue_is_a_lost_connection_and_not_a_silent_gap(run):
    """The bound is hit: counted, said, told to the core, and taken up again once there is room."""

    async def scenario():
        async with FakeAri() as server, listening(to(server, queue_max=1000)) as listener:
            await until(lambda: listener.feed.is_up)
            await server.send(*(created(n) for n in range(1200)))
            await until(lambda: listener.feed.counts.losses)
            handshakes = len(server.handshakes)
            lost = await listener.take(1001)
            server.requests.clear()
            await listener.take(1)
            return numbers(lost), handshakes, numbers(listener.inputs[-1:]), listener.feed.counts.overruns

    with structlog.testing.capture_logs() as logs:
        lost, handshakes, after, overruns = run(scenario())
    assert lost == ["ConnectionRestored", *range(999), "ConnectionLost"]
    assert (handshakes, after, overruns) == (1, ["ConnectionRestored"], 1)
    assert reasons(logs)[0] == "1000 events wait in memory: the machine is too slow"


def test_the_back_off_grows_and_starts_anew_after_a_stable_connection(run):
    """Full jitter below a doubling ceiling; a connection that held long enough clears it."""

    async def scenario(stable_after_s):
        async with FakeAri() as server, listening(to(server, stable_after_s=stable_after_s)) as listener:
            for _ in range(4):
                await server.when_subscribed()
                await listener.take(1)
                await server.drop()
                await listener.take(1)
            return listener.feed._backoff.failures

    assert run(scenario(1000.0)) == 4
    assert run(scenario(1e-9)) == 1


def test_nothing_listens_there(run):
    """A refused connection is an ordinary failure, and its reason is the system's."""

    async def scenario():
        async with listening(evolve(SETTINGS, url="http://127.0.0.1:1")) as listener:
            await until(lambda: listener.feed.counts.failures)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert "no websocket" in reasons(logs)[0]
    assert "Connect call failed" in reasons(logs)[0]


def test_odd_answers_do_not_decide_about_channelvars():
    """What is no list of channels, or an event without one, leaves the question open."""
    assert look_at_channels(b"[]") is None
    assert look_at_channels(b'{"message":"no"}') is None
    assert look_at_channels(b'[{"id":"\xff"}]') is None
    assert look_at_event(b"not json") is None
    assert look_at_event(b'{"type":"Dial","peer":{"id":"1","channelvars":{"MIXMONITOR_FILENAME":null}}}') is True


class Predecessor:
    """What a feed with `hold` waits for."""

    def __init__(self):
        self.is_waited_for = asyncio.Event()
        self.answer = asyncio.get_running_loop().create_future()
        self.calls = 0

    async def __call__(self):
        """Wait for the test's answer."""
        self.calls += 1
        self.is_waited_for.set()
        return await self.answer


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"ApplicationReplaced","x":' + b"[" * 100_000,
        b'{"type":"\xff ApplicationReplaced","timestamp":""}',
        b'{"type":"Dial","timestamp":"\xff"}',
        b'{"type":"ChannelCreated","channel":{"id":"1","channelvars":{"a":"\xff"}}}',
        b'{"type":"ChannelDestroyed","channel":{"id":"\xff"}}',
    ],
    ids=["too deep", "type", "timestamp", "variable", "end"],
)
def test_what_nobody_can_read_is_fed_like_everything_else(run, raw):
    """The core counts it; looking at it does not cost the connection, whether it comes early or late."""

    async def scenario():
        async with FakeAri() as server:
            server.before_answer = {"channels": [raw]}
            async with listening(to(server)) as listener:
                await listener.take(2)
                await server.send(raw, created(1))
                await listener.take(2)
                return [item.raw for item in listener.inputs[1:]], listener.feed.counts.losses

    assert run(scenario()) == ([raw, raw, json.dumps(created(1)).encode()], 0)


def test_a_successor_continues_without_reading_anything(run):
    """The predecessor heard everything up to our connection: what waited is fed, and no picture is needed."""

    async def scenario():
        hold = Predecessor()
        async with FakeAri() as server, listening(to(server), hold=hold) as listener:
            await hold.is_waited_for.wait()
            assert listener.feed.opened.is_set()
            await server.send(created(1), created(2))
            assert (server.requests, len(listener.queue), listener.feed.is_up) == ([], 0, False)
            hold.answer.set_result(True)
            await listener.take(2)
            await server.send(created(3))
            await listener.take(1)
            return listener, server.requests

    listener, requests = run(scenario())
    assert numbers(listener.inputs) == [1, 2, 3]
    assert [item.received_at for item in listener.inputs] == sorted(item.received_at for item in listener.inputs)
    assert requests == [
        "PUT applications/arimonitor/eventFilter",
        "POST applications/arimonitor/subscription",
        "GET applications/arimonitor",
    ]
    assert listener.feed.counts.connections == 1


def test_a_start_without_a_predecessor_reads_what_there_is(run):
    """Whoever was there did not hear everything: the ordinary start, as of the handshake, then what waited."""

    async def scenario():
        hold = Predecessor()
        async with FakeAri() as server, listening(to(server), hold=hold) as listener:
            await hold.is_waited_for.wait()
            await server.send(created(1))
            hold.answer.set_result(False)
            restored, event = await listener.take(2)
            assert restored.received_at <= event.received_at
            await server.drop()
            await listener.take(2)
            return numbers(listener.inputs), hold.calls

    assert run(scenario()) == (["ConnectionRestored", 1, "ConnectionLost", "ConnectionRestored"], 1)


@pytest.mark.parametrize(
    ("continues", "fed"),
    [(False, ["ConnectionRestored"]), (True, [1, "ConnectionLost", "ConnectionRestored"])],
)
def test_a_connection_that_breaks_while_a_predecessor_is_waited_for(run, continues, fed):
    """He is waited for all the same. What was heard continues what he left; then the loss, and an ordinary start."""

    async def scenario():
        hold = Predecessor()
        async with FakeAri() as server, listening(to(server), hold=hold) as listener:
            await hold.is_waited_for.wait()
            await server.send(created(1))
            await server.drop()
            assert len(server.handshakes) == 1
            hold.answer.set_result(continues)
            await listener.take(len(fed))
            await server.send(created(2))
            await listener.take(1)
            times = [item.received_at for item in listener.inputs]
            assert times == sorted(times)
            return numbers(listener.inputs), hold.calls

    assert run(scenario()) == ([*fed, 2], 1)


@pytest.mark.parametrize("is_up", [True, False])
def test_a_feed_that_is_replaced_says_whether_it_heard_everything(run, is_up):
    """Only what was fed up to its end can be continued by a successor."""

    async def scenario():
        hold = Predecessor()
        async with FakeAri() as server, listening(to(server), hold=hold) as listener:
            await hold.is_waited_for.wait()
            await server.send(created(1), {"type": "ApplicationReplaced", "application": "arimonitor"})
            hold.answer.set_result(is_up)
            await listener.task
            return numbers(listener.queue.take(9)), listener.feed.was_replaced_while_up

    assert run(scenario()) == (([1, None], True) if is_up else ([], False))


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_feed_that_is_held_says_when_nothing_is_heard_any_more(run, is_replaced):
    """Whoever decides how long to hold it has to know, and whether another process took over."""

    async def scenario():
        hold = Predecessor()
        async with FakeAri() as server, listening(to(server), hold=hold) as listener:
            ended = asyncio.create_task(listener.feed.ended_while_held())
            await hold.is_waited_for.wait()
            await server.send(created(1))
            assert not ended.done()
            if is_replaced:
                await server.send({"type": "ApplicationReplaced", "application": "arimonitor"})
            else:
                await server.drop()
            return await ended

    assert run(scenario()) is is_replaced


def test_memory_is_bounded_while_a_predecessor_is_waited_for(run):
    """What does not fit is a loss, told as one; what fits is fed."""

    async def scenario():
        hold = Predecessor()
        async with FakeAri() as server, listening(to(server, queue_max=1000), hold=hold) as listener:
            await hold.is_waited_for.wait()
            await server.send(*(created(n) for n in range(1001)))
            connection = listener.feed._connection
            await until(lambda: connection.ended_at is not None)
            hold.answer.set_result(True)
            await listener.take(1002)
            return numbers(listener.inputs), listener.feed.counts.overruns

    assert run(scenario()) == ([*range(1000), "ConnectionLost", "ConnectionRestored"], 1)


def test_an_operator_has_everything_read_again(run):
    """One more picture, in its place: after what was heard before, before what came while it was read."""

    async def scenario():
        async with FakeAri() as server, listening(to(server)) as listener:
            await listener.take(1)
            await server.send(created(1))
            await listener.take(1)
            server.answers["channels"] = [{"id": "7"}]
            server.before_answer = {"channels": [created(2)], "endpoints": [created(3)]}
            await listener.feed.refresh()
            assert len(listener.queue) >= 1
            await listener.take(3)
            await server.send(created(4))
            await listener.take(1)
            return listener

    listener = run(scenario())
    assert numbers(listener.inputs) == ["ConnectionRestored", 1, "ConnectionRestored", 2, 3, 4]
    assert listener.inputs[2].channels == b'[{"id": "7"}]'
    times = [item.received_at for item in listener.inputs]
    assert times == sorted(times)
    assert listener.feed.statistics()["refreshes"] == 1


def test_without_a_connection_nothing_can_be_read_again(run):
    """Said as an error, before the first connection and between two."""

    async def scenario():
        async with FakeAri() as server:
            server.hang_rest = {"bridges"}
            async with listening(to(server)) as listener:
                with pytest.raises(AriError, match="no connection"):
                    await listener.feed.refresh()
                await server.when(lambda: "GET bridges" in server.requests)
                with pytest.raises(AriError, match="no connection"):
                    await listener.feed.refresh()

    run(scenario())


def test_what_came_while_a_reading_failed_is_fed_all_the_same(run):
    """The operator gets the error; the core gets every event, and no picture that nobody saw."""

    async def scenario():
        async with FakeAri() as server, listening(to(server)) as listener:
            await listener.take(1)
            server.before_answer = {"channels": [created(1)]}
            server.failing = {"endpoints"}
            with pytest.raises(AriError, match="GET endpoints: 500"):
                await listener.feed.refresh()
            await server.send(created(2))
            await listener.take(2)
            return numbers(listener.inputs)

    assert run(scenario()) == ["ConnectionRestored", 1, 2]


@pytest.mark.parametrize("replaced", [True, False])
def test_a_connection_that_ends_while_everything_is_read_again(run, replaced):
    """What was heard is fed before its end is told; the operator is told that nothing came of it."""

    async def scenario():
        async with FakeAri() as server, listening(to(server)) as listener:
            await listener.take(1)
            server.requests.clear()
            server.hang_rest = {"endpoints"}
            refreshing = asyncio.create_task(listener.feed.refresh())
            await server.when(lambda: "GET endpoints" in server.requests)
            await server.send(created(1))
            if replaced:
                await server.send({"type": "ApplicationReplaced", "application": "arimonitor"})
            else:
                server.hang_rest = set()
                await server.drop()
            with pytest.raises(AriError):
                await refreshing
            await listener.take(2)
            if replaced:
                await listener.task
            return numbers(listener.inputs), listener.feed.was_replaced_while_up

    assert run(scenario()) == (["ConnectionRestored", 1, None if replaced else "ConnectionLost"], replaced)
