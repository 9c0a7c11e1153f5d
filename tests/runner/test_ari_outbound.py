"""Asterisk dials us: what it kept comes first and in order, and a broken connection is no loss."""

import asyncio
import socket

import pytest
import structlog
import typed_settings as ts
from attrs import evolve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.runner.fake_ari import FakeAri
from tests.runner.fake_dialer import LISTEN_PASSWORD, LISTEN_USER, REGISTERED, FakeDialer
from tests.runner.test_ari import SETTINGS, created, listening, numbers
from tests.runner.waiting import until


def free_port():
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return plug.getsockname()[1]


def to(server, **changes):
    """Settings for a feed that this Asterisk dials."""
    server.dials_out = True
    return evolve(
        SETTINGS,
        url=server.url,
        mode="outbound",
        listen_port=free_port(),
        listen_user=LISTEN_USER,
        listen_password=ts.SecretStr(LISTEN_PASSWORD),
        **changes,
    )


def test_what_asterisk_kept_comes_before_the_picture(run):
    """After Asterisk's own start: registered, what it kept, then what is read, then what came meanwhile."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server)
            server.answers["endpoints"] = [{"technology": "PJSIP", "resource": "1121", "state": "online"}]
            async with (
                listening(settings) as listener,
                FakeDialer(settings.listen_port, REGISTERED, created(1), created(2)) as asterisk,
            ):
                await listener.take(4)
                await asterisk.send(created(3))
                await listener.take(1)
                assert listener.feed.is_up
                return listener.inputs, server.requests[:3]

    inputs, requests = run(scenario())
    assert numbers(inputs) == [None, 1, 2, "ConnectionRestored", 3]
    assert b"1121" in inputs[3].endpoints
    times = [item.received_at for item in inputs]
    assert times == sorted(times)
    assert requests == [
        "PUT applications/arimonitor/eventFilter",
        "POST applications/arimonitor/subscription",
        "GET applications/arimonitor",
    ]


def test_what_nobody_can_read_is_not_the_answer_that_ends_the_replay(run):
    """It is fed like everything else that Asterisk kept, and looking at it does not cost the connection."""
    raw = b'{"type":"RESTResponse","request_id":"\xff"}'

    async def scenario():
        async with FakeAri() as server:
            settings = to(server)
            async with listening(settings) as listener, FakeDialer(settings.listen_port, raw, created(1)):
                first, second, picture = await listener.take(3)
                return first.raw, numbers([second, picture]), listener.feed.counts.connections

    assert run(scenario()) == (raw, [1, "ConnectionRestored"], 1)


def test_a_connection_that_ends_and_comes_back_is_no_loss(run):
    """No ConnectionLost: the replay bridges it. What Asterisk kept comes first, then it is registered, then live."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server)
            async with listening(settings) as listener:
                async with FakeDialer(settings.listen_port, REGISTERED) as asterisk:
                    await listener.take(2)
                    await asterisk.send(created(1))
                await until(lambda: not listener.feed.is_up)
                async with FakeDialer(settings.listen_port, created(2), created(3), REGISTERED) as asterisk:
                    await listener.take(5)
                    await asterisk.send(created(4))
                    await listener.take(1)
                return numbers(listener.inputs), listener.feed.statistics()

    inputs, counts = run(scenario())
    assert inputs == [None, "ConnectionRestored", 1, 2, 3, None, "ConnectionRestored", 4]
    assert (counts["connections"], counts["losses"], counts["failures"]) == (2, 1, 0)


