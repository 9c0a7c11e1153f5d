"""One connection to the vhost where the members of a pair meet.

There is one queue for the leadership, which all members consume. RabbitMQ gives its messages to one of them alone, and
to another only when the first one's connection is gone (single active consumer); so who gets the message, the token,
leads. Its content says nothing, and nothing depends on how many there are: each member puts one in when it comes, and
the queue keeps no more than one waiting.

And there is one queue for each member, in which it finds what was announced, in order. These queues exist from the
first start of any member: what is announced while another one is away waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
import pika.exceptions  # type: ignore[import-untyped]
from attrs import frozen

from arimonitor_runner.broker.session import Session, Target

PREFETCH = 500
"""Announcements on their way to us or not yet acknowledged."""

_LEADERSHIP: dict[str, Any] = {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-max-length": 1}


@frozen(kw_only=True)
class Place:
    """Names in the vhost of a pair."""

    exchange: str
    leadership: str
    """Queue of the token."""
    own: str
    """Queue of what is announced to this member."""
    queues: tuple[str, ...]
    """Such queues of all members."""
    queue_bytes_max: int

    @classmethod
    def of(cls, server: str, member: str, members: Sequence[str], queue_bytes_max: int) -> Place:
        """The names for one server."""
        queues = {name: f"arimonitor.pair.{server}.{name}" for name in members}
        return cls(
            exchange=f"arimonitor.pair.{server}",
            leadership=f"arimonitor.leader.{server}",
            own=queues[member],
            queues=tuple(queues.values()),
            queue_bytes_max=queue_bytes_max,
        )


class Link(Session):
    """From `open` to the moment when `closed` is done.

    Two channels: what is announced is acknowledged up to a point, and the token must never be among it.
    """

    def __init__(self, target: Target, place: Place, on_announced: Callable[[int, bytes], None]) -> None:
        """Name where it goes; `on_announced` is called with each announcement and the tag to acknowledge it by."""
        super().__init__(target, self)
        self._place = place
        self._on_announced = on_announced
        self._token_channel: Any = None
        self._token_tag = 0
        self._unconfirmed: dict[int, asyncio.Future[bool]] = {}
        self.leads: asyncio.Future[None] = self._loop.create_future()
        """Done when RabbitMQ gave the token to this member."""
        self.closed.add_done_callback(self._on_end)

    def announce(self, body: bytes) -> asyncio.Future[bool]:
        """Tell all members. True: RabbitMQ has it on disk, for each of them; False: the link is gone."""
        return self._send(self._place.exchange, "", body)

    def remark(self, body: bytes) -> asyncio.Future[bool]:
        """Put something into the own queue, behind all that was announced before."""
        return self._send("", self._place.own, body)

    def acknowledge(self, tag: int) -> None:
        """Have the announcements up to this one forgotten."""
        if self._channel.is_open:
            self._channel.basic_ack(tag, multiple=True)

    def renew_token(self) -> None:
        """Take another token and give the old one up; the leadership stays where it is.

        RabbitMQ closes the channel of a consumer that keeps a message for too long (half an hour by default).
        """
        if self._token_tag and self._token_channel.is_open:
            self._put_token()
            self._token_channel.basic_ack(self._token_tag)
            self._token_tag = 0

    def on_confirm(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        """RabbitMQ answered for what was sent. A refusal is a fault of the queues, and ends the link."""
        tags = [sent for sent in self._unconfirmed if sent <= tag] if multiple else [tag]
        for answered in tags:
            future = self._unconfirmed.pop(answered, None)
            if future is not None and not future.done():
                future.set_result(accepted)
        if not accepted:
            self.drop("an announcement was refused")

    def on_returned(self, message_id: str, reason: str) -> None:
        """Nothing is sent that must be routed."""

    def on_blocked(self, *, blocked: bool) -> None:
        """What is not confirmed in time ends the link, whatever the reason."""

    async def _declare(self) -> None:
        place, channel = self._place, self._channel
        self._token_channel = await self._do(lambda done: self._connection.channel(on_open_callback=done))
        self._token_channel.add_on_close_callback(self._on_channel_closed)
        if self._target.declare:
            await self._declare_queues(channel)
        self._put_token()
        await self._consume(channel, place.own, PREFETCH, self._on_announcement)
        await self._consume(self._token_channel, place.leadership, 1, self._on_token)

    async def _declare_queues(self, channel: Any) -> None:
        place = self._place
        await self._do(lambda done: channel.exchange_declare(place.exchange, "fanout", durable=True, callback=done))
        # One consumer at a time: a connection that is half dead must not take a part of what its successor waits for.
        inbox = {
            "x-queue-type": "quorum",
            "x-single-active-consumer": True,
            "x-max-length-bytes": place.queue_bytes_max,
        }
        await self._declare_queue(channel, place.leadership, _LEADERSHIP)
        for name in place.queues:
            await self._declare_queue(channel, name, inbox)
            await self._bind_queue(channel, name)

    async def _declare_queue(self, channel: Any, name: str, kind: dict[str, Any]) -> None:
        await self._do(lambda done: channel.queue_declare(name, durable=True, arguments=kind, callback=done))

    async def _bind_queue(self, channel: Any, name: str) -> None:
        await self._do(lambda done: channel.queue_bind(name, self._place.exchange, "", callback=done))

    async def _consume(self, channel: Any, queue: str, prefetch: int, take: Callable[..., None]) -> None:
        channel.add_on_cancel_callback(lambda _frame: self.drop(f"the queue {queue} is gone"))
        await self._do(lambda done: channel.basic_qos(prefetch_count=prefetch, callback=done))
        await self._do(lambda done: channel.basic_consume(queue, take, callback=done))

    def _put_token(self) -> None:
        self._token_channel.basic_publish("", self._place.leadership, b"", pika.BasicProperties(delivery_mode=2))

    def _send(self, exchange: str, routing_key: str, body: bytes) -> asyncio.Future[bool]:
        sent: asyncio.Future[bool] = self._loop.create_future()
        properties = pika.BasicProperties(
            content_type="application/json", delivery_mode=2, app_id=self._target.app_id, type="pair"
        )
        try:
            self._channel.basic_publish(exchange, routing_key, body, properties)
        except pika.exceptions.AMQPError:  # it is going down
            sent.set_result(False)
            return sent
        self._tag += 1
        self._unconfirmed[self._tag] = sent
        return sent

    def _on_announcement(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._on_announced(method.delivery_tag, body)

    def _on_token(self, _channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        self._token_tag = method.delivery_tag
        if not self.leads.done():
            self.leads.set_result(None)

    def _on_end(self, _closed: asyncio.Future[str]) -> None:
        for sent in self._unconfirmed.values():
            if not sent.done():
                sent.set_result(False)
        self._unconfirmed.clear()
