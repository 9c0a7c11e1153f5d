"""The one loop: inputs into the journal and the core, its effects out of it.

Inputs are handled in batches, as many as wait. A batch is in the journal before the core sees it. What it decided to
publish is committed in one transaction, together with a mark that says how far in the journal that was; the next batch
is handled meanwhile. Nothing is offered to the sink before its commit. At most one commit is under way, so a slow disk
slows this loop down and never the task that reads Asterisk's socket.

So after a crash at any instant the journal has every input that can have had an effect, and the mark says which of
their effects are done: what lies above it is decided again, to the same bytes, and stored then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
import structlog
from attrs import asdict, define, frozen

from arimonitor_core.effects import Diagnostic, Effect, LastingEffect, PrintEvent, PublishMessage, StoreRecordings
from arimonitor_core.inputs import DeadlineReached, Input
from arimonitor_runner.input_queue import InputQueue
from arimonitor_runner.outbox_marks import callnumber_mark, journal_mark
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

    async def append(self, effects: Sequence[LastingEffect], *, marks: Mapping[str, int] | None = None) -> Appended:
        """Commit messages, and what they wait for, to disk."""
        ...


class Journal(Protocol):
    """What the loop needs of the journal."""

    def append(self, records: Sequence[Input]) -> Awaitable[int]:
        """Write inputs down, beginning at once; gives the position of the last one."""
        ...

    async def secure(self) -> None:
        """Have what was written down survive a power cut, as far as the operator wants that."""
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
    def waiting(self) -> Sequence[str]:
        """message_ids that wait for their recordings."""
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


@frozen
class _Batch:
    """Inputs on their way through the journal to the core."""

    inputs: Sequence[Input]
    position: asyncio.Future[int]
    """Done when they are written down: journal position of the last one."""


@define
class Checkpoints:
    """When and how the core's state is kept, so that a restart need not begin at the beginning."""

    take: Callable[[], bytes]
    """The state as it is now; called between two inputs."""
    keep: Callable[[int, bytes], Awaitable[None]]
    """Keep the state that belongs to a journal position."""
    interval_s: float
    first_s: float = 10.0
    """Sooner after a start: should it crash again and again, the journal to be replayed does not grow each time."""


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
    faults: int = 0
    """Inputs that the core failed at."""
    batches: int = 0
    checkpoints: int = 0
    messages: int = 0
    repeated: int = 0
    conflicting: int = 0
    without_vhost: int = 0


