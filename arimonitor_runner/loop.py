"""The one loop: inputs into the core, its effects out of it.

Inputs are handled in batches, as many as wait. What a batch decided to publish is committed in one transaction, while
the next batch is already handled; nothing is offered to the sink before its commit. At most one commit is under way, so
a slow disk slows this loop down and never the task that reads Asterisk's socket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
import structlog
from attrs import asdict, define

from arimonitor_core.effects import Diagnostic, Effect, PrintEvent, PublishMessage
from arimonitor_core.inputs import DeadlineReached, Input
from arimonitor_runner.input_queue import InputQueue, now
from arimonitor_runner.sinks import Sink, StoredMessage

BATCH_MAX = 500
"""Inputs handled in one go; a few milliseconds, after which the reader gets its turn."""

_log = structlog.get_logger()


class Core(Protocol):
    """What the loop needs of `arimonitor_core.monitor.Monitor`."""

    def handle(self, item: Input, /) -> Sequence[Effect]:
        """Take one input; never raises on bad data."""
        ...

    def next_deadline(self) -> float | None:
        """When `DeadlineReached` is due, in Unix seconds."""
        ...


class Store(Protocol):
    """What the loop needs of the outbox."""

    async def append(self, messages: Sequence[PublishMessage], *, marks: Mapping[str, int] | None = None) -> Appended:
        """Commit messages to disk."""
        ...


class Appended(Protocol):
    """What a commit says of its messages."""

    @property
    def stored(self) -> Sequence[StoredMessage]:
        """To be delivered."""
        ...

    @property
    def parked(self) -> Sequence[StoredMessage]:
        """Kept, with nowhere to go."""
        ...

    @property
    def dropped(self) -> Sequence[str]:
        """message_ids with nowhere to go and of no use later."""
        ...

    @property
    def repeated(self) -> Sequence[str]:
        """message_ids that were there already."""
        ...

    @property
    def conflicting(self) -> Sequence[str]:
        """message_ids that were there with another body."""
        ...


class Observer:
    """Looks on: a live table, a test. Override what is of interest; whatever it does, it does at once."""

    def handled(self, item: Input, effects: Sequence[Effect]) -> None:
        """The core took an input and decided this."""

    def stored(self, messages: Sequence[StoredMessage]) -> None:
        """These messages are on disk and on their way."""


@define
class Counts:
    """What happened since the start."""

    inputs: int = 0
    batches: int = 0
    messages: int = 0
    repeated: int = 0
    conflicting: int = 0
    without_vhost: int = 0


def callnumber_mark(server: str) -> str:
    """Name of the outbox's mark for the highest call number of a server."""
    return f"callnumber/{server}"


class CoreLoop:
    """Runs the core. One task, no locks."""

    def __init__(
        self,
        core: Core,
        queue: InputQueue,
        store: Store,
        sink: Sink,
        *,
        server: str,
        default_vhost: str = "",
        observers: Sequence[Observer] = (),
        on_print: Callable[[PrintEvent], None] = lambda _event: None,
    ) -> None:
        """Join the parts.

        Args:
            core: decides.
            queue: where inputs come from.
            store: where messages are kept.
            sink: where they go.
            server: this PBX's name, for the call-number mark.
            default_vhost: vhost of messages that belong to no client.
            observers: told of everything.
            on_print: shows an event to the operator.
        """
        self._core = core
        self._queue = queue
        self._store = store
        self._sink = sink
        self._mark = callnumber_mark(server)
        self._default_vhost = default_vhost
        self._observers = tuple(observers)
        self._on_print = on_print
        self._commit: asyncio.Task[None] | None = None
        self._is_stopping = False
        self.counts = Counts()

    def statistics(self) -> dict[str, int]:
        """The counts, by name."""
        return asdict(self.counts)

    async def run(self) -> None:
        """Handle inputs as they come and deadlines as they pass, until `stop`. Do not cancel it: it holds messages."""
        try:
            while not self._is_stopping:
                await self._handle(await self._next_batch())
                # With inputs always waiting nothing above suspends, and the reader must have its turn.
                await asyncio.sleep(0)
            while batch := self._queue.take(BATCH_MAX):
                await self._handle(batch)
        finally:
            await self._committed()

    def stop(self) -> None:
        """Let `run` handle what waits in the queue, commit everything, and return."""
        self._is_stopping = True
        self._queue.wake()

    async def _next_batch(self) -> Sequence[Input]:
        """Wait for inputs; a deadline counts only when none waits, because an input deals with it as well."""
        while not (batch := self._queue.take(BATCH_MAX)) and not self._is_stopping:
            due = self._core.next_deadline()
            if due is None:
                await self._queue.wait()
                continue
            delay_s = due - time.time()
            if delay_s <= 0:
                return (DeadlineReached(received_at=max(now(), due)),)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._queue.wait()
        return batch

    async def _handle(self, batch: Sequence[Input]) -> None:
        """Run a batch through the core and see to its effects. What was decided is kept, also where the core fails."""
        messages: list[PublishMessage] = []
        try:
            for item in batch:
                effects = self._core.handle(item)
                for effect in effects:
                    if isinstance(effect, PublishMessage):
                        messages.append(effect)
                    else:
                        self._tell(effect)
                for observer in self._observers:
                    observer.handled(item, effects)
                self.counts.inputs += 1
        finally:
            if messages:
                await self._committed()
                self._commit = asyncio.create_task(self._publish(messages), name="commit")
        self.counts.batches += 1

    async def _committed(self) -> None:
        """Wait for the commit under way, if there is one; raises what it raised."""
        commit, self._commit = self._commit, None
        if commit is not None:
            await commit

    async def _publish(self, messages: list[PublishMessage]) -> None:
        """Store, then offer."""
        if self._default_vhost:
            messages = [m if m.vhost else msgspec.structs.replace(m, vhost=self._default_vhost) for m in messages]
        marks = {self._mark: max(message.callnumber for message in messages)}
        appended = await self._store.append(messages, marks=marks)
        self._sink.offer(appended.stored)
        for observer in self._observers:
            observer.stored(appended.stored)
        self._count(appended)

    def _count(self, appended: Appended) -> None:
        counts = self.counts
        counts.messages += len(appended.stored)
        counts.repeated += len(appended.repeated)
        counts.conflicting += len(appended.conflicting)
        counts.without_vhost += len(appended.parked) + len(appended.dropped)
        for message_id in appended.conflicting:
            _log.error(
                "a message was decided twice with different contents; the first one stays", message_id=message_id
            )
        for message in appended.parked:
            _log.warning(
                "call belongs to no client: its message is kept back (directory.default_vhost is not set)",
                message_id=message.message_id,
            )

    def _tell(self, effect: Diagnostic | PrintEvent) -> None:
        if isinstance(effect, PrintEvent):
            self._on_print(effect)
            return
        context = {"call": effect.call_id} if effect.call_id else {}
        getattr(_log, effect.severity)(effect.reason, detail=effect.detail, **context)
