"""What one member of a pair hears: it goes into the ledger, and numbers to the core as well."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

import msgspec
import structlog
from attrs import define

from arimonitor_core.inputs import CallsNumbered
from arimonitor_runner.input_queue import now
from arimonitor_runner.pair.announcements import (
    Announcement,
    AnnouncementError,
    decode_announcement,
    encode_announcement,
)
from arimonitor_runner.pair.ledger import Ledger
from arimonitor_runner.pair.link import Link
from arimonitor_runner.pair.reign import Reign

_log = structlog.get_logger()


@define
class Counts:
    """What happened since the start."""

    leaderships: int = 0
    links: int = 0
    failures: int = 0
    """Links that could not be opened or were lost."""
    heard: int = 0
    """Announcements of other members."""
    malformed: int = 0
    """Announcements that could not be read, and were skipped."""


class Listener:
    """Takes what stands in the own queue, over one link after the other."""

    def __init__(self, ledger: Ledger, sender: str, counts: Counts, feed: Callable[[CallsNumbered], None]) -> None:
        """Name what it needs; `sender` is how this member signs, `feed` takes numbers for the core."""
        self._ledger = ledger
        self._sender = sender
        self._counts = counts
        self._feed = feed
        self._inbox: list[tuple[int, bytes]] = []
        self._arrived = asyncio.Event()
        self._marks: dict[str, asyncio.Future[None]] = {}
        self._mark_numbers = itertools.count(1)
        self.reign: Reign | None = None
        """The leadership of this member, while it has it."""

    def start_over(self) -> None:
        """Forget what came over the last link and was not acknowledged: it comes again."""
        self._inbox.clear()
        self._marks.clear()

    def on_announced(self, tag: int, body: bytes) -> None:
        """Hear an announcement, which is to be acknowledged by this tag."""
        self._inbox.append((tag, body))
        self._arrived.set()

    async def run(self, link: Link) -> None:
        """Take what is announced, as much as waits, and have it forgotten once it is in the ledger."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            inbox, self._inbox = self._inbox, []
            if inbox:
                await self._take(link, [read for _, body in inbox if (read := self._read(body)) is not None])
                link.acknowledge(inbox[-1][0])

    def new_mark(self) -> bytes:
        """A word of this member to itself that nobody waits for."""
        return self._write_mark(f"{self._sender}/{next(self._mark_numbers)}")

    async def read_up(self, link: Link) -> bool:
        """Wait until all that was announced before this moment is in the ledger. False: the link is gone."""
        mark = f"{self._sender}/{next(self._mark_numbers)}"
        read = self._marks[mark] = asyncio.get_running_loop().create_future()
        if not await link.remark(self._write_mark(mark)):
            return False
        await read
        return True

    def _write_mark(self, mark: str) -> bytes:
        return encode_announcement(Announcement(sender=self._sender, mark=mark))

    def _read(self, body: bytes) -> Announcement | None:
        try:
            return decode_announcement(body)
        except AnnouncementError as error:
            self._counts.malformed += 1
            _log.error("an announcement in the pair's queue cannot be read", sender=self._sender, reason=str(error))
            return None

    async def _take(self, link: Link, announcements: Sequence[Announcement]) -> None:
        others = [item for item in announcements if item.sender != self._sender]
        self._counts.heard += len(others)
        numbers = await self._ledger.hear(others) if others else {}
        await self._take_own([item for item in announcements if item.sender == self._sender])
        if highest := max((item.highest for item in others), default=0):
            numbers[""] = highest  # no call's: only so that it is not given again
        if numbers:
            self._feed(CallsNumbered(received_at=now(), numbers=numbers))
        if self.reign is not None:
            self._tell_reign(self.reign, link, others, highest)
        for item in announcements:
            mark = self._marks.pop(item.mark, None)
            if mark is not None and not mark.done():
                mark.set_result(None)

    def _tell_reign(self, reign: Reign, link: Link, others: Sequence[Announcement], highest: int) -> None:
        reign.skip_numbers(highest)
        if any(item.hello for item in others):
            reign.tell_all()
        if any(item.term > reign.term for item in others):
            link.drop("another member leads")

    async def _take_own(self, announcements: Sequence[Announcement]) -> None:
        """Hear what this member said itself, which it need not have written down: then it was cut off in between."""
        delivered = [item for announcement in announcements for item in announcement.delivered]
        if delivered:
            await self._ledger.forget(delivered)
        if self.reign is None and any(item.numbers for item in announcements):
            await self._ledger.hear([msgspec.structs.replace(item, delivered=()) for item in announcements])
