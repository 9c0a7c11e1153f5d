"""Messages on disk between the core that decided them and the broker that confirmed them (SQLite, WAL).

One thread owns the database. It takes all the work that is waiting, does it in one transaction, commits, and takes what
has come in meanwhile: under load commits grow in size instead of number, without any timer. Nobody is told that
something was done before the commit returned, so a message that was offered to the broker survives any crash.

A message is here from the commit of `append` to the commit after its `confirm`. A crash between the broker's confirm
and that commit makes the message go out again, with the same message_id.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from attrs import Factory, define, field, frozen

from arimonitor_core.effects import PublishMessage
from arimonitor_runner.sinks import StoredMessage

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL UNIQUE,
    vhost TEXT NOT NULL,
    ordering_key TEXT NOT NULL,
    type TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    callnumber INTEGER NOT NULL,
    body BLOB NOT NULL,
    created REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'parked')),
    reason TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX messages_by_vhost ON messages (vhost, seq);
CREATE INDEX messages_parked ON messages (vhost, ordering_key, seq) WHERE state = 'parked';
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

_INSERT = """
INSERT INTO messages (message_id, vhost, ordering_key, type, routing_key, timestamp, callnumber, body, created,
                      state, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (message_id) DO NOTHING
"""

_READ_PENDING = """
SELECT seq, vhost, ordering_key, message_id, type, routing_key, timestamp, callnumber, body FROM messages AS m
WHERE vhost = ? AND seq > ? AND state = 'pending' AND NOT EXISTS (
    SELECT 1 FROM messages AS p
    WHERE p.state = 'parked' AND p.vhost = m.vhost AND p.ordering_key = m.ordering_key AND p.seq < m.seq)
ORDER BY seq LIMIT ?
"""

_RAISE_MARK = """
INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value
WHERE CAST(excluded.value AS INTEGER) > CAST(value AS INTEGER)
"""

MOMENTARY_TYPES = frozenset({"endpoint-status"})
"""Messages that tell how things are just now: kept for a vhost that may be named one day, they would only mislead."""

NO_VHOST = "no vhost: no number of the call belongs to a client, and directory.default_vhost is not set"

_PARK = "UPDATE messages SET attempts = attempts + 1, state = 'parked', reason = ? WHERE seq = ?"
_NOTE_FAILURE = "UPDATE messages SET attempts = attempts + 1, reason = ? WHERE seq = ?"

_T = TypeVar("_T")


class OutboxError(Exception):
    """The outbox cannot be opened, read or written; the text names the file and SQLite's reason."""


@define(kw_only=True)
class Appended:
    """What became of the messages of one `append`, after its commit."""

    stored: list[StoredMessage] = Factory(list)
    """To be delivered, in order."""
    parked: list[StoredMessage] = Factory(list)
    """Kept, but without a vhost to go to."""
    dropped: list[str] = Factory(list)
    """The message_ids that have no vhost to go to and are of no use later."""
    repeated: list[str] = Factory(list)
    """The message_ids that the outbox held already, with an equal body."""
    conflicting: list[str] = Factory(list)
    """The message_ids that it held with another body; the new body was kept out."""


_Outcome = tuple["asyncio.Future[Any]", Any, "OutboxError | None"]
"""A job's future, its result, and the error instead of it."""


@frozen
class _Job:
    """Work for the thread, and where its result is awaited."""

    work: Callable[[sqlite3.Connection], Any]
    result: asyncio.Future[Any] = field(eq=False)


class Outbox:
    """The messages of one daemon. Every coroutine returns after the commit of what it did."""

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        needs_vhost: bool = True,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Name the file; nothing is opened yet.

        Args:
            path: The database; made where it does not exist, with its folder.
            synchronous: SQLite's. NORMAL survives a crash of the daemon but not always one of the machine.
            needs_vhost: Park messages that have no vhost (or drop them: `MOMENTARY_TYPES`), instead of delivering them.
            on_failure: Told, in the event loop, of every transaction that failed.
        """
        self._path = path
        self._synchronous = synchronous
        self._needs_vhost = needs_vhost
        self._on_failure = on_failure
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Open or make the database. Raises OutboxError."""
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._serve, args=(self._loop, ready), name="outbox")
        self._thread.start()
        try:
            await ready
        except OutboxError:
            self._thread.join()
            self._thread = None
            raise

    async def close(self) -> None:
        """Finish all that was asked for, commit it and close the file."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        # One more job, only to know that all before it are done; then the thread has nothing left but to close it.
        done = self._submit(lambda _connection: None)
        with self._wake:
            self._closing = True
            self._wake.notify()
        try:
            await done
        finally:
            thread.join()

    async def append(self, messages: Sequence[PublishMessage], *, marks: Mapping[str, int] | None = None) -> Appended:
        """Store messages, and raise marks, in one transaction. Returns when they are on disk.

        A message_id that is there already is not stored again (see `Appended`). A mark is a number that only rises.
        """

        def work(connection: sqlite3.Connection) -> Appended:
            appended = Appended()
            for message in messages:
                self._insert(connection, message, appended)
            connection.executemany(_RAISE_MARK, [(f"mark/{name}", str(value)) for name, value in (marks or {}).items()])
            return appended

        return await self._submit(work)

    async def mark(self, name: str) -> int:
        """Give the highest value that a mark was ever raised to; 0 where it never was."""

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (f"mark/{name}",)).fetchone()
            return int(row[0]) if row else 0

        return await self._submit(work)

    async def counts(self) -> dict[str, dict[str, int]]:
        """How many messages there are, by vhost and state (`pending`, `parked`)."""

        def work(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
            counts: dict[str, dict[str, int]] = {}
            for vhost, state, count in connection.execute("SELECT vhost, state, count(*) FROM messages GROUP BY 1, 2"):
                counts.setdefault(vhost, {})[state] = count
            return counts

        return await self._submit(work)

    async def pending_vhosts(self) -> list[str]:
        """Vhosts that have messages to deliver."""

        def work(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute("SELECT DISTINCT vhost FROM messages WHERE state = 'pending'")
            return [vhost for (vhost,) in rows]

        return await self._submit(work)

    async def parked_keys(self, vhost: str) -> set[str]:
        """Ordering keys of a vhost that stand behind a parked message."""

        def work(connection: sqlite3.Connection) -> set[str]:
            query = "SELECT DISTINCT ordering_key FROM messages WHERE state = 'parked' AND vhost = ?"
            return {key for (key,) in connection.execute(query, (vhost,))}

        return await self._submit(work)

    async def read_pending(self, vhost: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Messages to deliver with a `seq` above the given one, in order, at most `limit`."""

        def work(connection: sqlite3.Connection) -> list[StoredMessage]:
            return [_stored(row) for row in connection.execute(_READ_PENDING, (vhost, after_seq, limit))]

        return await self._submit(work)

    def confirm(self, seqs: Sequence[int]) -> None:
        """Forget delivered messages; the deletion is part of the next commit."""
        rows = [(seq,) for seq in seqs]
        self._submit(lambda connection: connection.executemany("DELETE FROM messages WHERE seq = ?", rows) and None)

    def note_failure(self, seq: int, reason: str) -> None:
        """Count a failed attempt."""
        self._submit(lambda connection: connection.execute(_NOTE_FAILURE, (reason, seq)) and None)

    def park(self, seq: int, reason: str) -> None:
        """Put a message aside; it counts as a failed attempt."""
        self._submit(lambda connection: connection.execute(_PARK, (reason, seq)) and None)

    def _insert(self, connection: sqlite3.Connection, message: PublishMessage, appended: Appended) -> None:
        parked = self._needs_vhost and not message.vhost
        if parked and message.type in MOMENTARY_TYPES:
            appended.dropped.append(message.message_id)
            return
        state = ("parked", NO_VHOST) if parked else ("pending", "")
        head = (message.message_id, message.vhost, message.ordering_key, message.type, message.routing_key)
        tail = (message.timestamp, message.callnumber, message.body, time.time(), *state)
        cursor = connection.execute(_INSERT, head + tail)
        if cursor.rowcount == 0:
            query = "SELECT body = ? FROM messages WHERE message_id = ?"
            (equal,) = connection.execute(query, (message.body, message.message_id)).fetchone()
            (appended.repeated if equal else appended.conflicting).append(message.message_id)
            return
        seq = cursor.lastrowid
        assert seq is not None  # noqa: S101  # our own invariant: the INSERT inserted
        stored = StoredMessage(
            seq=seq,
            vhost=message.vhost,
            ordering_key=message.ordering_key,
            message_id=message.message_id,
            type=message.type,
            routing_key=message.routing_key,
            timestamp=message.timestamp,
            callnumber=message.callnumber,
            body=message.body,
        )
        (appended.parked if parked else appended.stored).append(stored)

    def _submit(self, work: Callable[[sqlite3.Connection], _T]) -> asyncio.Future[_T]:
        """Queue work for the thread. The future also reports to `on_failure`, so that nobody has to await it."""
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
        if error is not None and self._on_failure is not None:
            self._on_failure(error)

    # What follows runs in the outbox's thread.

    def _serve(self, loop: asyncio.AbstractEventLoop, ready: asyncio.Future[None]) -> None:
        opened: _Outcome = (ready, None, None)
        try:
            connection = _connect(self._path, self._synchronous)
        except (sqlite3.Error, OSError, OutboxError) as error:
            opened = (ready, None, _described(self._path, error))
            return
        finally:
            loop.call_soon_threadsafe(_settle, [opened])
        try:
            while jobs := self._take():
                loop.call_soon_threadsafe(_settle, self._transact(connection, jobs))
        finally:
            connection.close()

    def _take(self) -> list[_Job]:
        """Give all the work that is waiting; blocks until there is some. Empty: the outbox was closed, all is done."""
        with self._wake:
            while not self._jobs and not self._closing:
                self._wake.wait()
            jobs = list(self._jobs)
            self._jobs.clear()
        return jobs

    def _transact(self, connection: sqlite3.Connection, jobs: list[_Job]) -> list[_Outcome]:
        """Do all jobs in one transaction. They succeed together or fail together."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [job.work(connection) for job in jobs]
            connection.execute("COMMIT")
        except Exception as error:  # whatever it is, the waiting must hear of it and the thread must live
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = _described(self._path, error)
            return [(job.result, None, failure) for job in jobs]
        return [(job.result, result, None) for job, result in zip(jobs, results, strict=True)]


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    # Call data is nobody else's business: the folder and the file are the daemon's alone.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        _prepare_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare_schema(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
    connection.execute("COMMIT")
    (version,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if int(version) != SCHEMA_VERSION:
        raise OutboxError(f"{path}: schema version {version}, this program writes {SCHEMA_VERSION}")


def _stored(row: tuple[Any, ...]) -> StoredMessage:
    seq, vhost, ordering_key, message_id, kind, routing_key, timestamp, callnumber, body = row
    return StoredMessage(
        seq=seq,
        vhost=vhost,
        ordering_key=ordering_key,
        message_id=message_id,
        type=kind,
        routing_key=routing_key,
        timestamp=timestamp,
        callnumber=callnumber,
        body=body,
    )


def _described(path: Path, error: Exception) -> OutboxError:
    return error if isinstance(error, OutboxError) else OutboxError(f"{path}: {error}")


def _settle(outcomes: Sequence[_Outcome]) -> None:
    """Hand results over, in the event loop; one call for a whole transaction."""
    for future, result, error in outcomes:
        if future.done():  # whoever waited was cancelled
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
