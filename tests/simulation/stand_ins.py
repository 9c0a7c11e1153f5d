"""What stands in for threads, disk and clock, so that everything else of the daemon can be the real thing.

The journal's writer and reader, the snapshots, the outbox's SQL and the recovery run as they are, on real files. Only
the threads around them are replaced by callbacks of the virtual loop, and every operation on a file is a step at which
the process may die or the disk may refuse.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from attrs import Factory, define

from arimonitor_core.inputs import Input
from arimonitor_runner.journal import Journal, JournalError, JournalWriter
from arimonitor_runner.journal.files import FileOperations
from arimonitor_runner.outbox_file import OutboxError, OutboxUnavailableError, is_passing
from arimonitor_runner.outbox_thread import OutboxThread
from arimonitor_runner.state_lock import Owner, StateLock
from tests.simulation.virtual_loop import Killed, Process, current_process

_REAL = FileOperations()
_RETRY_S = 0.5


@define(eq=False)
class Disk:
    """The files of one machine, which outlive its processes; a power cut takes what was not synced."""

    folder: Path
    random: Random
    is_full: bool = False
    sizes: dict[Path, int] = Factory(dict)
    """Bytes of each file that was written to."""
    synced: dict[Path, int] = Factory(dict)
    """How many of them are on the medium."""
    entries: set[Path] = Factory(set)
    """Files whose names are not on the medium yet."""
    torn: int = 0
    """Bytes that power cuts took."""

    def cut_power(self) -> None:
        """Of what was not synced any part may survive, from the front."""
        for path, size in list(self.sizes.items()):
            if not path.exists():
                continue
            if path in self.entries and self.random.random() < 0.5:
                path.unlink()
                self.torn += size
                continue
            kept = self.random.randint(min(self.synced.get(path, 0), size), size)
            self.torn += size - kept
            os.truncate(path, kept)
        self.sizes.clear()
        self.synced.clear()
        self.entries.clear()

    def refuse(self) -> None:
        """Raise what a full disk raises."""
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class ProcessFiles:
    """What one process does with files; in the place of the journal's file operations."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk = disk
        self._process = process
        self._open: dict[int, Path] = {}
        process.on_death.append(self._close_all)

    def create(self, path: Path) -> int:
        """As `FileOperations.create`."""
        self._process.step()
        self._disk.refuse()
        descriptor = _REAL.create(path)
        self._open[descriptor] = path
        self._disk.sizes[path] = self._disk.synced[path] = 0
        self._disk.entries.add(path)
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all, or where the process dies or the disk is full meanwhile, some."""
        disk, path = self._disk, self._open[descriptor]
        part = data[: disk.random.randrange(len(data) + 1)]
        try:
            self._process.step()
            disk.refuse()
        except (OSError, Killed):
            if not self._process.is_alive or disk.is_full:
                _append(path, part)
                disk.sizes[path] += len(part)
            raise
        _REAL.write(descriptor, data)
        disk.sizes[path] += len(data)
        self._process.step()

    def truncate(self, descriptor: int, size: int) -> None:
        """As `FileOperations.truncate`."""
        self._process.step()
        _REAL.truncate(descriptor, size)
        path = self._open[descriptor]
        self._disk.sizes[path] = size
        self._disk.synced[path] = min(self._disk.synced[path], size)

    def sync(self, descriptor: int) -> None:
        """From here on a power cut takes nothing of it."""
        self._process.step()
        path = self._open[descriptor]
        self._disk.synced[path] = self._disk.sizes[path]
        self._process.step()

    def sync_file(self, path: Path) -> None:
        """As `FileOperations.sync_file`."""
        self._process.step()
        if path in self._disk.sizes:
            self._disk.synced[path] = self._disk.sizes[path]
        self._process.step()

    def sync_folder(self, folder: Path) -> None:
        """From here on its files have their names."""
        self._process.step()
        self._disk.entries = {path for path in self._disk.entries if path.parent != folder}

    def close(self, descriptor: int) -> None:
        """As `FileOperations.close`."""
        self._process.step()
        del self._open[descriptor]
        _REAL.close(descriptor)

    def rename(self, path: Path, target: Path) -> None:
        """As `FileOperations.rename`; what the target held may be back after a power cut only as nothing at all."""
        disk = self._disk
        self._process.step()
        _REAL.rename(path, target)
        for table in (disk.sizes, disk.synced):
            if path in table:
                table[target] = table.pop(path)
        disk.entries.discard(path)
        disk.entries.add(target)
        self._process.step()

    def remove(self, path: Path) -> None:
        """As `FileOperations.remove`."""
        self._process.step()
        _REAL.remove(path)
        self._disk.sizes.pop(path, None)
        self._process.step()

    def make_folder(self, folder: Path) -> None:
        """As `FileOperations.make_folder`."""
        self._process.step()
        _REAL.make_folder(folder)

    def _close_all(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def own_process() -> Process:
    """The process whose code runs now."""
    process = current_process()
    assert process is not None
    return process


class _Worker:
    """In the place of a thread: does one job after another, each a moment after it was given."""

    def __init__(self, work: Callable[[], float | None]) -> None:
        """`work` does what is waiting; it gives the seconds after which it wants to be called again, or None."""
        self._process = own_process()
        self._loop = asyncio.get_running_loop()
        self._work = self._process.enter(work)
        self._is_set = False

    def wake(self, delay_s: float | None = None) -> None:
        """Have it work soon."""
        if self._is_set:
            return
        self._is_set = True
        delay_s = self._loop.thread_delay_s() if delay_s is None else delay_s  # type: ignore[attr-defined]
        self._loop.call_later(delay_s, self._run)

    def _run(self) -> None:
        self._is_set = False
        if not self._process.is_alive:
            return
        try:
            again_s = self._work()
        except Killed:
            return
        if again_s is not None:
            self.wake(again_s)


class VirtualJournal(Journal):
    """The daemon's journal without its thread."""

    async def open(self, *, first_position: int) -> None:
        """As `Journal.open`."""
        try:
            self._writer = JournalWriter.open(
                self._folder, self._settings, first_position, files=self._files, now=self._now
            )
        except OSError as error:
            raise JournalError(f"{self._folder}: {error}") from error
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._worker = _Worker(self._do)
        self._syncing = _Worker(self._sync_now)

    async def append(self, records: Sequence[Input]) -> int:
        """As `Journal.append`."""
        position = await super().append(records)
        self._sync_later()
        return position

    async def close(self) -> None:
        """As `Journal.close`."""
        if self._closing.is_set():
            return
        result = self._submit(self._opened().close)
        self._closing.set()
        await result

    def _submit(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        if self._loop is None or self._closing.is_set():
            raise JournalError(f"{self._folder}: closed")
        result: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((work, result))
        self._worker.wake()
        return result

    def _do(self) -> float | None:
        while self._waiting:
            work, result = self._waiting[0]
            try:
                outcome = work()
            except OSError as error:
                self._say(str(error))
                if not self._closing.is_set():
                    return _RETRY_S
                self._finish(result, JournalError(str(error)))
            except Exception as error:  # as the thread does
                self._finish(result, error)
            else:
                self._say(None)
                self._finish(result, None, outcome)
        return None

    def _finish(self, result: asyncio.Future[Any], error: Exception | None, outcome: Any = None) -> None:
        self._waiting.popleft()
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(outcome)

    def _say(self, text: str | None) -> None:
        if (text is not None) != self._in_trouble:
            self._in_trouble = text is not None
            self._on_trouble(text)

    def _sync_later(self) -> None:
        if not self._opened().is_synced:
            self._syncing.wake(self._settings.sync_interval_s)

    def _sync_now(self) -> float | None:
        if not self._closing.is_set():
            try:
                self._opened().sync()
            except OSError as error:
                self._say(str(error))
        return None


class VirtualOutboxThread(OutboxThread):
    """The outbox's database without its thread."""

    disk: Disk
    """Of all processes of this world; set before it begins."""

    async def start(self) -> None:
        """As `OutboxThread.start`."""
        self._loop = asyncio.get_running_loop()
        self._process = own_process()
        self._process.on_death.append(self._drop_connection)
        self._process.step()
        try:
            self._refuse()
            self._connection = self._open()
        except sqlite3.Error as error:
            raise OutboxError(str(error)) from error
        self._worker = _Worker(self._do)

    async def stop(self) -> None:
        """As `OutboxThread.stop`."""
        if self._closing:
            return
        done = self.submit(lambda _connection: None)
        self._closing = True
        try:
            await done
        finally:
            self._drop_connection()

    def submit(self, work: Callable[[sqlite3.Connection], Any]) -> asyncio.Future[Any]:
        """As `OutboxThread.submit`; each job begins and ends with a step."""

        def stepped(connection: sqlite3.Connection) -> Any:
            self._process.step()
            self._refuse()
            result = work(connection)
            self._process.step()
            return result

        result = super().submit(stepped)
        self._worker.wake()
        return result

    def _do(self) -> float | None:
        jobs = list(self._jobs)
        if not jobs:
            return None
        try:
            self._process.step()
            results = self._attempt(jobs)
        except sqlite3.OperationalError as error:
            if not is_passing(error):
                raise
            self._say(str(error))
            if not self._closing:
                return _RETRY_S
            outcomes: list[Any] = [OutboxUnavailableError(str(error))] * len(jobs)
        else:
            self._process.step()
            self._say("")
            outcomes = results
        for job, outcome in zip(jobs, outcomes, strict=True):
            self._jobs.popleft()
            if job.result.done():
                continue
            if isinstance(outcome, OutboxUnavailableError):
                job.result.set_exception(outcome)
            else:
                job.result.set_result(outcome)
        return 0.0 if self._jobs else None

    def _say(self, text: str) -> None:
        if bool(text) != bool(self._trouble):
            self._on_trouble(text or None)
        self._trouble = text

    def _refuse(self) -> None:
        if self.disk.is_full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error


class VirtualLock(StateLock):
    """The state folder's lock; the kernel frees it when its process dies."""

    disk: Disk
    """Of all processes of this world; set before it begins."""

    def __init__(self, folder: Path, *name: str) -> None:
        super().__init__(folder, *name)
        own_process().on_death.append(self.release)

    def _write(self, file: int, owner: Owner) -> None:
        self.disk.refuse()
        super()._write(file, owner)


class NoControl:
    """In the place of the control socket: nobody gives orders."""

    def __init__(self, *_parts: Any) -> None:
        """Take what the control server takes."""

    async def start(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class NoWatch:
    """In the place of the watch over Asterisk's queues: here they have no length."""

    def __init__(self, *_parts: Any) -> None:
        """Take what the watch takes."""

    async def run(self) -> None:
        """Look at nothing, for ever."""
        await asyncio.get_running_loop().create_future()
