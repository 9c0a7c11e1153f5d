"""Delivery to a real RabbitMQ: complete, in order per call, whatever the network and the broker do."""

import asyncio

import pytest
import structlog
from attrs import evolve

from arimonitor_core.directory import Client, Directory, MqServer
from arimonitor_runner.broker import Broker, find_server
from arimonitor_runner.broker.session import SessionError
from arimonitor_runner.outbox import Outbox
from tests.runner.delivery import SETTINGS, STATUSES, by_call, calls, delivering, directory, port_of
from tests.runner.proxy import Proxy
from tests.runner.waiting import until


def test_a_message_arrives_as_the_contract_says(outbox_path, rabbit, vhost, message, run):
    """Topic exchange, quorum queue, routing key, and every property."""

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost)) as delivery:
            await delivery.send(message("guid", vhost=vhost))
            await delivery.until_empty()

    run(scenario())
    ((method, properties, body),) = rabbit.consume(vhost, 1)
    assert (method.exchange, method.routing_key) == ("arimonitor", "received-call.open")
    assert (properties.content_type, properties.delivery_mode, properties.type) == (
        "application/json",
        2,
        "received-call",
    )
    assert (properties.message_id, properties.app_id) == ("guid:open", "arimonitor/pbx")
    assert properties.timestamp == message("guid").timestamp
    assert body == message("guid").body
    with rabbit.channel(vhost) as channel:
        channel.exchange_declare("arimonitor", "topic", durable=True)
        channel.queue_declare("arimonitor", durable=True, arguments={"x-queue-type": "quorum"})


def test_many_calls_arrive_complete_and_each_in_order(outbox_path, rabbit, vhost, message, run):
    """More messages than window and memory hold, part of them from before the start."""
    settings = evolve(SETTINGS, window=20)
    everything = calls(message, vhost, 200)

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, "elsewhere"), settings) as delivery:
            await delivery.outbox.append(everything[:300])
        async with delivering(outbox_path, directory(rabbit.url, vhost), settings) as delivery:
            for start in range(300, 600, 50):
                await delivery.send(*everything[start : start + 50])
            await delivery.until_empty()
            return delivery.broker.statistics()[vhost]

    counts = run(scenario())
    assert counts["published"] == counts["confirmed"] == 600
    delivered = rabbit.consume(vhost, 600)
    assert len(delivered) == 600
    assert by_call(delivered) == {f"{n}": list(STATUSES) for n in range(200)}


def test_a_missing_vhost_delays_no_other(outbox_path, rabbit, vhost, message, run):
    """What cannot be delivered waits in the outbox; the rest goes out and can be drained."""

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost, "missing")) as delivery:
            await delivery.send(message("a", vhost="missing"), message("b", vhost=vhost))
            await delivery.until(lambda counts: vhost not in counts)
            assert await delivery.broker.drain(30)
            return await delivery.outbox.counts(), delivery.broker.statistics()["missing"]

    with structlog.testing.capture_logs() as logs:
        counts, statistics = run(scenario())
    assert counts == {"missing": {"pending": 1}}
    assert statistics["failures"] >= 1
    assert "vhost missing not found" in next(log["reason"] for log in logs if log.get("vhost") == "missing")


def test_a_refused_login_is_said_without_the_password(outbox_path, rabbit, vhost, message, run):
    """The log names the reason and no secret."""
    url = rabbit.url.replace("guest:guest@", "guest:s3cret@")

    async def scenario():
        async with delivering(outbox_path, directory(url, vhost)) as delivery:
            await delivery.send(message("a", vhost=vhost))
            await delivery.broker.drain(30)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert "ACCESS_REFUSED" in logs[0]["reason"]
    assert "s3cret" not in str(logs)


