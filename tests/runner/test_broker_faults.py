"""What is wrong on one vhost, or on the way to it, is waited for, harms no other vhost, and heals by itself."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
import structlog
from attrs import evolve

from arimonitor_core.directory import Client, Directory, MqServer
from tests.runner.delivery import SETTINGS, STATUSES, by_call, calls, delivering, directory, port_of
from tests.runner.proxy import Proxy
from tests.runner.waiting import until

OPERATORS_TOPOLOGY = evolve(SETTINGS, declare=False)


def declare_exchange(rabbit, vhost):
    """An exchange that nothing is bound to."""
    with rabbit.channel(vhost) as channel:
        channel.exchange_declare("arimonitor", "topic", durable=True)


def arrived(rabbit, vhost, count):
    """What the consumer gets, by call, when each message came once."""
    delivered = rabbit.consume(vhost, count + 1, timeout_s=0.3)
    assert len(delivered) == count
    return by_call(delivered)


def complete(count):
    """So many calls as they should arrive."""
    return {f"{number}": list(STATUSES) for number in range(count)}


def test_a_queue_that_was_deleted_is_made_again_at_once(outbox_path, rabbit, vhost, message, run):
    """Where the queue is ours: the messages come back, it is declared anew, and all of them follow in order."""

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost)) as delivery:
            await delivery.send(message("first", vhost=vhost))
            await delivery.until_empty()
            with rabbit.channel(vhost) as channel:
                channel.queue_delete("arimonitor")
            await delivery.send(*calls(message, vhost, 40))
            await delivery.until_empty()
            return delivery.count(vhost, "returned"), delivery.count(vhost, "connections")

    with structlog.testing.capture_logs() as logs:
        returned, connections = run(scenario())
    assert returned >= 1
    assert connections == 1
    assert [log["event"][:20] for log in logs if log["log_level"] == "error"] == ["no queue takes this "]
    assert arrived(rabbit, vhost, 120) == complete(40)


def test_parked_messages_are_tried_again_until_a_queue_is_there(outbox_path, rabbit, vhost, message, run):
    """Where the queue is the operator's: one message tries its luck now and then, and brings the others after it."""
    declare_exchange(rabbit, vhost)
    settings = evolve(OPERATORS_TOPOLOGY, parked_retry_s=0.02)

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost), settings) as delivery:
            await delivery.send(*calls(message, vhost, 20))
            await until(lambda: delivery.count(vhost, "returned") >= 23)
            await delivery.until(lambda counts: counts == {vhost: {"parked": 20, "pending": 40}})
            rabbit.declare(vhost)
            await delivery.send(message("late", vhost=vhost))
            await delivery.until_empty()

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert len([log for log in logs if log["log_level"] == "error"]) == 1
    assert arrived(rabbit, vhost, 61) == complete(20) | {"late": ["open"]}


def test_an_operator_can_have_parked_messages_tried_at_once(outbox_path, rabbit, vhost, message, run):
    """Of one vhost or of all, while new messages come."""
    declare_exchange(rabbit, vhost)

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost), OPERATORS_TOPOLOGY) as delivery:
            await delivery.send(*calls(message, vhost, 20, STATUSES[:2]))
            await delivery.until(lambda counts: counts == {vhost: {"parked": 20, "pending": 20}})
            rabbit.declare(vhost)
            assert await delivery.broker.retry_parked("elsewhere") == []
            assert await delivery.broker.retry_parked() == [vhost]
            await delivery.send(*calls(message, vhost, 20, STATUSES[2:]))
            await delivery.until_empty()

    run(scenario())
    assert arrived(rabbit, vhost, 60) == complete(20)