class CoreLoop:
    """Runs the core. One task, no locks."""

    def __init__(  # noqa: PLR0913  # the parts are joined here
        self,
        core: Core,
        queue: InputQueue,
        store: Store,
        sink: Sink,
        *,
        server: str,
        journal: Journal,
        checkpoints: Checkpoints | None = None,
        clock: Callable[[], float] = time.time,
        default_vhost: str = "",
        observers: Sequence[Observer] = (),
        on_print: Callable[[PrintEvent], None] = lambda _event: None,
        on_recordings: Callable[[], None] | None = None,
    ) -> None:
        """Join the parts.

        Args:
            core: decides.
            queue: where inputs come from.
            store: where messages are kept.
            sink: where they go.
            server: this PBX's name, for the marks.
            journal: where inputs are written down first.
            checkpoints: keeps the core's state now and then.
            clock: Unix seconds.
            default_vhost: vhost of messages that belong to no client.
            observers: told of everything.
            on_print: shows an event to the operator.
            on_recordings: told that recordings to be stored are in the store; without it none are.
        """
        self._core = core
        self._queue = queue
        self._store = store
        self._sink = sink
        self._journal = journal
        self._checkpoints = checkpoints
        self._clock = clock
        self._callnumber_mark = callnumber_mark(server)
        self._journal_mark = journal_mark(server)
        self._default_vhost = default_vhost
        self._observers = tuple(observers)
        self._on_print = on_print
        self._on_recordings = on_recordings
        self._upcoming: _Batch | None = None
        self._commit: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._checkpoint_at = clock() + checkpoints.first_s if checkpoints is not None else float("inf")
        self._asked: list[asyncio.Future[int]] = []
        self._is_stopping = False
        self.position = 0
        """Journal position of the last input handled; 0 before the first one."""
        self.counts = Counts()

    def statistics(self) -> dict[str, int]:
        """The counts, by name."""
        return asdict(self.counts)

    async def resume(self, effects: Sequence[tuple[int, LastingEffect]]) -> None:
        """Store what a crash kept from being stored: effects with the positions of the inputs that caused them."""
        if effects:
            await self._publish([effect for _, effect in effects], effects[-1][0])

    async def run(self) -> None:
        """Handle inputs as they come and deadlines as they pass, until `stop`. Do not cancel it: it holds messages."""
        try:
            while not self._is_stopping:
                await self._handle(self._upcoming or self._write(await self._next_inputs()))
                if self._is_checkpoint_due():
                    await self._checkpoint()
                # With inputs always waiting nothing above suspends, and the reader must have its turn.
                await asyncio.sleep(0)
            while batch := self._upcoming or self._write(self._queue.take(BATCH_MAX)):
                await self._handle(batch)
            if self._checkpoints is not None and self.position:
                await self._checkpoint()
        finally:
            if self._upcoming is not None:
                self._upcoming.position.cancel()  # it failed, and nobody else will hear how that went
            await self._committed()
            await self._kept()

    def stop(self) -> None:
        """Let `run` handle what waits in the queue, commit everything, keep the state, and return."""
        self._is_stopping = True
        self._queue.wake()

    async def checkpoint(self) -> int:
        """Have the state kept now; gives its position. Raises RuntimeError where no checkpoints are kept."""
        if self._checkpoints is None:
            raise RuntimeError("this loop keeps no checkpoints")
        asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._queue.wake()
        return await asked

    async def _next_inputs(self) -> Sequence[Input]:
        """Wait for inputs; a deadline counts only when none waits, because an input deals with it as well."""
        while not (batch := self._queue.take(BATCH_MAX)) and not self._is_stopping and not self._asked:
            due = self._core.next_deadline()
            if due is None:
                await self._queue.wait()
                continue
            now = self._clock()
            if now >= due:
                return (DeadlineReached(received_at=max(_whole_microseconds(now), due)),)
            with suppress(TimeoutError):
                async with asyncio.timeout(due - now):
                    await self._queue.wait()
        return batch

    def _write(self, inputs: Sequence[Input]) -> _Batch | None:
        """Begin to write inputs down; None where there are none."""
        return _Batch(inputs, asyncio.ensure_future(self._journal.append(inputs))) if inputs else None

    async def _handle(self, batch: _Batch | None) -> None:
        """Wait until a batch is written down, run it through the core and see to its effects."""
        if batch is None:
            return
        self._upcoming = None
        position = await batch.position
        # The journal's thread writes the next inputs down while the core is busy with these.
        self._upcoming = self._write(self._queue.take(BATCH_MAX))
        lasting: list[LastingEffect] = []
        for item in batch.inputs:
            effects = self._decide(item)
            for effect in effects:
                if isinstance(effect, LastingEffect):
                    lasting.append(effect)
                else:
                    self._tell(effect)
            for observer in self._observers:
                observer.handled(item, effects)
        self.position = position
        self.counts.inputs += len(batch.inputs)
        self.counts.batches += 1
        if lasting:
            await self._committed()
            self._commit = asyncio.create_task(self._publish(lasting, position), name="commit")

    def _decide(self, item: Input) -> Sequence[Effect]:
        """Ask the core. One that fails at an input would fail at it again after every restart: so the loop goes on."""
        try:
            return self._core.handle(item)
        except Exception:
            self.counts.faults += 1
            _log.exception("the core failed at an input; it is in the journal", kind=type(item).__name__)
            return ()

    async def _committed(self) -> None:
        """Wait for the commit under way, if there is one; raises what it raised."""
        commit, self._commit = self._commit, None
        if commit is not None:
            await commit

    async def _publish(self, effects: list[LastingEffect], position: int) -> None:
        """Store, then offer."""
        if self._on_recordings is None:
            effects = [effect for effect in effects if isinstance(effect, PublishMessage)]
        if self._default_vhost:
            effects = [e if e.vhost else msgspec.structs.replace(e, vhost=self._default_vhost) for e in effects]
        numbers = max(effect.callnumber for effect in effects)
        marks = {self._callnumber_mark: numbers, self._journal_mark: position}
        # A message must not outlive, in a power cut, the inputs that it was decided from.
        await self._journal.secure()
        appended = await self._store.append(effects, marks=marks)
        self._sink.offer(appended.stored)
        if self._on_recordings is not None and any(isinstance(effect, StoreRecordings) for effect in effects):
            self._on_recordings()
        for observer in self._observers:
            observer.stored(appended.stored)
        self._count(appended)

    def _is_checkpoint_due(self) -> bool:
        return bool(self._asked) or self._clock() >= self._checkpoint_at

    async def _checkpoint(self) -> None:
        """Keep the state as it is now, in the background.

        A state is kept only once all its effects are stored, and all its inputs survive what it survives.
        """
        checkpoints = self._checkpoints
        assert checkpoints is not None  # noqa: S101  # our own invariant: without them none is ever due
        await self._kept()
        position, document = self.position, checkpoints.take()
        await self._committed()
        await self._journal.secure()
        asked, self._asked = self._asked, []
        self._keeping = asyncio.create_task(self._keep(position, document, asked), name="checkpoint")
        self._checkpoint_at = self._clock() + checkpoints.interval_s

    async def _keep(self, position: int, document: bytes, asked: Sequence[asyncio.Future[int]]) -> None:
        """A state that cannot be kept is no harm: the journal is what counts."""
        assert self._checkpoints is not None  # noqa: S101  # see `_checkpoint`
        try:
            await self._checkpoints.keep(position, document)
        except OSError as error:
            _log.error("the snapshot could not be written; the journal goes on", reason=str(error))
            _answer(asked, error)
        else:
            self.counts.checkpoints += 1
            _answer(asked, position)

    async def _kept(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            await keeping

    def _count(self, appended: Appended) -> None:
        counts = self.counts
        counts.messages += len(appended.stored) + len(appended.waiting)
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


def _whole_microseconds(seconds: float) -> float:
    """A time that a record can hold."""
    return round(seconds, 6)


def _answer(asked: Sequence[asyncio.Future[int]], result: int | OSError) -> None:
    for future in asked:
        if future.done():
            continue
        if isinstance(result, int):
            future.set_result(result)
        else:
            future.set_exception(result)