def test_events_that_come_while_asterisk_is_read_follow_the_picture(run):
    """As with a connection of our own."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server)
            server.hang_rest = {"bridges"}
            async with listening(settings) as listener, FakeDialer(settings.listen_port, created(1)) as asterisk:
                await server.when(lambda: "GET bridges" in server.requests)
                await asterisk.send(created(2))
                await listener.take(1)
                assert len(listener.queue) == 0
                server._released.set()
                await listener.take(2)
                return numbers(listener.inputs)

    assert run(scenario()) == [1, "ConnectionRestored", 2]


def test_what_cannot_be_read_is_read_later_on_the_same_connection(run):
    """A broken socket could crash Asterisk: a failed request is no reason to break it, and events go on."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server)
            server.failing = {"endpoints"}
            async with listening(settings) as listener, FakeDialer(settings.listen_port, created(1)) as asterisk:
                await listener.take(1)
                await until(lambda: server.requests.count("GET endpoints") >= 2)
                await asterisk.send(created(2))
                await listener.take(1)
                server.failing = set()
                await listener.take(1)
                return numbers(listener.inputs), listener.feed.counts.connections

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == ([1, 2, "ConnectionRestored"], 1)
    assert any(log["event"] == "what Asterisk shows cannot be read" for log in logs)


def test_an_asterisk_that_answers_nothing_is_followed_all_the_same(run):
    """Where the end of the replay cannot be told, silence for as long as a request may take stands for it."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server, request_timeout_s=0.5)
            odd = {"type": "RESTResponse", "request_id": "another's"}
            async with (
                listening(settings) as listener,
                FakeDialer(settings.listen_port, created(1), odd, {"no": "RESTResponse"}, answers=False),
            ):
                await listener.take(4)
                return numbers(listener.inputs)

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == [1, None, None, "ConnectionRestored"]
    assert any("answers nothing over its websocket" in log["event"] for log in logs)


def test_the_old_connection_is_read_to_its_end_before_the_new_one_is_fed(run):
    """Asterisk dialed anew while the old socket still stands: it is gone from there, and its events come first."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server, ping_timeout_s=0.2)
            async with listening(settings) as listener, FakeDialer(settings.listen_port, REGISTERED) as old:
                await listener.take(2)
                old.vanish()
                await old.send(created(1), created(2))
                async with FakeDialer(settings.listen_port, created(3)) as new:
                    await listener.take(4)
                    await new.send(created(4))
                    await listener.take(1)
                old.socket.transport.abort()
                return numbers(listener.inputs)

    assert run(scenario()) == [None, "ConnectionRestored", 1, 2, 3, "ConnectionRestored", 4]


def test_a_second_asterisk_is_sent_away(run):
    """The first one answers our ping: whoever else dials is another PBX. Said once, however often it dials."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server)
            async with listening(settings) as listener, FakeDialer(settings.listen_port) as asterisk:
                await listener.take(1)
                for _ in range(3):
                    with pytest.raises(InvalidStatus, match="409"):
                        async with FakeDialer(settings.listen_port):
                            pass
                await asterisk.send(created(1))
                await listener.take(1)
                return numbers(listener.inputs)

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == ["ConnectionRestored", 1]
    assert len([log for log in logs if "a second Asterisk" in log["event"]]) == 1


def test_a_first_asterisk_that_answers_late_keeps_its_place(run):
    """It was busy: the second one is let in, waits, and is sent away with nothing of it fed."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server, ping_timeout_s=30.0)
            async with listening(settings) as listener, FakeDialer(settings.listen_port) as asterisk:
                await listener.take(1)
                asterisk.vanish()
                async with FakeDialer(settings.listen_port, created(66), answers=False) as other:
                    asterisk.socket.transport.resume_reading()
                    with pytest.raises(ConnectionClosed) as closed:
                        await other.socket.recv()
                await asterisk.send(created(1))
                await listener.take(1)
                return numbers(listener.inputs), closed.value.rcvd.code

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == (["ConnectionRestored", 1], 1008)
    assert any("a second Asterisk" in log["event"] for log in logs)


@pytest.mark.parametrize(
    ("options", "status"),
    [({"password": "guessed"}, 401), ({"path": "/other"}, 404), ({"additional_headers": None}, 401)],
)
def test_only_our_asterisk_is_let_in(run, options, status):
    """User, password and path must be right; neither password gets into the log."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server)
            async with listening(settings):
                for _ in range(2):
                    with pytest.raises(InvalidStatus) as refused:
                        async with FakeDialer(settings.listen_port, **options):
                            pass
                return refused.value.response.status_code

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == status
    assert len([log for log in logs if "not our Asterisk" in log["event"]]) == (status == 401)
    assert LISTEN_PASSWORD not in str(logs)
    assert "guessed" not in str(logs)


def test_a_client_that_does_not_speak_ari_is_refused(run):
    """The subprotocol is how Asterisk knows that we are meant."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server)
            async with listening(settings):
                with pytest.raises(InvalidStatus) as refused:
                    async with FakeDialer(settings.listen_port, subprotocols=None):
                        pass
                return refused.value.response.status_code

    assert run(scenario()) == 400


