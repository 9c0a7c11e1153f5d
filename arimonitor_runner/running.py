"""The run: from the first event until something ends it, and then until all that was heard is handled and kept.

`wiring` makes the parts that a run lives from, and says what becomes of them after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from enum import IntEnum
from typing import Any, TypeVar

import structlog
from attrs import Factory, define

from arimonitor_core.inputs import ConnectionLost, ConnectionReplaced
from arimonitor_runner.ari import AriFeed
from arimonitor_runner.disk import Disk
from arimonitor_runner.health import wait_for_ami, wait_for_ari
from arimonitor_runner.input_queue import InputQueue, now
from arimonitor_runner.loop import CoreLoop
from arimonitor_runner.pbx_watch import PbxWatch
from arimonitor_runner.settings import Settings

GiveUp = Callable[[], Awaitable[None]]

_T = TypeVar("_T")

_log = structlog.get_logger()


class StartGivenUp(Exception):  # noqa: N818  # named as a fact
    """Somebody wants the end, and the disk holds up the start."""


class ExitStatus(IntEnum):
    """Exit status of the daemon."""

    STOPPED = 0
    """Asked to stop, by SIGTERM or SIGINT."""
    CRASHED = 1
    """A fault in a part of it; the log has the traceback. Starting again is right."""
    MISCONFIGURED = 2
    """Settings or directory cannot be used; starting again without a change is useless."""
    REPLACED = 3
    """Another process took over the ARI application name; starting again would take it back."""
    LOCKED = 4
    """Another daemon holds the PID file."""


@define
class Run:
    """What can end a run, and what its end leaves to a successor."""

    settings: Settings
    stop: asyncio.Event
    """Set by who wants it to end."""
    failure: asyncio.Future[None] = Factory(lambda: asyncio.get_running_loop().create_future())
    """Done when a part failed in the background."""
    left_at: int = 0
    """Journal position at which a successor goes on; 0: none does."""
    left_to: str = ""
    """Name of that successor."""
    name_successor: Callable[[], str] = lambda: ""
    """Who waits to take over at this moment; empty: nobody."""
    own_successor: Callable[[], int] = lambda: 0
    """Process id of the successor that we started; 0: we started none."""
    disk: Disk = Factory(Disk)
    has_given_up: bool = False
    """It ended on a full disk, with something in memory that could not be kept."""

    def fail(self, error: BaseException) -> None:
        """A part failed where nobody awaits it: the daemon ends, and its supervisor starts it anew."""
        if not self.failure.done():
            self.failure.set_exception(error)

    async def stopped(self) -> None:
        """Return when somebody wants the run to end."""
        await self.stop.wait()

    async def unless_given_up(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do a part of the start. Raises StartGivenUp where somebody wants the end while the disk takes nothing.

        A start that nothing holds up is gone through with all the same: what a takeover has heard by then is nowhere
        else than in memory.
        """
        working = asyncio.create_task(work, name="start")
        giving_up = asyncio.create_task(self._gives_up(), name="give up")
        try:
            await asyncio.wait((working, giving_up), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise StartGivenUp
            return working.result()
        finally:
            working.cancel()
            giving_up.cancel()
            await asyncio.gather(working, giving_up, return_exceptions=True)

    async def _gives_up(self) -> None:
        await self.stop.wait()
        await self.disk.refuses.wait()

    async def listen(self, feed: AriFeed) -> None:
        """Wait for Asterisk, then listen to it."""
        await asyncio.gather(wait_for_ari(self.settings.ari), wait_for_ami(self.settings.ami))
        await feed.run()

    async def until_ended(
        self, loop: CoreLoop, feed: AriFeed, listening: asyncio.Task[None], queue: InputQueue, give_up: GiveUp
    ) -> ExitStatus:
        """Listen until something ends it; afterwards all that was heard is handled, committed and kept.

        Where a full disk does not let that happen, `give_up` lets nobody wait for it any more.
        """
        looping = asyncio.create_task(loop.run(), name="loop")
        stopping = asyncio.create_task(self.stopped(), name="stop")
        watching = asyncio.create_task(self._watch(), name="watch")
        try:
            await asyncio.wait({looping, listening, stopping, self.failure}, return_when=asyncio.FIRST_COMPLETED)
            replaced = listening.done() and not listening.cancelled() and listening.exception() is None
        finally:
            was_up = feed.is_up
            for task in (listening, stopping, watching):
                task.cancel()
            await asyncio.gather(listening, stopping, watching, return_exceptions=True)
            if was_up and self.settings.ari.mode == "inbound":
                queue.put_anyway(ConnectionLost(received_at=now()))
            elif feed.was_replaced_while_up:
                self.left_to = self.name_successor()
                queue.put_anyway(ConnectionReplaced(received_at=now()))
            loop.stop()
            await self._await_loop(looping, give_up)
            if feed.was_replaced_while_up and not _crashed(looping):
                self.left_at = loop.position
        parts = (listening, self.failure) if self.has_given_up else (looping, listening, self.failure)
        crashes = [part for part in parts if _crashed(part)]
        for part in crashes:
            _log.error("a part of the daemon crashed", exc_info=part.exception())
        if crashes:
            return ExitStatus.CRASHED
        return ExitStatus.REPLACED if replaced and not self.stop.is_set() else ExitStatus.STOPPED

    async def _await_loop(self, looping: asyncio.Task[None], give_up: GiveUp) -> None:
        """Give the loop time to finish, but not for ever: a full disk may never have room again."""
        done, _ = await asyncio.wait({looping}, timeout=max(self.settings.drain_timeout_s, 1.0))
        if not done:
            _log.error(
                "the disk takes nothing: what is still in memory is given up, Asterisk will be asked at the next start"
            )
            self.has_given_up = True
            await give_up()
            await asyncio.gather(looping, return_exceptions=True)

    async def _watch(self) -> None:
        """Look after Asterisk; calls are followed whether or not that works."""
        try:
            await PbxWatch(self.settings.ari, self.settings.ami).run()
        except Exception:
            _log.exception("Asterisk is not watched any more")


def _crashed(part: asyncio.Future[None]) -> bool:
    return part.done() and not part.cancelled() and part.exception() is not None
