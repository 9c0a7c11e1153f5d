"""P8: delivery to a real RabbitMQ: many confirms on their way against one at a time; three hundred vhosts at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from attrs import evolve

from arimonitor_core.directory import Directory, MqServer
from arimonitor_core.effects import PublishMessage
from arimonitor_runner.broker import Broker
from arimonitor_runner.outbox import Outbox
from arimonitor_runner.settings import BrokerSettings
from arimonitor_runner.sinks import MessageStore, StoredMessage
from benchmarks.conftest import Report
from benchmarks.pairs import Pair
from tests.runner.rabbit import RabbitNode

VHOSTS = 300
PIECE = 400
BODY = b'{"operation":{},"data":"%s"}' % (b"x" * 470)
SETTINGS = BrokerSettings(open_per_s_max=1_000_000.0, connect_timeout_s=120.0, confirm_timeout_s=120.0)

_numbers = count(1)


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A node of the benchmark's own."""
    node = RabbitNode(tmp_path_factory.mktemp("rabbitmq"))
    node.start()
    try:
        yield node
    finally:
        node.stop()


def build(vhost: str, number: int) -> PublishMessage:
    """A message of 500 bytes that is the only one of its call."""
    return PublishMessage(
        vhost=vhost, type="received-call", routing_key="received-call.open", message_id=f"{number}:open",
        ordering_key=str(number), timestamp=1, callnumber=number, body=BODY,
    )  # fmt: skip


