"""The thread that owns the outbox's database.

It takes all the work that is waiting, does it in one transaction, commits, and takes what has come in meanwhile: under
load commits grow in size instead of number, without any timer. Nobody is told that something was done before the commit
returned.

Trouble of the disk (full, I/O error, read-only, locked by another process) fails nobody: the transaction is tried
again, with growing pauses, until it works or the outbox is closed, and whoever waits goes on waiting.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog
from attrs import field, frozen

from arimonitor_runner.disk import RETRY_FIRST_S, RETRY_MAX_S
from arimonitor_runner.outbox_file import (
    OutboxError,
    OutboxUnavailableError,
    is_damage,
    is_passing,
    open_database,
    replace_damaged,
)

_T = TypeVar("_T")

_Outcome = tuple["asyncio.Future[Any]", Any, "OutboxError | None"]
"""A job's future, its result, and the error instead of it."""

_log = structlog.get_logger()


@frozen
class _Job:
    """Work for the thread, and where its result is awaited. It may be done more than once, each time from the start."""

    work: Callable[[sqlite3.Connection], Any]
    result: asyncio.Future[Any] = field(eq=False)


class OutboxThread:
    """One database, one connection, one thread."""

    def __init__(
        self,
        path: Path,
        synchronous: str,
        *,
        on_failure: Callable[[BaseException], None],
        on_trouble: Callable[[str | None], None],
    ) -> None:
        """Name the file; nothing is opened yet. Both callbacks are called in the event loop."""
        self._path = path
        self._synchronous = synchronous
        self._on_failure = on_failure
        self._on_trouble = on_trouble
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # The thread's own:
        self._connection: sqlite3.Connection | None = None
        self._is_damaged = False
        self._trouble = ""
        self._given_up: OutboxUnavailableError | None = None

    async def start(self) -> None:
        """Open the database. Raises OutboxError, caused by what the disk or SQLite says; it can be tried again."""
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = self._loop.create_future()
        # A process that fails without closing the outbox shall end: what it had not committed nobody was told of.
        self._thread = threading.Thread(target=self._serve, args=(self._loop, ready), name="outbox", daemon=True)
        self._thread.start()
        try:
            await ready
        except OutboxError:
            self._thread.join()
            self._thread = None
            raise
        except asyncio.CancelledError:
            self._thread = None
            with self._wake:  # as soon as it has opened the file, it closes it
                self._closing = True
                self._wake.notify()
            raise

    async def stop(self) -> None:
        """Finish all that was asked for and close the file. Raises OutboxUnavailableError in trouble of the disk."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        # One more job, only to know that all before it are done; then the thread has nothing left but to close it.
        done = self.submit(lambda _connection: None)
        with self._wake:
            self._closing = True
            self._wake.notify()
        try:
            await done
        finally:
            thread.join()

    def submit(self, work: Callable[[sqlite3.Connection], _T]) -> asyncio.Future[_T]:
        """Queue work. Nobody has to await the future: a failure is told to `on_failure` as well."""
        if self._loop is None:
            raise OutboxError(f"{self._path}: not open")
        result: asyncio.Future[_T] = self._loop.create_future()
        result.add_done_callback(self._report)
        with self._wake:
            if self._closing:
                raise OutboxError(f"{self._path}: closed")
            self._jobs.append(_Job(work, result))
            self._wake.notify()
        return result

    def _report(self, result: asyncio.Future[Any]) -> None:
        if result.cancelled():
            return
        error = result.exception()
        if error is not None and not isinstance(error, OutboxUnavailableError):
            self._on_failure(error)

    # What follows runs in the thread.

    def _serve(self, loop: asyncio.AbstractEventLoop, ready: asyncio.Future[None]) -> None:
        opened: _Outcome = (ready, None, None)
        try:
            self._connection = self._open()
        except (sqlite3.Error, OSError, OutboxError) as error:
            opened = (ready, None, _described(self._path, error))
            return
        finally:
            loop.call_soon_threadsafe(_settle, [opened])
        try:
            while jobs := self._take():
                loop.call_soon_threadsafe(_settle, self._transact(loop, jobs))
        finally:
            self._drop_connection()

    def _take(self) -> list[_Job]:
        """Give all the work that is waiting; blocks until there is some. Empty: the outbox was closed, all is done."""
        with self._wake:
            while not self._jobs and not self._closing:
                self._wake.wait()
            jobs = list(self._jobs)
            self._jobs.clear()
        return jobs

    def _transact(self, loop: asyncio.AbstractEventLoop, jobs: list[_Job]) -> list[_Outcome]:
        """Do all jobs in one transaction, however often it takes. They succeed together or fail together."""
        pause_s = RETRY_FIRST_S
        # Nothing is done after what was given up: a later message of a call would stand in the place of an earlier one.
        while self._given_up is None:
            is_last = self._closing
            try:
                results = self._attempt(jobs)
            except Exception as error:  # whatever it is, the waiting must hear of it and the thread must live
                failure = _described(self._path, error)
                if not (is_passing(error) or is_damage(error) or isinstance(error, OSError)):
                    return [(job.result, None, failure) for job in jobs]
                if is_last:
                    self._given_up = OutboxUnavailableError(str(failure))
                self._tell_trouble(loop, str(failure))
            else:
                self._tell_trouble(loop, "")
                return [(job.result, result, None) for job, result in zip(jobs, results, strict=True)]
            with self._wake:
                self._wake.wait_for(lambda: self._closing, pause_s)
            pause_s = min(2 * pause_s, RETRY_MAX_S)
        return [(job.result, None, self._given_up) for job in jobs]

    def _attempt(self, jobs: list[_Job]) -> list[Any]:
        if self._connection is None:
            self._connection = self._open()
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [job.work(connection) for job in jobs]
            connection.execute("COMMIT")
        except Exception as error:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            self._is_damaged = is_damage(error)
            if is_passing(error) or is_damage(error):
                # What a connection remembers of a file that failed it (a lock, a read-only mount) may be wrong by now.
                self._drop_connection()
            raise
        return results

    def _open(self) -> sqlite3.Connection:
        """Open the database, or what could be rescued of it."""
        if not self._is_damaged:
            try:
                return open_database(self._path, self._synchronous)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._is_damaged = True
        set_aside = replace_damaged(self._path)
        self._is_damaged = False
        connection = open_database(self._path, self._synchronous)
        (count,) = connection.execute("SELECT count(*) FROM messages").fetchone()
        _log.error("the outbox's file is damaged and set aside", set_aside=str(set_aside), messages_rescued=count)
        return connection

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _tell_trouble(self, loop: asyncio.AbstractEventLoop, text: str) -> None:
        """Say once that trouble began, and once that it is over."""
        if bool(text) != bool(self._trouble):
            loop.call_soon_threadsafe(self._on_trouble, text or None)
        self._trouble = text


def _described(path: Path, error: Exception) -> OutboxError:
    if isinstance(error, OutboxError):
        return error
    described = OutboxError(f"{path}: {error}")
    described.__cause__ = error
    return described


def _settle(outcomes: Sequence[_Outcome]) -> None:
    """Hand results over, in the event loop; one call for a whole transaction."""
    for future, result, error in outcomes:
        if future.done():  # whoever waited was cancelled
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