@pytest.mark.parametrize("is_same_run", [True, False], ids=["reconnect", "restart"])
def test_parked_messages_are_tried_at_once_with_a_new_connection(outbox_path, rabbit, vhost, message, run, is_same_run):
    """After a reconnect, and at a start where nothing but parked messages is left."""
    declare_exchange(rabbit, vhost)

    async def park(delivery):
        await delivery.send(*calls(message, vhost, 5, ("open",)))
        await delivery.until(lambda counts: counts == {vhost: {"parked": 5}})
        rabbit.declare(vhost)

    async def scenario():
        async with Proxy(port_of(rabbit.url)) as proxy:
            known = directory(f"amqp://guest:guest@127.0.0.1:{proxy.port}", vhost)
            async with delivering(outbox_path, known, OPERATORS_TOPOLOGY) as delivery:
                await park(delivery)
                if is_same_run:
                    await proxy.cut()
                    await delivery.until_empty()
            if not is_same_run:
                async with delivering(outbox_path, known, OPERATORS_TOPOLOGY) as delivery:
                    await delivery.until_empty()

    run(scenario())
    assert arrived(rabbit, vhost, 5) == {f"{number}": ["open"] for number in range(5)}


def test_what_an_operator_changed_in_the_file_is_followed(outbox_path, rabbit, message, run):
    """Another process gives parked messages a vhost, makes others pending and removes one: the daemon takes it up."""
    vhost, other = rabbit.new_vhost(), rabbit.new_vhost()
    declare_exchange(rabbit, vhost)
    settings = evolve(OPERATORS_TOPOLOGY, parked_retry_s=0.3)

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost), settings) as delivery:
            await delivery.send(*calls(message, vhost, 3), message("homeless", vhost=""))
            await delivery.until(lambda counts: counts == {vhost: {"parked": 3, "pending": 6}, "": {"parked": 1}})
            for name in (vhost, other):
                rabbit.declare(name)
            with closing(sqlite3.connect(outbox_path)) as file, file:
                file.execute("DELETE FROM messages WHERE message_id = '1:open'")
                file.execute("UPDATE messages SET state = 'pending', vhost = ? WHERE vhost = ''", (other,))
                file.execute("UPDATE messages SET state = 'pending' WHERE state = 'parked'")
            await delivery.until_empty()

    run(scenario())
    assert arrived(rabbit, vhost, 8) == complete(3) | {"1": ["oncall", "closed"]}
    assert arrived(rabbit, other, 1) == {"homeless": ["open"]}


def test_a_vhost_that_is_created_later_gets_what_waited(outbox_path, rabbit, message, run):
    """And no message of it was tried in vain: it is no failure of the message."""
    missing = "created-later"

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, missing)) as delivery:
            await delivery.send(*calls(message, missing, 10))
            await until(lambda: delivery.count(missing, "failures") >= 2)
            await asyncio.to_thread(rabbit.ctl, "add_vhost", missing)
            await until(lambda: delivery.count(missing, "failures") >= 4)
            await asyncio.to_thread(rabbit.ctl, "set_permissions", "-p", missing, "guest", ".*", ".*", ".*")
            await delivery.until_empty()
            return delivery.count(missing, "published")

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == 30
    reasons = [log["reason"] for log in logs if log["log_level"] == "error"]
    assert "not found" in reasons[0]
    assert any("access" in reason and "refused" in reason for reason in reasons)
    assert arrived(rabbit, missing, 30) == complete(10)


