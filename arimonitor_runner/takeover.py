"""Whose the state folder is: ours at once, or once its present owner has left it to us.

A daemon that finds the lock held by one of the same ARI application takes over from it: it connects first, which makes
Asterisk turn from the old one to the new one between two events; the old one handles what it heard and leaves; its
journal's end is where the new one, whose events have waited in memory, goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import structlog
from attrs import frozen

from arimonitor_runner.ari import AriFeed, Hold
from arimonitor_runner.disk import at_once
from arimonitor_runner.input_queue import now
from arimonitor_runner.pid_file import AlreadyRunning
from arimonitor_runner.running import ExitStatus, Run, StartGivenUp
from arimonitor_runner.settings import Settings
from arimonitor_runner.state_lock import SUCCESSOR_LOCK_NAME, Owner, StateLock

LEAVE_S = 10.0
"""How long a predecessor may take to leave beyond the time that it has for RabbitMQ."""

_log = structlog.get_logger()


@frozen
class Takeover:
    """A feed that is connected already, and holds its events back."""

    listening: asyncio.Task[None]
    continues: asyncio.Future[bool]
    """To be told whether its events follow the journal's end without a gap."""
    left_at: int
    """Journal position at which the predecessor left to us; 0: it left to nobody, or to one that is gone."""


MakeFeed = Callable[[Hold | None], AriFeed]
Serve = Callable[[AriFeed, Takeover | None], Awaitable[ExitStatus]]


async def serve_as_owner(run: Run, make_feed: MakeFeed, serve: Serve) -> ExitStatus:
    """Serve on our state folder, at once or after its present owner. Raises AlreadyRunning, OSError."""
    settings = run.settings
    lock = StateLock(settings.journal.folder)
    owner = Owner(
        pid=os.getpid(),
        application=settings.ari.application,
        url=settings.ari.url,
        name=f"{os.getpid()} of {now():.6f}",
    )
    run.name_successor = lambda: StateLock(settings.journal.folder, SUCCESSOR_LOCK_NAME).read_owner().name
    try:
        if await _acquire(run, lock, owner):
            return await serve(make_feed(None), None)
        return await _take_over(run, lock, owner, make_feed, serve)
    except StartGivenUp:
        return ExitStatus.STOPPED
    finally:
        lock.release(left_at=run.left_at, left_to=run.left_to)


async def _take_over(run: Run, lock: StateLock, owner: Owner, make_feed: MakeFeed, serve: Serve) -> ExitStatus:
    """Connect in the place of who owns the folder now, wait until he has left, and go on where he ended."""
    held_by = lock.read_owner()
    claim = await _claim(run, owner, held_by)
    _log.info("taking over", predecessor=held_by.pid)
    continues: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    feed = make_feed(lambda: continues)
    listening = asyncio.create_task(feed.run(), name="ari")
    waiting = asyncio.create_task(run.disk.until_taken(lambda: lock.wait(owner)), name="lock")
    stopping = asyncio.create_task(run.stopped(), name="stop")
    in_vain = asyncio.create_task(_waits_in_vain(run.settings, feed), name="in vain")
    parts = (waiting, listening, stopping, in_vain)
    try:
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
            claim.release()
            # One that connected before us and died has heard what we have not.
            left = lock.predecessor
            return await serve(feed, Takeover(listening, continues, left.left_at if left.left_to == owner.name else 0))
        if listening.done():
            listening.result()
            return ExitStatus.REPLACED
        if in_vain.done():
            in_vain.result()
            _log.error("the predecessor heard nothing of us and goes on", predecessor=held_by.pid)
            return ExitStatus.REPLACED
        return ExitStatus.STOPPED
    finally:
        claim.release()
        for task in parts:
            task.cancel()
        await asyncio.gather(*parts, return_exceptions=True)


async def _claim(run: Run, owner: Owner, held_by: Owner) -> StateLock:
    """The right to wait for the owner, which one process has at a time. Raises AlreadyRunning."""
    settings = run.settings
    folder = settings.journal.folder
    if (held_by.application, held_by.url) != (owner.application, owner.url):
        raise AlreadyRunning(f"{folder}: held by process {held_by.pid}, which listens elsewhere")
    if settings.ari.mode == "outbound":
        raise AlreadyRunning(f"{folder}: held by process {held_by.pid}; stop it first")
    claim = StateLock(folder, SUCCESSOR_LOCK_NAME)
    if not await _acquire(run, claim, owner):
        raise AlreadyRunning(f"{folder}: another successor is waiting already")
    return claim


async def _acquire(run: Run, lock: StateLock, owner: Owner) -> bool:
    """Take a lock as soon as the disk lets us say whose it is; False where another process holds it."""
    return await run.unless_given_up(run.disk.until_taken(lambda: at_once(lock.acquire, owner)))


async def _waits_in_vain(settings: Settings, feed: AriFeed) -> None:
    """Return when waiting for the predecessor leads to nothing.

    It lost its own connection before we came, so Asterisk told it nothing; it connects again and takes our place.
    Where our connection is lost instead, it may be leaving all the same, and gets the time for it.
    """
    if not await feed.ended_while_held():
        await asyncio.sleep(settings.drain_timeout_s + LEAVE_S)
