"""Deliver the messages of one vhost: from the outbox, over a connection that comes and goes, to the confirm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from attrs import asdict, define, frozen

from arimonitor_runner.backoff import Backoff
from arimonitor_runner.broker.parking import Parking
from arimonitor_runner.broker.session import Session, SessionError, Target
from arimonitor_runner.broker.window import Window
from arimonitor_runner.settings import BrokerSettings
from arimonitor_runner.sinks import MessageStore, StoredMessage

_PAGES = 4
"""Messages kept in memory, in windows; the rest waits in the store."""


@define
class Counts:
    """What happened on one vhost since the start."""

    published: int = 0
    confirmed: int = 0
    refused: int = 0
    """Negative confirms; each message goes out again."""
    returned: int = 0
    """Taken by no queue, and parked."""
    connections: int = 0
    failures: int = 0
    """Connections that could not be opened or were lost."""

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


@frozen
class _Sent:
    message: StoredMessage
    at: float


class VhostPublisher:
    """One vhost. `run` is its task; everything else returns at once.

    Messages offered while it keeps up go straight out. Where it does not (no connection, memory full) they stay in the
    store, and it reads them from there, in order, when it can: `_behind` says that the store holds more than it took.
    With each connection, and when parked messages are tried again, it forgets what it took and reads anew: the store
    alone knows the order.
    """

    def __init__(
        self,
        vhost: str,
        store: MessageStore,
        settings: BrokerSettings,
        *,
        find_target: Callable[[], Target],
        await_slot: Callable[[], Awaitable[None]],
    ) -> None:
        """Name what it needs.

        `find_target` says where the vhost is just now, or raises SessionError; `await_slot` returns when it is this
        vhost's turn to open a connection.
        """
        self._store = store
        self._settings = settings
        self._find_target = find_target
        self._await_slot = await_slot
        self._vhost = vhost
        self._log = structlog.get_logger().bind(vhost=vhost)
        self._loop = asyncio.get_running_loop()
        self._window = Window(settings.window)
        self._capacity = settings.window * _PAGES
        self._backoff = Backoff(first_s=settings.backoff_first_s, cap_s=settings.backoff_max_s)
        self._parking = Parking(settings.parked_retry_s, is_hasty=settings.declare)
        self._refusals = Backoff(first_s=settings.backoff_first_s, cap_s=settings.backoff_max_s)
        self._session: Session | None = None
        self._target: Target | None = None
        self._blocked = False
        self._sent: dict[int, _Sent] = {}
        self._returned: dict[str, str] = {}
        self._retries: set[asyncio.TimerHandle] = set()
        self._cursor = 0
        self._behind = True
        self._reading = False
        self._stale = True
        self._starting_over = False
        self._active_at = self._loop.time()
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._wake = self._loop.create_future()
        self._settled = asyncio.Event()
        self.counts = Counts()

    def offer(self, messages: Sequence[StoredMessage]) -> None:
        """Hear of new messages in the store, later in order than all before."""
        self._wanted.set()
        if self._session is None or self._behind or self._reading:
            self._behind = True
            self._wake_up()
        else:
            for message in messages:
                if self._window.held >= self._capacity:
                    self._behind = True
                    break
                self._take_up(message)
            self._pump()
        self._update_settled()

    def retarget(self) -> None:
        """Look again where the vhost is; a connection to another place than that is closed."""
        if self._window.is_blocked:
            self._parking.ask(self._loop.time(), limit=1)
        self._wake_up()

    def retry_parked(self) -> None:
        """Try all parked messages again, now."""
        self._parking.ask(self._loop.time(), limit=None)
        self.start_over()

    def start_over(self) -> None:
        """Read anew what the store holds: somebody else changed it."""
        self._stale = self._behind = True
        self._wanted.set()
        self._wake_up()
        self._update_settled()

    async def settled(self) -> None:
        """Wait until nothing more can be delivered for now: all is confirmed, or the broker cannot be reached."""
        await self._settled.wait()

    async def run(self) -> None:
        """Deliver until cancelled; then say goodbye to the broker."""
        try:
            while True:
                await self._wanted.wait()
                session = await self._connect()
                try:
                    await self._serve(session)
                finally:
                    await session.close()
                    self._forget()
                if self._wanted.is_set():
                    await asyncio.sleep(self._backoff.next_delay_s())
        finally:
            for timer in self._retries:
                timer.cancel()

    async def _connect(self) -> Session:
        """Open a session, however often it takes."""
        while True:
            try:
                self._target = self._find_target()
                await self._await_slot()
                session = Session(self._target, self)
                await session.open()
            except SessionError as error:
                self.counts.failures += 1
                delay_s = self._backoff.next_delay_s()
                self._log.error("no connection to RabbitMQ", reason=str(error), retry_in_s=round(delay_s, 2))
                self._update_settled()
                await asyncio.sleep(delay_s)
                continue
            self._log.info("connected to RabbitMQ")
            self.counts.connections += 1
            self._blocked = False
            self._session = session
            self._active_at = self._loop.time()
            self._parking.ask(self._loop.time(), limit=1)
            return session

    async def _serve(self, session: Session) -> None:
        """Deliver over one session until it ends."""
        try:
            await self._start_over()
            await self._deliver(session)
        except SessionError as error:
            self.counts.failures += 1
            self._log.error("connection to RabbitMQ lost", reason=str(error), unconfirmed=len(self._sent))

    async def _deliver(self, session: Session) -> None:
        """Deliver until the connection is not wanted any more. Raises SessionError where it is lost."""
        tick_s = self._settings.confirm_timeout_s / 4
        while not session.closed.done():
            await self._catch_up(session)
            self._pump()
            self._update_settled()
            if self._wake.done():
                self._wake = self._loop.create_future()
                if self._moved():
                    self._log.info("the vhost's server changed: connecting anew")
                    return
                continue
            timeout_s = tick_s if self._stale else min(tick_s, max(0.0, self._parking.due_at - self._loop.time()))
            await asyncio.wait({session.closed, self._wake}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            self._watch_confirms(session)
            if self._is_idle():
                self._log.info("connection idle: closed until the next message")
                self._wanted.clear()
                return
        raise SessionError(session.closed.result())

    async def _catch_up(self, session: Session) -> None:
        """Take from the store what should be in memory and is not."""
        is_due = self._loop.time() >= self._parking.due_at
        if is_due:
            self._stale = self._behind = True
        # What is in flight is answered first: its messages are still in the store and would go out twice.
        if self._stale and not self._window.in_flight and not self._blocked:
            if is_due and self._settings.declare:
                await session.declare()
            await self._start_over()
        if self._behind and not self._stale and self._window.held <= self._capacity // 2:
            await self._read_page()

    async def _start_over(self) -> None:
        """Begin anew with what the store holds, with parked messages among it where their next attempt is due."""
        self._stale, self._starting_over = False, True
        self._behind = True
        if self._loop.time() >= self._parking.due_at:
            seqs = await self._store.retry_parked(self._vhost, limit=self._parking.limit)
            if seqs:
                self._log.info("parked messages are tried again", messages=len(seqs))
            self._parking.begin(seqs)
        self._window.restart(await self._store.parked_keys(self._vhost))
        self._cursor = 0
        self._starting_over = False

    async def _read_page(self) -> None:
        """Take from the store what is next, as much as memory allows."""
        self._behind, self._reading = False, True
        limit = self._capacity - self._window.held
        page = await self._store.read_pending(self._vhost, after_seq=self._cursor, limit=limit)
        self._reading = False
        for message in page:
            self._take_up(message)
        if len(page) == limit:
            self._behind = True

    def _take_up(self, message: StoredMessage) -> None:
        if message.seq > self._cursor:
            self._cursor = message.seq
            self._window.add(message)

    def _pump(self) -> None:
        """Send all that may go."""
        session = self._session
        if session is None or self._blocked or self._stale or self._starting_over:
            return
        while (message := self._window.take()) is not None:
            try:
                tag = session.publish(message)
            except SessionError:
                return  # it is going down; the next session reads the message again
            self._sent[tag] = _Sent(message, self._loop.time())
            self.counts.published += 1

    def on_confirm(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        """The broker answered: forget, park or repeat."""
        now = self._loop.time()
        confirmed = []
        for sent in self._answered(tag, multiple=multiple):
            returned = self._returned.pop(sent.message.message_id, None)
            if returned is not None:
                self._park(sent.message, returned)
            elif accepted:
                self._window.confirm(sent.message)
                confirmed.append(sent.message.seq)
                if self._parking.note_delivered(sent.message.seq, now):
                    self._stale = self._behind = True
            else:
                self._refuse(sent.message)
        if confirmed:
            self.counts.confirmed += len(confirmed)
            self._store.confirm(confirmed)
            # A confirm is the proof that this connection works, which being open is not.
            self._backoff.reset()
            self._refusals.reset()
        self._active_at = now
        self._pump()
        if self._behind or self._stale:
            self._wake_up()
        self._update_settled()

    def on_returned(self, message_id: str, reason: str) -> None:
        """No queue took it; what to do follows with its confirm."""
        self._returned[message_id] = reason

    def on_blocked(self, *, blocked: bool) -> None:
        """The broker reads nothing for a while, or again."""
        self._blocked = blocked
        if blocked:
            self._log.warning("RabbitMQ blocks: it is short of memory or disk")
            return
        self._log.info("RabbitMQ reads again")
        now = self._loop.time()
        self._sent = {tag: _Sent(sent.message, now) for tag, sent in self._sent.items()}
        self._pump()
        self._wake_up()

    def _answered(self, tag: int, *, multiple: bool) -> list[_Sent]:
        if not multiple:
            sent = self._sent.pop(tag, None)
            return [sent] if sent is not None else []
        return [self._sent.pop(earlier) for earlier in list(self._sent) if earlier <= tag]

    def _park(self, message: StoredMessage, reason: str) -> None:
        self.counts.returned += 1
        was_blocked = self._window.is_blocked
        self._window.park(message)
        self._store.park(message.seq, f"returned: {reason}")
        was_tried = self._parking.note_parked(message.seq, self._loop.time())
        # One alarm for a cause; the others of it are in the outbox for everybody to see.
        tell = self._log.info if was_blocked or was_tried else self._log.error
        tell(
            "no queue takes this message: it is parked in the outbox, and the later ones of its call behind it",
            message_id=message.message_id,
            routing_key=message.routing_key,
            reason=reason,
        )
        self._wake_up()

    def _refuse(self, message: StoredMessage) -> None:
        self.counts.refused += 1
        self._window.hold(message)
        self._store.note_failure(message.seq, "refused by the broker")
        delay_s = self._refusals.next_delay_s()
        self._log.warning("RabbitMQ refused a message", message_id=message.message_id, retry_in_s=round(delay_s, 2))

        def retry() -> None:
            self._retries.discard(timer)
            self._window.release(message)
            self._pump()
            self._update_settled()  # it is on its way again: who drains has to wait for its confirm

        timer = self._loop.call_later(delay_s, retry)
        self._retries.add(timer)

    def _watch_confirms(self, session: Session) -> None:
        """Drop a connection that swallows messages without an answer."""
        oldest = next(iter(self._sent.values()), None)
        if oldest is None or self._blocked or session.closed.done():
            return
        if self._loop.time() - oldest.at > self._settings.confirm_timeout_s:
            session.drop(f"no confirm within {self._settings.confirm_timeout_s:g} s")

    def _moved(self) -> bool:
        try:
            return self._find_target() != self._target
        except SessionError:
            return False  # nobody knows a better place

    def _is_idle(self) -> bool:
        limit_s = self._settings.idle_close_s
        unused = not self._behind and not self._window.held and not self._window.is_blocked
        return bool(limit_s) and unused and self._loop.time() - self._active_at > limit_s

    def _forget(self) -> None:
        """The session is gone: what it had not confirmed goes again."""
        self._session = None
        self._sent.clear()
        self._returned.clear()
        self._window.restart(())
        self._stale = self._behind = True
        self._update_settled()

    def _wake_up(self) -> None:
        if not self._wake.done():
            self._wake.set_result(None)

    def _update_settled(self) -> None:
        is_read = not (self._behind or self._reading or self._stale or self._starting_over)
        delivered = self._session is not None and self._window.idle and is_read
        unreachable = self._session is None and (self._backoff.failures > 0 or not self._wanted.is_set())
        if delivered or unreachable:
            self._settled.set()
        else:
            self._settled.clear()
