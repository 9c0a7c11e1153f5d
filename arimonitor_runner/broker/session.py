"""One AMQP connection: a channel in confirm mode on which the messages of one vhost go out. The only user of pika.

pika calls back in the event loop; here its callbacks become awaitable steps while the session opens, and a few plain
calls (`SessionEvents`) afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
import pika.exceptions  # type: ignore[import-untyped]
from attrs import field, frozen
from pika.adapters.asyncio_connection import AsyncioConnection  # type: ignore[import-untyped]

from arimonitor_runner.sinks import StoredMessage

_CLOSE_S = 2.0
"""Seconds for a polite goodbye, after which the socket is dropped."""


class SessionError(Exception):
    """The connection could not be opened or is gone. The text is the broker's or the system's reason, no secret."""


class SessionEvents(Protocol):
    """What a session tells its user, called in the event loop."""

    def on_confirm(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        """The broker answered for the message with this tag, or for all up to it."""
        ...

    def on_returned(self, message_id: str, reason: str) -> None:
        """No queue took the message; its confirm follows."""
        ...

    def on_blocked(self, *, blocked: bool) -> None:
        """The broker is short of memory or disk and reads nothing for now; or it reads again."""
        ...


@frozen(kw_only=True)
class Target:
    """Where a session goes and what it needs there."""

    url: str = field(repr=False)
    """AMQP URL; its path is not used. Holds a password: never printed."""
    vhost: str
    exchange: str
    queue: str
    declare: bool
    """Make the exchange and the queue where they are missing."""
    connection_name: str
    app_id: str
    heartbeat_s: int
    connect_timeout_s: float
    blocked_timeout_s: float


class _Connection(AsyncioConnection):  # type: ignore[misc]  # pika ships no py.typed
    """Sends in one piece what is written within one turn of the event loop.

    pika hands every frame to the socket on its own, three for each message, and a system call costs more than all the
    rest that is done for a message.
    """

    def __init__(self, *arguments: Any, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        self._loop = loop
        self._pieces: list[bytes] = []
        super().__init__(*arguments, custom_ioloop=loop, **options)

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self._send_pieces)
        self._pieces.append(data)

    def _send_pieces(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        if self._transport is not None:  # the connection may have been dropped within this turn
            super()._adapter_emit_data(data)


class Session:
    """One connection, from `open` to the moment when `closed` is done."""

    def __init__(self, target: Target, events: SessionEvents) -> None:
        self._target = target
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._connection: Any = None
        self._channel: Any = None
        self._tag = 0
        self._step: asyncio.Future[Any] | None = None
        self._reason = ""
        self.closed: asyncio.Future[str] = self._loop.create_future()
        """Done when the socket is closed, for whatever reason; the result says why."""

    def publish(self, message: StoredMessage) -> int:
        """Send one message; gives the delivery tag that `on_confirm` will name.

        Raises SessionError where the connection is going down; the message was not sent then.
        """
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=2,
            message_id=message.message_id,
            type=message.type,
            app_id=self._target.app_id,
            timestamp=message.timestamp,
        )
        try:
            self._channel.basic_publish(
                self._target.exchange, message.routing_key, message.body, properties, mandatory=True
            )
        except pika.exceptions.AMQPError as error:
            raise SessionError(describe(error)) from error
        self._tag += 1
        return self._tag

    def drop(self, reason: str) -> None:
        """Drop the socket without a goodbye, for a peer that does not answer any more; `closed` follows at once.

        Saying goodbye on a stream that may hold half a message would only end in a protocol error.
        """
        if self._connection.is_closed:
            return
        self._reason = self._reason or reason
        # pika's public close() waits for an answer; this is what its own heartbeat checker calls.
        self._connection._terminate_stream(pika.exceptions.StreamLostError(reason))

    async def close(self) -> None:
        """Say goodbye and wait until the socket is closed."""
        if self._connection.is_open:
            self._connection.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.shield(self.closed)
        except TimeoutError:
            self.drop("no answer to close")
            await self.closed

    async def open(self) -> None:
        """Connect, switch to confirm mode, declare. Raises SessionError; nothing is left open then."""
        try:
            async with asyncio.timeout(self._target.connect_timeout_s):
                await self._do(self._connect)
                self._channel = await self._do(lambda done: self._connection.channel(on_open_callback=done))
                self._channel.add_on_close_callback(self._on_channel_closed)
                self._channel.add_on_return_callback(self._on_return)
                await self._do(lambda done: self._channel.confirm_delivery(self._on_confirm, callback=done))
                if self._target.declare:
                    await self._declare()
        except BaseException as error:
            await self._give_up()
            if isinstance(error, TimeoutError):
                raise SessionError(f"not open within {self._target.connect_timeout_s:g} s") from error
            raise

    async def declare(self) -> None:
        """Make exchange and queue again where somebody removed them. Raises SessionError; the session is over then."""
        try:
            async with asyncio.timeout(self._target.connect_timeout_s):
                await self._declare()
        except TimeoutError as error:
            self.drop(f"not declared within {self._target.connect_timeout_s:g} s")
            raise SessionError(self._reason) from error

    async def _declare(self) -> None:
        target, channel = self._target, self._channel
        await self._do(lambda done: channel.exchange_declare(target.exchange, "topic", durable=True, callback=done))
        kind = {"x-queue-type": "quorum"}
        await self._do(lambda done: channel.queue_declare(target.queue, durable=True, arguments=kind, callback=done))
        await self._do(lambda done: channel.queue_bind(target.queue, target.exchange, "#", callback=done))

    def _connect(self, done: Callable[[Any], None]) -> None:
        target = self._target
        parameters = pika.URLParameters(target.url)
        parameters.virtual_host = target.vhost
        parameters.heartbeat = target.heartbeat_s
        parameters.blocked_connection_timeout = target.blocked_timeout_s
        parameters.connection_attempts = 1
        parameters.socket_timeout = target.connect_timeout_s
        parameters.stack_timeout = target.connect_timeout_s
        parameters.client_properties = {"connection_name": target.connection_name}
        connection = _Connection(
            parameters,
            on_open_callback=done,
            on_open_error_callback=self._on_closed,
            on_close_callback=self._on_closed,
            loop=self._loop,
        )
        connection.add_on_connection_blocked_callback(lambda *_: self._events.on_blocked(blocked=True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._events.on_blocked(blocked=False))
        self._connection = connection

    async def _do(self, start: Callable[[Callable[[Any], None]], None]) -> Any:
        """Run one step of the opening; it ends with the answer that calls it back, or with the connection."""
        step = self._step = self._loop.create_future()

        def done(answer: Any) -> None:
            if not step.done():
                step.set_result(answer)

        try:
            start(done)
        except pika.exceptions.AMQPError as error:
            self._step = None
            raise SessionError(describe(error)) from error
        return await step

    async def _give_up(self) -> None:
        """Abort what was begun and wait until no socket is left."""
        connection = self._connection
        if connection is None or self.closed.done():
            return
        if connection.is_open:
            self.drop("given up")
        elif not connection.is_closing:
            connection.close()  # while it opens, this is pika's way to abort the attempt
        await self.closed

    def _on_closed(self, _connection: Any, error: Exception) -> None:
        self._end_step(describe(error))
        if not self.closed.done():
            self.closed.set_result(self._reason)

    def _on_channel_closed(self, _channel: Any, error: Exception) -> None:
        # Without its channel the connection is of no use. What the broker says here is the reason for all that follows.
        self._end_step(describe(error))
        if self._connection.is_open:
            self._connection.close()
            self._loop.call_later(_CLOSE_S, self.drop, "no answer to close")

    def _end_step(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._step is not None and not self._step.done():
            self._step.set_exception(SessionError(self._reason))

    def _on_confirm(self, frame: Any) -> None:
        answer = frame.method
        accepted = isinstance(answer, pika.spec.Basic.Ack)
        self._events.on_confirm(answer.delivery_tag, multiple=answer.multiple, accepted=accepted)

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        self._events.on_returned(properties.message_id, f"{method.reply_code} {method.reply_text}")


def describe(error: BaseException | None) -> str:
    """Say in one line why pika gave up: the innermost reason, which names no credentials."""
    if error is None:
        return "connection aborted"
    while True:
        inner = getattr(error, "exceptions", None) or [getattr(error, "exception", None)]
        wrapped = (
            inner[-1] if inner[-1] is not None else next((a for a in error.args if isinstance(a, Exception)), None)
        )
        if wrapped is None:
            break
        error = wrapped
    code, text = getattr(error, "reply_code", None), getattr(error, "reply_text", None)
    if code is not None:
        return f"{code} {text}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
