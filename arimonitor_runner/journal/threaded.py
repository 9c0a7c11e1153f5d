"""The journal as the daemon's loop uses it: one thread writes, and waits for a disk that is full."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import field, frozen

from arimonitor_core.inputs import Input
from arimonitor_runner.disk import RETRY_FIRST_S, RETRY_MAX_S
from arimonitor_runner.journal.files import FILE_OPERATIONS, FileOperations
from arimonitor_runner.journal.writer import JournalWriter
from arimonitor_runner.settings import JournalSettings


class JournalError(Exception):
    """The journal cannot be opened, or was closed before the disk took all of it; the text names folder and reason."""


@frozen
class _Job:
    """Work for the thread, and where its result is awaited."""

    work: Callable[[], Any]
    result: asyncio.Future[Any] = field(eq=False)


class Journal:
    """The journal of one daemon.

    An `append` is done when its records are written (and forced to disk, where `sync` is each). While the disk refuses
    them it is not: the same records are tried again, for ever, until they are written or `close` is called.
    """

    def __init__(
        self,
        folder: Path,
        settings: JournalSettings,
        *,
        on_trouble: Callable[[str | None], None] = lambda _text: None,
        files: FileOperations = FILE_OPERATIONS,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Name the folder; nothing is opened yet.

        Args:
            folder: of the segments; made where it does not exist.
            settings: sync policy, size and age of segments.
            on_trouble: told, in the event loop, what is wrong, once; None when it is mended.
            files: what is done with files.
            now: Unix seconds.
        """
        self._folder = folder
        self._settings = settings
        self._on_trouble = on_trouble
        self._files = files
        self._now = now
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._writer: JournalWriter | None = None
        self._in_trouble = False
        self._has_given_up = False

    async def open(self, *, first_position: int) -> None:
        """Begin to write at a position that is greater than any ever given out. Raises JournalError."""
        try:
            self._writer = JournalWriter.open(
                self._folder, self._settings, first_position, files=self._files, now=self._now
            )
        except OSError as error:
            raise JournalError(f"{self._folder}: {error}") from error
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, args=(self._loop, self._writer), name="journal")
        self._thread.start()

    @property
    def position(self) -> int:
        """Position of the last record written; one less than the first position where none was."""
        return self._opened().position

    def append(self, records: Sequence[Input]) -> asyncio.Future[int]:
        """Write records, all or none, beginning at once; to be awaited for the position of the last.

        Raises, at once or when it is awaited:
            JournalError: the journal is closed, or was before the disk took the records.
            RecordError: an input has a time that no record can hold; nothing was written.
        """
        writer = self._opened()
        return self._submit(lambda: self._append(writer, records))

    async def secure(self) -> None:
        """Force what was appended to disk, where no power cut may take it: before a message tells of it.

        Nothing is done where `sync` is never, and where all is on disk already. Raises JournalError.
        """
        writer = self._opened()
        if self._settings.sync != "never" and not writer.is_synced:
            await self._submit(writer.sync)

    async def close(self) -> None:
        """Write what was asked for, sync and close.

        Raises JournalError where the last sync failed; where an append failed, who waits for it hears of that.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        result = self._submit(self._opened().close)
        self._jobs.put(None)
        self._closing.set()
        try:
            await result
        finally:
            thread.join()

    def _opened(self) -> JournalWriter:
        if self._writer is None:
            raise JournalError(f"{self._folder}: not open")
        return self._writer

    def _submit(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        if self._loop is None or self._closing.is_set():
            raise JournalError(f"{self._folder}: closed")
        result: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(_Job(work, result))
        return result

    # What follows runs in the journal's thread.

    def _serve(self, loop: asyncio.AbstractEventLoop, writer: JournalWriter) -> None:
        sync_at: float | None = None
        while True:
            with suppress(queue.Empty):
                job = self._jobs.get(timeout=None if sync_at is None else max(0.0, sync_at - time.monotonic()))
                if job is None:
                    return
                self._do(loop, job)
            if sync_at is not None and time.monotonic() >= sync_at:
                self._sync(loop, writer)
            if writer.is_synced:
                sync_at = None
            elif sync_at is None:
                sync_at = time.monotonic() + self._settings.sync_interval_s

    def _do(self, loop: asyncio.AbstractEventLoop, job: _Job) -> None:
        try:
            outcome, error = self._persist(loop, job.work), None
        except Exception as raised:  # whatever it is, who waits must hear of it and the thread must live
            outcome, error = None, raised
        loop.call_soon_threadsafe(_settle, job.result, outcome, error)

    def _append(self, writer: JournalWriter, records: Sequence[Input]) -> int:
        if self._has_given_up:  # what was to be appended before is missing: nothing may follow it
            raise JournalError(f"{self._folder}: closed while it could not be written")
        return writer.append(records)

    def _sync(self, loop: asyncio.AbstractEventLoop, writer: JournalWriter) -> None:
        try:
            writer.sync()
        except OSError as error:
            # What follows goes into a new segment. What became of the old one nobody can tell, so it is only said.
            self._tell(loop, f"{self._folder}: {error}")

    def _persist(self, loop: asyncio.AbstractEventLoop, work: Callable[[], Any]) -> Any:
        """Do it until the disk lets it, or the journal is closed."""
        wait_s = RETRY_FIRST_S
        while True:
            try:
                result = work()
            except OSError as error:
                self._tell(loop, f"{self._folder}: {error}")
                if self._closing.wait(wait_s):
                    self._has_given_up = True
                    raise JournalError(f"{self._folder}: closed while it could not be written: {error}") from error
                wait_s = min(2 * wait_s, RETRY_MAX_S)
            else:
                self._tell(loop, None)
                return result

    def _tell(self, loop: asyncio.AbstractEventLoop, text: str | None) -> None:
        """Say it where it is news."""
        if (text is not None) != self._in_trouble:
            self._in_trouble = text is not None
            loop.call_soon_threadsafe(self._on_trouble, text)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    """Hand a result over, in the event loop."""
    if future.done():  # who waited was cancelled
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