def test_an_unroutable_message_is_parked_and_holds_back_only_its_call(outbox_path, rabbit, vhost, message, run):
    """No queue takes `oncall`: it is kept, `closed` of that call waits behind it, other calls go on."""
    with rabbit.channel(vhost) as channel:
        channel.exchange_declare("arimonitor", "topic", durable=True)
        channel.queue_declare("partial", durable=True)
        for key in ("received-call.open", "received-call.closed"):
            channel.queue_bind("partial", "arimonitor", key)
    settings = evolve(SETTINGS, declare=False)

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost), settings) as delivery:
            await delivery.send(*(message("a", status, vhost=vhost) for status in STATUSES))
            await delivery.until(lambda counts: counts == {vhost: {"pending": 1, "parked": 1}})
            await delivery.send(message("b", vhost=vhost), message("a", "late", vhost=vhost))
            await delivery.until(lambda counts: counts == {vhost: {"pending": 2, "parked": 1}})
        async with delivering(outbox_path, directory(rabbit.url, vhost), settings) as delivery:
            await delivery.send(message("a", "later", vhost=vhost), message("b", "closed", vhost=vhost))
            await delivery.until(lambda counts: counts == {vhost: {"pending": 3, "parked": 1}})

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    (alarm,) = [log for log in logs if log["log_level"] == "error"]
    assert (alarm["message_id"], alarm["reason"]) == ("a:oncall", "312 NO_ROUTE")
    delivered = rabbit.consume(vhost, 3, queue="partial")
    assert [p.message_id for _, p, _ in delivered] == ["a:open", "b:open", "b:closed"]


def test_a_refused_message_goes_again_and_its_call_keeps_its_order(outbox_path, rabbit, vhost, message, run):
    """A full queue answers with a negative confirm: the messages go in once it has room, in order."""
    with rabbit.channel(vhost) as channel:
        channel.exchange_declare("arimonitor", "topic", durable=True)
        arguments = {"x-max-length": 2, "x-overflow": "reject-publish"}
        channel.queue_declare("arimonitor", durable=True, arguments=arguments)
        channel.queue_bind("arimonitor", "arimonitor", "#")
    everything = calls(message, vhost, 5)

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost), evolve(SETTINGS, declare=False)) as delivery:
            await delivery.send(*everything)
            await until(lambda: delivery.count(vhost, "refused") > 0)
            delivered = await asyncio.to_thread(rabbit.consume, vhost, len(everything))
            await delivery.until_empty()
            return delivered

    delivered = run(scenario())
    assert by_call(delivered) == {f"{n}": list(STATUSES) for n in range(5)}
    assert len(delivered) == len(everything)


def test_a_cut_network_loses_nothing_and_keeps_the_order(outbox_path, rabbit, vhost, message, run):
    """Connections are reset again and again in the middle of the traffic; a repeat has the same message_id."""
    everything = calls(message, vhost, 300)

    async def scenario():
        async with Proxy(port_of(rabbit.url)) as proxy:
            url = f"amqp://guest:guest@127.0.0.1:{proxy.port}"
            async with delivering(outbox_path, directory(url, vhost), evolve(SETTINGS, window=10)) as delivery:
                for cut in range(6):
                    await delivery.send(*everything[cut * 150 : cut * 150 + 150])
                    before = delivery.count(vhost, "confirmed")
                    await until(lambda before=before: delivery.count(vhost, "confirmed") >= before + 40)
                    await proxy.cut()
                await delivery.until_empty()
                return proxy.accepted

    assert run(scenario()) >= 6
    delivered = rabbit.consume(vhost, 10**6, timeout_s=0.5)
    assert by_call(delivered) == {f"{n}": list(STATUSES) for n in range(300)}
    bodies = {properties.message_id: body for _, properties, body in delivered}
    assert bodies == {m.message_id: m.body for m in everything}


def test_a_silent_broker_is_left_and_found_again(outbox_path, rabbit, vhost, message, run):
    """Nothing is confirmed any more and nothing is closed either: the connection is dropped and made anew."""

    async def scenario():
        async with Proxy(port_of(rabbit.url)) as proxy:
            url = f"amqp://guest:guest@127.0.0.1:{proxy.port}"
            settings = evolve(SETTINGS, confirm_timeout_s=0.4, connect_timeout_s=0.4)
            async with delivering(outbox_path, directory(url, vhost), settings) as delivery:
                await delivery.send(message("a", vhost=vhost))
                await delivery.until_empty()
                proxy.stall()
                await delivery.send(message("a", "oncall", vhost=vhost))
                await until(lambda: delivery.count(vhost, "failures") >= 3)
                proxy.resume()
                await delivery.until_empty()

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    reasons = [log["reason"] for log in logs if log["log_level"] == "error"]
    assert reasons[:2] == ["no confirm within 0.4 s", "not open within 0.4 s"]
    assert by_call(rabbit.consume(vhost, 10, timeout_s=0.5)) == {"a": ["open", "oncall"]}


