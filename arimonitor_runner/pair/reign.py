"""What the leader of a pair does: its broker delivers, and the other members hear of it.

A call's number is announced, and confirmed to be on disk, before any message goes out that carries it: whoever leads
next knows it. A delivered message stays in the outbox until the others have been told: so a repeat is possible, a loss
is not. Both are gathered while one announcement is on its way, and go with the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec
import structlog

from arimonitor_core.messages import renumber
from arimonitor_runner.outbox import Outbox
from arimonitor_runner.pair.announcements import Announcement, Delivered, encode_announcement
from arimonitor_runner.pair.ledger import Knowledge, Ledger
from arimonitor_runner.sinks import Sink, StoredMessage

DELIVERED_AT_ONCE = 500
"""Delivered messages told of in one announcement; some 60 kB."""

_log = structlog.get_logger()


class Announcer(Protocol):
    """What a reign needs of the link."""

    def announce(self, body: bytes) -> asyncio.Future[bool]:
        """Tell all members. False: the link is gone."""
        ...


class Reign:
    """One leadership, from the token to the loss of the link. For its broker it is the store.

    `run` is its task. It begins with `serve` and ends with `stop`.
    """

    def __init__(
        self,
        outbox: Outbox,
        ledger: Ledger,
        link: Announcer,
        known: Knowledge,
        *,
        sender: str,
        on_numbered: Callable[[dict[str, int]], None],
    ) -> None:
        """Name what it needs.

        Args:
            outbox: where the messages are.
            ledger: where it is written down what was announced.
            link: where it is announced.
            known: the numbers, and the highest of them; its term is this leadership's own.
            sender: how announcements are signed.
            on_numbered: told of calls that had to be given another number than the core's.
        """
        self._outbox = outbox
        self._ledger = ledger
        self._link = link
        self.term = known.term
        self._highest = known.highest
        self._numbers = known.numbers
        self._sender = sender
        self._on_numbered = on_numbered
        self._broker: Sink | None = None
        self._offered: list[StoredMessage] = []
        self._pages: list[tuple[list[StoredMessage], asyncio.Future[list[StoredMessage]]]] = []
        self._is_announcing = False
        self._is_asked = False
        self._is_over = False
        self._work = asyncio.Event()
        self._settled = asyncio.Event()
        self.unannounced: list[int] = []
        """`seq` of messages that the clients' broker confirmed and the other members were not told of yet."""

    def serve(self, broker: Sink) -> None:
        """Take the broker that messages go to."""
        self._broker = broker

    def stop(self) -> None:
        """Give the broker nothing any more. What it still confirms is told while there is a link."""
        self._broker = None
        self._offered.clear()

    def offer(self, messages: Sequence[StoredMessage]) -> None:
        """Hand new messages on as soon as their calls' numbers are known to all."""
        if self._broker is None:
            return
        waiting = self._is_announcing or self._offered or self._pages
        if not waiting and all(self._is_known(message) for message in messages):
            self._broker.offer(messages)
        else:
            self._offered += messages
            self._wake()

    def tell_all(self) -> None:
        """Announce all numbers of calls that go on: somebody came who does not know them."""
        self._is_asked = True
        self._wake()

    def skip_numbers(self, highest: int) -> None:
        """Give no number up to this one any more: another member has used them."""
        self._highest = max(self._highest, highest)

    async def settled(self) -> None:
        """Wait until nothing is left to be announced or handed on, or nothing can be any more."""
        await self._settled.wait()

    async def run(self) -> None:
        """Announce what has to be, until the link is gone."""
        try:
            while await self._round_if_needed():
                pass
        finally:
            self._is_over = True
            self._settled.set()

    async def _round_if_needed(self) -> bool:
        """Wait for something to announce, and announce it. False: the link is gone."""
        if not (self._offered or self._pages or self.unannounced or self._is_asked):
            self._is_announcing = False
            self._settled.set()
            await self._work.wait()
        self._work.clear()
        self._is_announcing = True
        return await self._round()

    async def _round(self) -> bool:
        """One announcement, and what waited for it. False: the link is gone."""
        offered, self._offered = self._offered, []
        pages, self._pages = self._pages, []
        seqs = self.unannounced[:DELIVERED_AT_ONCE]
        is_asked, self._is_asked = self._is_asked, False
        messages = [*offered, *(message for page, _ in pages for message in page)]
        numbers = await self._number(messages)
        delivered = await self._ledger.describe(seqs) if seqs else []
        if numbers or delivered or is_asked:
            announcement = Announcement(
                sender=self._sender,
                term=self.term,
                numbers=self._numbers | numbers if is_asked else numbers,
                highest=self._highest if is_asked else 0,
                delivered=tuple(delivered),
            )
            if not await self._link.announce(encode_announcement(announcement)):
                return False
        await self._write_down(messages, numbers)
        if self._broker is not None and offered:
            self._broker.offer([self._numbered(message) for message in offered])
        for page, answer in pages:
            if not answer.done():
                answer.set_result([self._numbered(message) for message in page])
        await self._forget(seqs, delivered)
        return True

    async def _forget(self, seqs: Sequence[int], delivered: Sequence[Delivered]) -> None:
        """All have heard that these are delivered."""
        if not seqs:
            return
        await self._ledger.forget(delivered)
        del self.unannounced[: len(seqs)]
        for item in delivered:
            if item.covers == "call":
                self._numbers.pop(item.ordering_key, None)

    async def _number(self, messages: Iterable[StoredMessage]) -> dict[str, int]:
        """Give a number to each call that nobody numbered yet: its own where it cannot be another call's."""
        unknown = [message for message in messages if message.callnumber and message.ordering_key not in self._numbers]
        if not unknown:
            return {}
        self._numbers |= await self._ledger.find_numbers({message.ordering_key for message in unknown})
        numbers: dict[str, int] = {}
        for message in sorted(unknown, key=lambda message: message.seq):
            guid = message.ordering_key
            if guid not in self._numbers and guid not in numbers:
                numbers[guid] = max(message.callnumber, self._highest + 1)
                self._highest = numbers[guid]
        return numbers

    async def _write_down(self, messages: Iterable[StoredMessage], numbers: dict[str, int]) -> None:
        """Numbers that all have heard of now hold for every message of their calls."""
        self._numbers |= numbers
        other = {
            message.ordering_key: self._numbers[message.ordering_key]
            for message in messages
            if message.callnumber and self._numbers[message.ordering_key] != message.callnumber
        }
        if numbers or other:
            await self._ledger.give(self.term, other | numbers)
        if other:
            _log.info("calls were given other numbers than this member's own", calls=len(other))
            self._on_numbered(other)

    def _is_known(self, message: StoredMessage) -> bool:
        return message.callnumber == self._numbers.get(message.ordering_key, 0)

    def _numbered(self, message: StoredMessage) -> StoredMessage:
        if not message.callnumber or self._is_known(message):
            return message
        number = self._numbers[message.ordering_key]
        return msgspec.structs.replace(message, callnumber=number, body=renumber(message.body, number))

    def _wake(self) -> None:
        if not self._is_over:
            self._settled.clear()
            self._work.set()

    # -- the store of the broker -------------------------------------------------------------------------------

    async def pending_vhosts(self) -> list[str]:
        """Vhosts that have messages to deliver."""
        return await self._outbox.pending_vhosts()

    async def parked_vhosts(self) -> list[str]:
        """Vhosts that have messages put aside."""
        return await self._outbox.parked_vhosts()

    async def parked_keys(self, vhost: str) -> set[str]:
        """Ordering keys of a vhost that stand behind a parked message."""
        return await self._outbox.parked_keys(vhost)

    async def read_pending(self, vhost: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Messages to deliver, once their calls' numbers are known to all."""
        page: list[StoredMessage] = []
        is_end = False
        while len(page) < limit and not is_end:
            wanted = limit - len(page)
            read = await self._outbox.read_pending(vhost, after_seq=after_seq, limit=wanted)
            confirmed = set(self.unannounced)
            page += [message for message in read if message.seq not in confirmed]
            is_end = len(read) < wanted
            after_seq = read[-1].seq if read else after_seq
        if all(self._is_known(message) for message in page):
            return page
        answer: asyncio.Future[list[StoredMessage]] = asyncio.get_running_loop().create_future()
        self._pages.append((page, answer))
        self._wake()
        return await answer

    async def retry_parked(self, vhost: str, *, limit: int | None = None) -> list[int]:
        """Make messages that were put aside pending again."""
        return await self._outbox.retry_parked(vhost, limit=limit)

    async def changed_outside(self) -> bool:
        """Did another process write to the outbox?"""
        return await self._outbox.changed_outside()

    def confirm(self, seqs: Sequence[int]) -> None:
        """Tell the others that these are delivered, and forget them then."""
        self.unannounced += seqs
        self._wake()

    def note_failure(self, seq: int, reason: str) -> None:
        """Count a failed attempt."""
        self._outbox.note_failure(seq, reason)

    def park(self, seq: int, reason: str) -> None:
        """Put a message aside."""
        self._outbox.park(seq, reason)