class Memory:
    """Keeps messages in memory, so that the broker's part is measured alone, and says when all are confirmed."""

    def __init__(self) -> None:
        self._left = 0
        self._stored: dict[int, StoredMessage] = {}
        self.is_empty = asyncio.Event()

    async def append(self, messages: Sequence[PublishMessage]) -> list[StoredMessage]:
        """Number them."""
        stored = [
            StoredMessage(
                seq=next(_numbers), vhost=one.vhost, ordering_key=one.ordering_key, message_id=one.message_id,
                type=one.type, routing_key=one.routing_key, timestamp=one.timestamp, callnumber=one.callnumber,
                body=one.body,
            )
            for one in messages
        ]  # fmt: skip
        self._stored |= {one.seq: one for one in stored}
        return stored

    def expect(self, messages: int) -> None:
        """So many confirms are awaited."""
        self._left += messages
        self.is_empty.clear()

    def confirm(self, seqs: Sequence[int]) -> None:
        """Forget, and count."""
        self._left -= len(seqs)
        for seq in seqs:
            self._stored.pop(seq, None)
        if self._left == 0:
            self.is_empty.set()

    async def pending_vhosts(self) -> list[str]:
        """None."""
        return []

    async def parked_vhosts(self) -> list[str]:
        """None."""
        return []

    async def parked_keys(self, vhost: str) -> set[str]:  # noqa: ARG002  # the store's signature
        """None."""
        return set()

    async def read_pending(self, vhost: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """What there was no room for when it was offered."""
        return [one for one in self._stored.values() if one.vhost == vhost and one.seq > after_seq][:limit]

    async def retry_parked(self, vhost: str, *, limit: int | None = None) -> list[int]:  # noqa: ARG002
        """None."""
        return []

    async def changed_outside(self) -> bool:
        """Never."""
        return False

    def note_failure(self, seq: int, reason: str) -> None:
        """A measurement with failures is none."""
        raise AssertionError(f"{seq}: {reason}")

    park = note_failure


class Disk(Memory):
    """The outbox itself, with its commits."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    async def append(self, messages: Sequence[PublishMessage]) -> list[StoredMessage]:
        """Commit."""
        return (await self._outbox.append(messages)).stored

    def confirm(self, seqs: Sequence[int]) -> None:
        """Delete, too."""
        self._outbox.confirm(seqs)
        super().confirm(seqs)

    async def read_pending(self, vhost: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Read."""
        return await self._outbox.read_pending(vhost, after_seq=after_seq, limit=limit)


class Delivery:
    """A broker in a loop of its own that runs only while something is delivered."""

    def __init__(self, url: str, *, window: int = 100, path: Path | None = None) -> None:
        self._runner = asyncio.Runner()
        self._outbox = Outbox(path) if path is not None else None
        self._runner.run(self._open(url, window))

    async def _open(self, url: str, window: int) -> None:
        known = Directory.of(mq_servers=[MqServer(name="mq1", url=url)])
        if self._outbox is not None:
            await self._outbox.open()
        self._store = Disk(self._outbox) if self._outbox is not None else Memory()
        store: MessageStore = self._store
        self._broker = Broker(store, known, evolve(SETTINGS, window=window), server="pbx", on_failure=self._fail)

    def _fail(self, error: BaseException) -> None:
        raise error

    def deliver(self, messages: Sequence[PublishMessage]) -> None:
        """Store, offer and wait for every confirm."""
        self._runner.run(self._deliver(messages))

    async def _deliver(self, messages: Sequence[PublishMessage]) -> None:
        self._store.expect(len(messages))
        self._broker.offer(await self._store.append(messages))
        await self._store.is_empty.wait()

    def connect(self, vhosts: Sequence[str]) -> None:
        """Open the connections of these vhosts and declare what is needed there."""
        self._runner.run(self._connect(vhosts))

    async def _connect(self, vhosts: Sequence[str]) -> None:
        for vhost in vhosts:
            self._broker._publisher(vhost)
        while not await self._broker.drain(120):
            pass

    def close(self) -> None:
        """Close everything."""
        self._runner.run(self._broker.close())
        if self._outbox is not None:
            self._runner.run(self._outbox.close())
        self._runner.close()


@pytest.mark.parametrize("is_stored", [False, True], ids=["broker", "outbox"])
def test_many_confirms_on_their_way(report: Report, rabbit: RabbitNode, tmp_path: Path, is_stored: bool) -> None:
    """A quorum queue, 500 bytes a message: a window of 100 against a window of 1, otherwise the same."""
    with ExitStack() as stack:

        def delivery(window: int) -> tuple[Delivery, str]:
            path = tmp_path / f"{window}.db" if is_stored else None
            made, vhost = Delivery(rabbit.url, window=window, path=path), rabbit.new_vhost()
            stack.callback(made.close)
            made.connect([vhost])
            return made, vhost

        one, many = delivery(1), delivery(100)

        def pairs() -> Iterator[Pair]:
            for _ in range(5):
                floor, subject = (
                    partial(made.deliver, [build(vhost, next(_numbers)) for _ in range(PIECE)])
                    for made, vhost in (one, many)
                )
                yield Pair(floor=floor, subject=subject)

        what = "with the outbox's commits" if is_stored else "window of 100 against 1"
        report.compare("P8", what, pairs, count=5 * PIECE, repeats=5, decides=not is_stored)


def test_three_hundred_vhosts_at_once(report: Report, rabbit: RabbitNode) -> None:
    """One message on each of 300 connections, against 300 messages on one; and before that, opening them all."""
    single, *others = (rabbit.new_vhost() for _ in range(VHOSTS + 1))
    with ExitStack() as stack:
        one, many = Delivery(rabbit.url), Delivery(rabbit.url)
        stack.callback(one.close)
        stack.callback(many.close)
        begin = time.perf_counter()
        many.connect(others)
        opened_s = time.perf_counter() - begin
        one.connect([single])

        def pairs() -> Iterator[Pair]:
            yield Pair(
                floor=partial(one.deliver, [build(single, next(_numbers)) for _ in others]),
                subject=partial(many.deliver, [build(vhost, next(_numbers)) for vhost in others]),
            )

        report.compare("P8 vhosts", f"one message on each of {VHOSTS} vhosts", pairs, count=VHOSTS, decides=False)
        subject = f"{opened_s * 1000 / VHOSTS:.1f} ms each"
        report.add("P8 open", f"open and declare {VHOSTS} vhosts", opened_s, subject=subject, decides=False)