def test_a_permission_to_write_that_is_granted_later_is_taken_up(outbox_path, rabbit, vhost, message, run):
    """The connection opens, each publish is answered with 403: tried again, ever more slowly, until it is allowed."""
    rabbit.declare(vhost)
    rabbit.ctl("set_permissions", "-p", vhost, "guest", ".*", "^$", ".*")

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost), OPERATORS_TOPOLOGY) as delivery:
            await delivery.send(*calls(message, vhost, 10))
            await until(lambda: delivery.count(vhost, "failures") >= 3)
            await asyncio.to_thread(rabbit.ctl, "set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
            await delivery.until_empty()

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert "ACCESS_REFUSED" in next(log["reason"] for log in logs if log["log_level"] == "error")
    assert arrived(rabbit, vhost, 30) == complete(10)


def test_refused_connections_are_tried_until_one_is_taken(outbox_path, rabbit, vhost, message, run):
    """Nobody listens, or whoever does hangs up."""

    async def scenario():
        async with Proxy(port_of(rabbit.url)) as proxy:
            proxy.refuse()
            async with delivering(
                outbox_path, directory(f"amqp://guest:guest@127.0.0.1:{proxy.port}", vhost)
            ) as delivery:
                await delivery.send(*calls(message, vhost, 5))
                await until(lambda: delivery.count(vhost, "failures") >= 5)
                proxy.refuse(False)
                await delivery.until_empty()

    run(scenario())
    assert arrived(rabbit, vhost, 15) == complete(5)


def test_confirms_that_never_come_end_in_a_repeat_that_can_be_recognised(outbox_path, rabbit, vhost, message, run):
    """The broker has the messages and its answers are lost: they go out again, with equal message_ids, in order."""
    everything = calls(message, vhost, 20)

    async def scenario():
        async with Proxy(port_of(rabbit.url)) as proxy:
            settings = evolve(SETTINGS, confirm_timeout_s=0.4, connect_timeout_s=2.0)
            url = f"amqp://guest:guest@127.0.0.1:{proxy.port}"
            async with delivering(outbox_path, directory(url, vhost), settings) as delivery:
                await delivery.send(message("first", vhost=vhost))
                await delivery.until_empty()
                proxy.swallow()
                await delivery.send(*everything)
                await until(lambda: delivery.count(vhost, "failures") >= 1)
                proxy.swallow(False)
                await delivery.until_empty()

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert next(log["reason"] for log in logs if log["log_level"] == "error") == "no confirm within 0.4 s"
    delivered = rabbit.consume(vhost, 1000, timeout_s=0.3)
    assert len(delivered) > 61
    assert by_call(delivered) == complete(20) | {"first": ["open"]}
    bodies = {properties.message_id: body for _, properties, body in delivered[1:]}
    assert bodies == {m.message_id: m.body for m in everything}


def test_a_slow_vhost_delays_no_other(outbox_path, rabbit, message, run):
    """Its broker's answers come through one by one, each after others had three hundred messages confirmed."""
    slow, *fast = (rabbit.new_vhost() for _ in range(4))

    async def scenario():
        async with Proxy(port_of(rabbit.url)) as proxy:
            known = Directory.of(
                clients=[Client(code="111", vhost=slow, mq_server="slow")],
                mq_servers=[
                    MqServer(name="fast", url=rabbit.url),
                    MqServer(name="slow", url=f"amqp://guest:guest@127.0.0.1:{proxy.port}"),
                ],
            )
            async with delivering(outbox_path, known) as delivery:
                await delivery.send(message("first", vhost=slow))
                await delivery.until_empty()
                permits = proxy.pace()
                for vhost in (slow, *fast):
                    ids = [f"{vhost}-{number}" for number in range(100)]
                    await delivery.send(*(message(call, status, vhost=vhost) for status in STATUSES for call in ids))
                for goal in (300, 600, 900):
                    await until(lambda goal=goal: sum(delivery.count(name, "confirmed") for name in fast) >= goal)
                    counts = await delivery.outbox.counts()
                    permits.release()
                while await delivery.outbox.counts():
                    permits.release()
                return counts

    counts = run(scenario())
    # Each of its calls takes three messages, one after the other's confirm, and two answers came through by then.
    assert counts[slow]["pending"] >= 1
    for vhost in (slow, *fast):
        expected = {f"{vhost}-{number}": list(STATUSES) for number in range(100)}
        if vhost == slow:
            expected["first"] = ["open"]
        assert arrived(rabbit, vhost, 301 if vhost == slow else 300) == expected