def test_nothing_is_taken_while_there_is_no_room(run):
    """Half of the queue is full: Asterisk keeps the events rather than we."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server, queue_max=1000)
            async with listening(settings) as listener:
                async with FakeDialer(settings.listen_port):
                    await listener.take(1)
                for n in range(501):
                    listener.queue.put_anyway(n)
                with pytest.raises(InvalidStatus) as refused:
                    async with FakeDialer(settings.listen_port):
                        pass
                listener.queue.take(1)
                async with FakeDialer(settings.listen_port, created(1)):
                    await until(lambda: listener.feed.counts.connections == 2)
                return refused.value.response.status_code

    assert run(scenario()) == 503


def test_what_we_refuse_is_a_loss(run):
    """The queue is full: Asterisk has sent it and does not keep it, so the core is told."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server, queue_max=1000)
            async with listening(settings) as listener, FakeDialer(settings.listen_port) as asterisk:
                await until(lambda: listener.feed.is_up)
                await asterisk.send(*(created(n) for n in range(1000)))
                await until(lambda: listener.feed.counts.overruns)
                return numbers(listener.queue.take(2000))

    assert run(scenario()) == ["ConnectionRestored", *range(999), "ConnectionLost"]


def test_what_came_until_the_end_is_fed_when_the_feed_is_stopped(run):
    """Also what a connection brought that was still waiting for its turn."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server, ping_timeout_s=0.1)
            server.hang_rest = {"bridges"}
            async with listening(settings) as listener, FakeDialer(settings.listen_port, created(1)) as asterisk:
                await server.when(lambda: "GET bridges" in server.requests)
                await asterisk.send(created(2))
                await until(lambda: len(listener.feed._connection._gate.waiting))
                listener.task.cancel()
                await asyncio.gather(listener.task, return_exceptions=True)
                await asterisk.socket.wait_closed()
                return numbers(listener.queue.take(9)), asterisk.socket.close_code

    assert run(scenario()) == ([1, 2], 1001)


def test_an_address_that_is_taken_is_tried_again(run):
    """Another process has the port: said, and listened there as soon as it is free."""

    async def scenario():
        async with FakeAri() as server:
            settings = to(server)
            taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", settings.listen_port)
            async with listening(settings) as listener:
                await until(lambda: listener.feed.counts.failures)
                taken.close()
                await taken.wait_closed()
                async with FakeDialer(settings.listen_port):
                    return numbers(await listener.take(1))

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == ["ConnectionRestored"]
    assert any("cannot listen on 127.0.0.1" in log.get("reason", "") for log in logs)


def test_without_a_password_nobody_is_let_in(run):
    """It is an error that names the setting, not an open door."""

    async def scenario():
        async with FakeAri() as server, listening(evolve(to(server), listen_password=ts.SecretStr(""))) as listener:
            await until(lambda: listener.feed.counts.failures)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert any("ari.listen_password" in log.get("reason", "") for log in logs)


def test_a_predecessor_is_waited_for_here_as_well(run):
    """Nothing is fed before it has left; Asterisk's events wait."""

    async def scenario():
        async with FakeAri() as server:
            settings, left = to(server), asyncio.get_running_loop().create_future()
            async with listening(settings, hold=lambda: left) as listener, FakeDialer(settings.listen_port, created(1)):
                await listener.feed.opened.wait()
                await until(lambda: len(listener.feed._connection._gate.waiting))
                assert (len(listener.queue), server.requests) == (0, [])
                left.set_result(True)
                return numbers(await listener.take(2))

    assert run(scenario()) == [1, "ConnectionRestored"]
