"""A made-up RabbitMQ: it takes messages, confirms late, refuses, returns, blocks, and dies with what is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from attrs import Factory, define

from arimonitor_runner.broker.session import SessionError, SessionEvents, Target
from arimonitor_runner.sinks import StoredMessage
from tests.simulation.stand_ins import own_process
from tests.simulation.virtual_loop import VirtualLoop


@define(eq=False)
class Delivery:
    """A message that the broker took."""

    vhost: str
    message_id: str
    ordering_key: str
    type: str
    routing_key: str
    timestamp: int
    callnumber: int
    body: bytes
    at: float


@define(eq=False)
class Rabbit:
    """All vhosts."""

    loop: VirtualLoop
    random: Random
    slowest_s: float = 0.01
    """Longest way of a message or a confirm."""
    refusals: float = 0.0
    """Share of messages that are refused (nack) at first."""
    is_down: bool = False
    is_blocked: bool = False
    without_queue: set[str] = Factory(set)
    """Vhosts that somebody deleted the queue of: their messages come back, until it is declared again."""
    deliveries: list[Delivery] = Factory(list)
    sessions: list[VirtualSession] = Factory(list)
    deaths: int = 0
    refused: int = 0
    returned: int = 0

    def drop(self) -> None:
        """All connections break; what is under way is lost or not, and no confirm of it arrives."""
        for session in list(self.sessions):
            if session.die("connection reset"):
                self.deaths += 1

    def block(self, *, blocked: bool) -> None:
        """Short of memory, or no longer so."""
        self.is_blocked = blocked
        for session in list(self.sessions):
            session.tell_blocked()

    def bodies(self) -> dict[str, list[bytes]]:
        """The different bodies that each message_id came with."""
        found: dict[str, list[bytes]] = {}
        for one in self.deliveries:
            known = found.setdefault(one.message_id, [])
            if one.body not in known:
                known.append(one.body)
        return found


class VirtualSession:
    """In the place of the broker's `Session`."""

    rabbit: Rabbit
    """Of this world; set before it begins."""

    def __init__(self, target: Target, events: SessionEvents) -> None:
        self._target = target
        self._events = events
        self._loop = self.rabbit.loop
        self._process = own_process()
        self._process.on_death.append(lambda: self.die("process gone"))
        self._tag = 0
        self._is_open = False
        self._arrives_at = 0.0
        self._waiting: list[tuple[int, StoredMessage]] = []
        self.closed: asyncio.Future[str] = self._loop.create_future()

    async def open(self) -> None:
        """As `Session.open`."""
        await asyncio.sleep(self.rabbit.random.uniform(0.001, 0.05))
        if self.rabbit.is_down:
            raise SessionError("connection refused")
        self.rabbit.without_queue.discard(self._target.vhost)
        self._is_open = True
        self.rabbit.sessions.append(self)
        if self.rabbit.is_blocked:
            self.tell_blocked()

    async def declare(self) -> None:
        """As `Session.declare`: where messages came back, now there is a queue."""
        await asyncio.sleep(self.rabbit.random.uniform(0.001, 0.02))
        self.rabbit.without_queue.discard(self._target.vhost)

    def publish(self, message: StoredMessage) -> int:
        """As `Session.publish`."""
        if not self._is_open:
            raise SessionError("connection closed")
        self._tag += 1
        self._later(lambda tag=self._tag: self._arrive(tag, message))
        return self._tag

    def drop(self, reason: str) -> None:
        """As `Session.drop`."""
        self.die(reason)

    async def close(self) -> None:
        """As `Session.close`."""
        self.die("closed")

    def die(self, reason: str) -> bool:
        """No more of it; True if it was open. A message on its way may still have arrived."""
        if self.closed.done():
            return False
        was_open, self._is_open = self._is_open, False
        if self in self.rabbit.sessions:
            self.rabbit.sessions.remove(self)
        self.closed.set_result(reason)
        return was_open

    def tell_blocked(self) -> None:
        """The broker says whether it reads."""
        blocked = self.rabbit.is_blocked
        self._loop.call_outside(0.0, self._process.enter(lambda: self._tell_blocked(blocked=blocked)))
        if not blocked:
            waiting, self._waiting = self._waiting, []
            for tag, message in waiting:
                self._later(lambda tag=tag, message=message: self._arrive(tag, message))

    def _later(self, work: Callable[[], None]) -> None:
        """In the order of sending, each after a while; of a connection that broke some is swallowed."""
        self._arrives_at = max(
            self._arrives_at + 1e-6, self._loop.time() + self.rabbit.random.random() * self.rabbit.slowest_s
        )
        self._loop.call_outside(self._arrives_at - self._loop.time(), work)

    def _arrive(self, tag: int, message: StoredMessage) -> None:
        rabbit = self.rabbit
        if not self._is_open and rabbit.random.random() < 0.5:
            return
        if rabbit.is_blocked:
            self._waiting.append((tag, message))
            return
        accepted = rabbit.random.random() >= rabbit.refusals
        returned = accepted and self._target.vhost in rabbit.without_queue
        if returned:
            rabbit.returned += 1
        elif accepted:
            rabbit.deliveries.append(
                Delivery(self._target.vhost, message.message_id, message.ordering_key, message.type,
                         message.routing_key, message.timestamp, message.callnumber, message.body, self._loop.time())
            )  # fmt: skip
        else:
            rabbit.refused += 1
        message_id = message.message_id if returned else ""
        answer = self._process.enter(lambda: self._confirm(tag, accepted=accepted, returned=message_id))
        self._loop.call_outside(rabbit.random.random() * rabbit.slowest_s, answer)

    def _tell_blocked(self, *, blocked: bool) -> None:
        if self._is_open and self._process.is_alive:
            self._events.on_blocked(blocked=blocked)

    def _confirm(self, tag: int, *, accepted: bool, returned: str) -> None:
        if self._is_open and self._process.is_alive:
            if returned:
                self._events.on_returned(returned, "312 NO_ROUTE")
            self._events.on_confirm(tag, multiple=False, accepted=accepted)
