"""One member of a pair: it listens to the other one, and leads when RabbitMQ says so."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from attrs import asdict, evolve

from arimonitor_core.directory import Directory
from arimonitor_core.inputs import CallsNumbered
from arimonitor_runner.backoff import Backoff
from arimonitor_runner.broker.session import SessionError, Target
from arimonitor_runner.input_queue import now
from arimonitor_runner.outbox import Outbox
from arimonitor_runner.outbox_marks import callnumber_mark
from arimonitor_runner.pair.announcements import Announcement, encode_announcement
from arimonitor_runner.pair.ledger import Knowledge, Ledger
from arimonitor_runner.pair.link import Link, Place
from arimonitor_runner.pair.listener import Counts, Listener
from arimonitor_runner.pair.reign import DELIVERED_AT_ONCE, Reign
from arimonitor_runner.settings import BrokerSettings, PairSettings
from arimonitor_runner.sinks import MessageStore, Sink, StoredMessage

TOKEN_RENEWAL_S = 600.0
"""RabbitMQ lets a consumer keep a message for half an hour by default."""
MOMENTARY_MAX_S = 60
"""Age above which what was true at a moment is not told any more by who takes over."""
_LAST_WORDS_S = 2.0
"""Longest wait, when stopping, until the others were told of what was delivered last."""

_log = structlog.get_logger()


class PairedSink:
    """A sink that delivers while this member leads, and otherwise keeps everything in the outbox, up to date."""

    def __init__(  # noqa: PLR0913  # the parts are joined here
        self,
        outbox: Outbox,
        directory: Directory,
        settings: PairSettings,
        broker_settings: BrokerSettings,
        *,
        server: str,
        make_broker: Callable[[MessageStore, Directory], Sink],
        feed: Callable[[CallsNumbered], None],
        live_numbers: Callable[[], Mapping[str, int]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Name what it needs; nothing is opened yet.

        Args:
            outbox: where the messages are; open before `start`.
            directory: its first MQ server is where the members meet.
            settings: the pair.
            broker_settings: how connections are made.
            server: this PBX's name, equal for all members.
            make_broker: makes what delivers, for one leadership, on the store that it is given.
            feed: puts numbers that another member gave in front of the core. It must take them.
            live_numbers: callnumber by guid of the calls that the core follows and has numbered. Asked once, when the
                first leader of all begins.
            on_failure: told, in the event loop, of a crash.
        """
        self._outbox = outbox
        self._directory = directory
        self._settings = settings
        self._broker_settings = broker_settings
        self._server = server
        self._make_broker = make_broker
        self._feed = feed
        self._live_numbers = live_numbers
        self._on_failure = on_failure
        self._sender = f"{settings.member}/{secrets.token_hex(4)}"
        self._place = Place.of(server, settings.member, settings.members, settings.queue_bytes_max)
        self._ledger = Ledger(outbox, callnumber_mark=callnumber_mark(server))
        self.counts = Counts()
        self._listener = Listener(self._ledger, self._sender, self.counts, feed)
        self._backoff = Backoff(first_s=broker_settings.backoff_first_s, cap_s=broker_settings.backoff_max_s)
        self._log = _log.bind(member=settings.member)
        self._unannounced: list[int] = []
        self._target: Target | None = None
        self._link: Link | None = None
        self._reign: Reign | None = None
        self._broker: Sink | None = None
        self._task: asyncio.Task[None] | None = None

    # -- the sink ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to listen to the other members."""
        await self._ledger.open()
        self._task = asyncio.create_task(self._run(), name="pair")
        self._task.add_done_callback(self._on_done)

    def offer(self, messages: Sequence[StoredMessage]) -> None:
        """Hear of new messages; they stay in the outbox where this member does not lead."""
        if self._reign is not None:
            self._reign.offer(messages)

    def use_directory(self, directory: Directory) -> None:
        """Follow clients and servers that changed."""
        self._directory = directory
        if self._broker is not None:
            self._broker.use_directory(directory)
        with suppress(SessionError):  # nobody knows a better place
            if self._link is not None and self._find_target() != self._target:
                self._link.drop("the first MQ server changed")

    async def retry_parked(self, vhost: str | None = None) -> list[str]:
        """Try parked messages again where this member leads; the other one has no say."""
        return [] if self._broker is None else await self._broker.retry_parked(vhost)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until everything that can be delivered is, and the others know; at once where another member leads."""
        reign, broker = self._reign, self._broker
        if reign is None or broker is None:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await reign.settled()  # the broker has everything
                drained = await broker.drain(timeout_s)
                await reign.settled()  # the others know what is delivered
        except TimeoutError:
            return False
        return drained

    async def close(self) -> None:
        """Stop delivering, leave the leadership to another member and close all connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_leading(self) -> bool:
        """Does this member publish?"""
        return self._reign is not None

    def statistics(self) -> dict[str, int]:
        """What happened since the start, by name, and whether this member leads."""
        return {**asdict(self.counts), "leading": int(self.is_leading)}

    # -- the link ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Keep up a link until cancelled."""
        while True:
            link = self._link = await self._connect()
            try:
                await self._follow(link)
            finally:
                self._link = None
                await link.close()
            self.counts.failures += 1
            delay_s = self._backoff.next_delay_s()
            reason = link.closed.result()
            self._log.error("the pair's connection to RabbitMQ is lost", reason=reason, retry_in_s=round(delay_s, 2))
            await asyncio.sleep(delay_s)

    async def _connect(self) -> Link:
        while True:
            try:
                self._target = self._find_target()
                self._listener.start_over()
                link = Link(self._target, self._place, self._listener.on_announced)
                await link.open()
            except SessionError as error:
                self.counts.failures += 1
                delay_s = self._backoff.next_delay_s()
                self._log.error("the pair cannot meet in RabbitMQ", reason=str(error), retry_in_s=round(delay_s, 2))
                await asyncio.sleep(delay_s)
                continue
            self.counts.links += 1
            self._log.info("the pair's connection to RabbitMQ is up")
            return link

    def _find_target(self) -> Target:
        settings, pair = self._broker_settings, self._settings
        first = next(iter(self._directory.mq_servers.values()), None)
        if first is None:
            raise SessionError("the directory names no MQ server")
        return Target(
            url=first.url,
            vhost=pair.vhost,
            exchange=self._place.exchange,
            queue=self._place.own,
            declare=settings.declare,
            connection_name=f"arimonitor/{self._server} pair {pair.member}",
            app_id=f"arimonitor/{self._server}",
            heartbeat_s=pair.heartbeat_s,
            connect_timeout_s=settings.connect_timeout_s,
            blocked_timeout_s=settings.blocked_timeout_s,
        )

    async def _follow(self, link: Link) -> None:
        """Everything that is done over one link, until it is closed."""
        works = {"hear": self._hear(link), "beat": self._beat(link), "lead": self._lead(link)}
        tasks = [asyncio.create_task(work, name=f"pair: {name}") for name, work in works.items()]
        try:
            ends: set[asyncio.Future[Any]] = {link.closed, *tasks}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _hear(self, link: Link) -> None:
        highest = await self._outbox.mark(callnumber_mark(self._server))
        await link.announce(self._sign(hello=True, highest=highest))
        await self._listener.run(link)

    async def _beat(self, link: Link) -> None:
        """Prove again and again that RabbitMQ hears this member, and give the link up where it does not.

        RabbitMQ gives the leadership away when it has heard nothing for two heartbeats or more. What it confirmed it
        had heard, so as long as a heartbeat has not passed since that was sent, nobody else can lead.
        """
        loop = asyncio.get_running_loop()
        heartbeat_s = self._settings.heartbeat_s
        until = loop.time() + heartbeat_s
        while True:
            sent_at = loop.time()
            try:
                async with asyncio.timeout_at(until):
                    confirmed = await link.remark(self._listener.new_mark())
            except TimeoutError:
                link.drop(f"RabbitMQ confirmed nothing for {heartbeat_s} s")
                return
            if not confirmed:
                return
            until = sent_at + heartbeat_s
            self._backoff.reset()
            await asyncio.sleep(heartbeat_s / 4)

    # -- leading -----------------------------------------------------------------------------------------------

    async def _lead(self, link: Link) -> None:
        """Wait for the leadership, take over, and lead until the link is gone."""
        if not await self._tell_leftovers(link):
            return
        await link.leads
        known = await self._prepare(link)
        if known is None:
            return
        reign = Reign(self._outbox, self._ledger, link, known, sender=self._sender, on_numbered=self._on_numbered)
        broker = self._make_broker(reign, self._directory)
        reign.serve(broker)
        self._reign, self._broker, self._listener.reign = reign, broker, reign
        self.counts.leaderships += 1
        self._log.info("this member leads: it publishes from now on", term=known.term, highest=known.highest)
        announcing = asyncio.create_task(reign.run(), name="pair: announcements")
        try:
            await broker.start()
            while not announcing.done():
                await asyncio.wait({announcing}, timeout=TOKEN_RENEWAL_S)
                link.renew_token()
            announcing.result()
        finally:
            await self._abdicate(reign, broker, announcing)

    async def _abdicate(self, reign: Reign, broker: Sink, announcing: asyncio.Task[None]) -> None:
        """Publish no more. What is on its way may still be confirmed, and is told as long as there is a link."""
        self._reign = self._broker = self._listener.reign = None
        reign.stop()
        await broker.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await reign.settled()
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
        self._unannounced += reign.unannounced
        self._log.info("this member leads no more", unannounced=len(self._unannounced))

    async def _prepare(self, link: Link) -> Knowledge | None:
        """Learn all that the last leader said, and say who leads now. None: the link is gone."""
        self._log.info("RabbitMQ gives the leadership to this member: reading what was announced")
        if not await self._listener.read_up(link):
            return None
        known = await self._ledger.knowledge()
        numbers, highest = known.numbers, known.highest
        if not known.term:
            # Nobody ever led: then what this member told so far it told alone.
            numbers = await self._ledger.own_numbers() | {**self._live_numbers()}
            highest = await self._outbox.mark(callnumber_mark(self._server))
        known = evolve(known, term=known.term + 1, numbers=numbers, highest=max(highest, *numbers.values(), 0))
        if not await link.announce(self._sign(term=known.term, numbers=numbers, highest=known.highest)):
            return None
        await self._ledger.give(known.term, numbers, known.highest)
        dropped = await self._ledger.drop_momentary(int(time.time()) - MOMENTARY_MAX_S)
        if dropped:
            self._log.info("states of endpoints that are no longer news are not published", dropped=dropped)
        return known

    async def _tell_leftovers(self, link: Link) -> bool:
        """Say what was delivered when there was no link to say it on. False: there is none again."""
        while seqs := self._unannounced[:DELIVERED_AT_ONCE]:
            delivered = await self._ledger.describe(seqs)
            if delivered and not await link.announce(self._sign(delivered=tuple(delivered))):
                return False
            await self._ledger.forget(delivered)
            del self._unannounced[: len(seqs)]
        return True

    def _on_numbered(self, numbers: dict[str, int]) -> None:
        self._feed(CallsNumbered(received_at=now(), numbers=numbers))

    def _sign(self, **said: Any) -> bytes:
        """Write an announcement of this member."""
        return encode_announcement(Announcement(sender=self._sender, **said))

    def _on_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(error)