def test_an_idle_connection_is_closed_and_opened_for_the_next_message(outbox_path, rabbit, vhost, message, run):
    """Where the operator wants it, a vhost without traffic costs no connection."""

    async def scenario():
        settings = evolve(SETTINGS, idle_close_s=0.1, confirm_timeout_s=0.2)
        async with delivering(outbox_path, directory(rabbit.url, vhost), settings) as delivery:
            with structlog.testing.capture_logs() as logs:
                await delivery.send(message("a", vhost=vhost))
                await until(lambda: any("idle" in log["event"] for log in logs))
                await delivery.send(message("b", vhost=vhost))
                await delivery.until_empty()
                assert await delivery.broker.drain(10)
            return delivery.broker.statistics()[vhost]

    counts = run(scenario())
    assert (counts["connections"], counts["confirmed"], counts["failures"]) == (2, 2, 0)


def test_a_vhost_follows_its_client_to_another_server(outbox_path, rabbit, vhost, message, run):
    """The directory names another MQ server: the connection moves there, nothing is lost on the way."""

    async def scenario():
        async with Proxy(port_of(rabbit.url)) as proxy:
            old = directory(f"amqp://guest:guest@127.0.0.1:{proxy.port}", vhost)
            async with delivering(outbox_path, old) as delivery:
                await delivery.send(message("a", vhost=vhost))
                await delivery.until_empty()
                delivery.broker.use_directory(directory(rabbit.url, vhost))
                proxy.refuse()
                await until(lambda: delivery.count(vhost, "connections") >= 2)
                await delivery.send(message("b", vhost=vhost))
                await delivery.until_empty()
                return delivery.broker.statistics()[vhost]["failures"]

    assert run(scenario()) == 0


def test_existing_topology_of_another_kind_is_named(outbox_path, rabbit, vhost, message, run):
    """A queue of that name with other arguments: the broker's own words are in the log, the message is kept."""
    with rabbit.channel(vhost) as channel:
        channel.queue_declare("arimonitor", durable=True, arguments={"x-queue-type": "classic"})

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost)) as delivery:
            await delivery.send(message("a", vhost=vhost))
            await delivery.broker.drain(30)
            return await delivery.outbox.counts()

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == {vhost: {"pending": 1}}
    assert "PRECONDITION_FAILED" in logs[0]["reason"]
    assert "x-queue-type" in logs[0]["reason"]


def test_connections_are_opened_no_faster_than_set(run, monkeypatch):
    """Many vhosts at once do not storm the server: each waits for its turn."""
    waited = []

    async def sleep(delay_s):
        waited.append(delay_s)

    async def scenario():
        settings = evolve(SETTINGS, open_per_s_max=10.0)
        broker = Broker(None, Directory(), settings, server="pbx", on_failure=lambda error: None)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        for _ in range(4):
            await broker._await_slot()

    run(scenario())
    assert waited == pytest.approx([0, 0.1, 0.2, 0.3], abs=0.05)


def test_a_store_that_fails_is_reported_as_a_crash(outbox_path, rabbit, vhost, run):
    """A publisher that cannot read its messages is no quiet failure."""

    async def scenario():
        failures = []
        outbox = Outbox(outbox_path)
        await outbox.open()
        await outbox._submit(lambda connection: connection.execute("DROP TABLE messages").fetchone())
        broker = Broker(outbox, directory(rabbit.url), SETTINGS, server="pbx", on_failure=failures.append)
        broker._publisher(vhost)
        await until(lambda: failures)
        await broker.close()
        await outbox.close()
        return failures

    assert "no such table" in str(run(scenario())[0])


def test_a_vhost_belongs_to_the_server_that_its_client_names():
    """Else to the first server; a name that is not in the directory is an error."""
    servers = [MqServer(name="mq1", url="amqp://one"), MqServer(name="mq2", url="amqp://two")]
    clients = [Client(code="112", vhost="a", mq_server="mq2"), Client(code="113", vhost="b", mq_server="mq9")]
    known = Directory.of(clients=clients, mq_servers=servers)
    assert find_server(known, "a").name == "mq2"
    assert find_server(known, "other").name == "mq1"
    with pytest.raises(SessionError, match="mq9"):
        find_server(known, "b")
    with pytest.raises(SessionError, match="no MQ server"):
        find_server(Directory(), "a")
