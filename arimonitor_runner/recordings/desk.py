"""The desk that sees all recordings through: which are due, how many at a time, and what may wait no longer.

What is done with each, `steps` says. Nothing here ever fails the daemon. What is abandoned, by a restart or because
another member of a pair does it now, goes on where it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from attrs import asdict

from arimonitor_core.directory import Directory
from arimonitor_runner.recordings.audio import Audio
from arimonitor_runner.recordings.ledger import Entry, Ledger
from arimonitor_runner.recordings.names import Spool
from arimonitor_runner.recordings.retention import Retention
from arimonitor_runner.recordings.steps import Counts, Steps
from arimonitor_runner.settings import RecordingsSettings
from arimonitor_runner.sinks import StoredMessage

LOOK_S = 5.0
"""Longest time between two looks into the ledger, which another process may have changed, and at whose turn it is."""
TIDY_S = 600.0
OTHERS_S = 3600.0
"""What another member of a pair has told of is its business for so long."""
ON_THEIR_WAY = 3
"""Recordings for each worker: one is converted, one is looked at and waits for its turn, one is uploaded."""

_log = structlog.get_logger()


class Desk:
    """The recordings of one daemon. `run` is its task."""

    def __init__(  # the parts are joined here
        self,
        ledger: Ledger,
        settings: RecordingsSettings,
        *,
        directory: Directory,
        audio: Audio,
        offer: Callable[[Sequence[StoredMessage]], None],
        clock: Callable[[], float] = time.time,
        is_active: Callable[[], bool] = lambda: True,
    ) -> None:
        """Join the parts.

        Args:
            ledger: what is to be done.
            settings: how.
            directory: who converts where.
            audio: where to.
            offer: told of messages that can be delivered now.
            clock: Unix seconds.
            is_active: is it ours to do? Of a pair, only who publishes does it.
        """
        self._ledger = ledger
        self._settings = settings
        self._transports = audio.transports
        self._offer = offer
        self._clock = clock
        self._is_active = is_active
        spool = Spool(settings.folders, settings.path_map)
        self._steps = Steps(ledger, settings, directory=directory, audio=audio, spool=spool, offer=offer, clock=clock)
        self._retention = Retention(ledger, settings, spool, clock)
        self._tasks: dict[asyncio.Task[None], Entry] = {}
        self._nudged = asyncio.Event()
        self._tidy_at = clock()
        self._tidying: asyncio.Task[None] | None = None

    @property
    def counts(self) -> Counts:
        """What happened since the start."""
        return self._steps.counts

    def statistics(self) -> dict[str, int]:
        """What happened since the start, by name."""
        return asdict(self.counts)

    @property
    def busy(self) -> int:
        """How many recordings are being worked on."""
        return len(self._tasks)

    def nudge(self) -> None:
        """There is something new in the ledger."""
        self._nudged.set()

    def use_directory(self, directory: Directory) -> None:
        """Follow a change of clients."""
        self._steps.directory = directory
        self.nudge()

    async def run(self) -> None:
        """Work until cancelled; what is under way is abandoned then and goes on after the next start."""
        try:
            while True:
                self._nudged.clear()
                try:
                    timeout_s = await self._turn() if self._is_active() else await self._stand_by()
                except Exception:  # a fault of our own must not keep the calls from being told
                    _log.exception("the recordings' ledger could not be worked on")
                    timeout_s = LOOK_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await self._nudged.wait()
        finally:
            if self._tidying is not None:
                self._tidying.cancel()
                await asyncio.gather(self._tidying, return_exceptions=True)
            await self._abandon()
            await self._transports.close()

    async def _turn(self) -> float:
        """Do what is due; gives how long nothing else is, in seconds."""
        now = self._clock()
        room = ON_THEIR_WAY * self._settings.workers - len(self._tasks)
        agenda = await self._ledger.agenda(now, room, list(self._tasks.values()))
        for message_id in agenda.overdue:
            await self._release(message_id)
        for entry in agenda.due:
            task = asyncio.create_task(self._steps.see_through(entry), name=f"recording {entry.id}")
            self._tasks[task] = entry
            task.add_done_callback(self._on_done)
        if now >= self._tidy_at and (self._tidying is None or self._tidying.done()):
            self._tidy_at = now + TIDY_S
            self._tidying = asyncio.create_task(self._tidy(), name="recordings: tidy")
        # What is due by now is being worked on or waits for room, and each one that ends is a nudge.
        return min(max(agenda.next_due_at - self._clock(), 0.0), LOOK_S)

    async def _tidy(self) -> None:
        try:
            await self._retention.tidy()
        except Exception:  # of our own making; nothing is removed then
            _log.exception("the recordings could not be tidied")

    async def _stand_by(self) -> float:
        """Another member of the pair does it: nothing of ours may come between."""
        await self._abandon()
        await self._ledger.leave_to_others(self._clock() - OTHERS_S)
        return LOOK_S

    async def _abandon(self) -> None:
        """Leave what is under way where it is."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._nudged.set()

    async def _release(self, message_id: str) -> None:
        """A message has waited long enough: it goes out with the links that its recordings will have."""
        for entry in await self._ledger.of_message(message_id):
            if entry.name and not entry.server and entry.step == "found":
                await self._steps.place(entry)
        _log.warning("a call's recordings are not stored yet: its last message goes out first", message_id=message_id)
        self._offer(await self._ledger.settle(message_id, is_due=True))
