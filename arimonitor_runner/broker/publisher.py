"""Deliver the messages of one vhost: from the outbox, over a connection that comes and goes, to the confirm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from attrs import asdict, define, frozen

from arimonitor_runner.backoff import Backoff
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
        self._wake_up()

    async def settled(self) -> None:
        """Wait until nothing more can be delivered for now: all is confirmed, or the broker cannot be reached."""
        await self._settled.wait()

    async def run(self) -> None:
        """Deliver until cancelled; then say goodbye to the broker."""
        try:
            self._window.block(await self._store.parked_keys(self._vhost))
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
            self._log.info("connected to RabbitMQ", behind=self._behind, in_memory=self._window.held)
            self.counts.connections += 1
            self._blocked = False
            self._session = session
            self._active_at = self._loop.time()
            return session

    async def _serve(self, session: Session) -> None:
        """Deliver over one session until it ends."""
        tick_s = self._settings.confirm_timeout_s / 4
        while not session.closed.done():
            if self._behind and self._window.held <= self._capacity // 2:
                await self._read_page()
            self._pump()
            self._update_settled()
            if self._wake.done():
                self._wake = self._loop.create_future()
                if self._moved():
                    self._log.info("the vhost's server changed: connecting anew")
                    return
                continue
            await asyncio.wait({session.closed, self._wake}, timeout=tick_s, return_when=asyncio.FIRST_COMPLETED)
            self._watch_confirms(session)
            if self._is_idle():
                self._log.info("connection idle: closed until the next message")
                self._wanted.clear()
                return
        self.counts.failures += 1
        self._log.error("connection to RabbitMQ lost", reason=session.closed.result(), unconfirmed=len(self._sent))

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
        if session is None or self._blocked:
            return
        while (message := self._window.take()) is not None:
            try:
                tag = session.publish(message)
            except SessionError:
                return  # it is going down; `restart` gives the message back
            self._sent[tag] = _Sent(message, self._loop.time())
            self.counts.published += 1

    def on_confirm(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        """The broker answered: forget, park or repeat."""
        confirmed = []
        for sent in self._answered(tag, multiple=multiple):
            returned = self._returned.pop(sent.message.message_id, None)
            if returned is not None:
                self._park(sent.message, returned)
            elif accepted:
                self._window.confirm(sent.message)
                confirmed.append(sent.message.seq)
            else:
                self._refuse(sent.message)
        if confirmed:
            self.counts.confirmed += len(confirmed)
            self._store.confirm(confirmed)
            # A confirm is the proof that this connection works, which being open is not.
            self._backoff.reset()
            self._refusals.reset()
        self._active_at = self._loop.time()
        self._pump()
        if self._behind:
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

    def _answered(self, tag: int, *, multiple: bool) -> list[_Sent]:
        if not multiple:
            sent = self._sent.pop(tag, None)
            return [sent] if sent is not None else []
        return [self._sent.pop(earlier) for earlier in list(self._sent) if earlier <= tag]

    def _park(self, message: StoredMessage, reason: str) -> None:
        self.counts.returned += 1
        self._window.park(message)
        self._store.park(message.seq, f"returned: {reason}")
        self._log.error(
            "no queue takes this message: it is parked in the outbox, and the later ones of its call behind it",
            message_id=message.message_id,
            routing_key=message.routing_key,
            reason=reason,
        )

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
        unused = not self._behind and not self._window.held
        return bool(limit_s) and unused and self._loop.time() - self._active_at > limit_s

    def _forget(self) -> None:
        """The session is gone: what it had not confirmed goes again."""
        self._session = None
        self._sent.clear()
        self._returned.clear()
        self._window.restart()
        self._update_settled()

    def _wake_up(self) -> None:
        if not self._wake.done():
            self._wake.set_result(None)

    def _update_settled(self) -> None:
        delivered = self._session is not None and self._window.idle and not self._behind and not self._reading
        unreachable = self._session is None and (self._backoff.failures > 0 or not self._wanted.is_set())
        if delivered or unreachable:
            self._settled.set()
        else:
            self._settled.clear()
