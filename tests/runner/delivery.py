"""An outbox and a broker joined as the daemon joins them, and what to look at afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path

import pika

from arimonitor_core.directory import Client, Directory, MqServer
from arimonitor_core.effects import PublishMessage
from arimonitor_runner.broker import Broker
from arimonitor_runner.outbox import Outbox
from arimonitor_runner.settings import BrokerSettings
from arimonitor_runner.sinks import StoredMessage
from tests.runner.rabbit import Delivered
from tests.runner.waiting import until

SETTINGS = BrokerSettings(backoff_first_s=0.02, backoff_max_s=0.2, open_per_s_max=1000.0)
STATUSES = ("open", "oncall", "closed")


def directory(url: str, *vhosts: str) -> Directory:
    """A directory with one MQ server and a client for each vhost."""
    return Directory.of(
        clients=[Client(code=str(111 + n), vhost=vhost) for n, vhost in enumerate(vhosts)],
        mq_servers=[MqServer(name="mq1", url=url)],
    )


def port_of(url: str) -> int:
    """The port that an AMQP URL names."""
    return pika.URLParameters(url).port


class Delivery:
    """An outbox and a broker, as the daemon joins them."""

    def __init__(self, outbox: Outbox, broker: Broker, failures: list[BaseException]) -> None:
        self.outbox, self.broker, self.failures = outbox, broker, failures

    async def send(self, *messages: PublishMessage) -> list[StoredMessage]:
        """Store and offer, as the loop does."""
        stored = (await self.outbox.append(messages)).stored
        self.broker.offer(stored)
        return stored

    async def until(self, condition: Callable[[dict[str, dict[str, int]]], bool]) -> None:
        """Wait until something is true of the outbox's counts."""

        async def holds() -> bool:
            return condition(await self.outbox.counts())

        await until(holds)

    async def until_empty(self) -> None:
        """Wait until every message is confirmed and forgotten."""
        await self.until(lambda counts: not counts)

    def count(self, vhost: str, name: str) -> int:
        """One of the broker's counters; 0 as long as nobody heard of the vhost."""
        return self.broker.statistics().get(vhost, {}).get(name, 0)


@asynccontextmanager
async def delivering(path: Path, directory: Directory, settings: BrokerSettings = SETTINGS) -> AsyncIterator[Delivery]:
    """Outbox and broker, open; nothing may have crashed by the end."""
    failures: list[BaseException] = []
    outbox = Outbox(path, synchronous="NORMAL", on_failure=failures.append)
    await outbox.open()
    broker = Broker(outbox, directory, settings, server="pbx", on_failure=failures.append)
    try:
        await broker.start()
        yield Delivery(outbox, broker, failures)
    finally:
        await broker.close()
        await outbox.close()
    assert failures == []


def calls(
    message: Callable[..., PublishMessage], vhost: str, count: int, statuses: Sequence[str] = STATUSES
) -> list[PublishMessage]:
    """The messages of so many calls, all calls' first messages first."""
    return [message(f"{n}", status, vhost=vhost) for status in statuses for n in range(count)]


def by_call(delivered: Sequence[Delivered]) -> dict[str, list[str]]:
    """For each call its message_ids in the order they came, repeats of one message folded into one."""
    ids = [properties.message_id for _, properties, _ in delivered]
    calls: dict[str, list[str]] = {}
    for message_id in ids:
        calls.setdefault(message_id.partition(":")[0], []).append(message_id.partition(":")[2])
    return {call: [status for status, _ in groupby(statuses)] for call, statuses in calls.items()}
