"""Messages on disk between the core that decided them and the broker that confirmed them (SQLite, WAL).

A message is here from the commit of `append` to the commit after its `confirm`. A crash between the broker's confirm
and that commit makes the message go out again, with the same message_id. Nobody is told that something was done before
it is on disk, so a message that was offered to the broker survives any crash.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import structlog
from attrs import Factory, asdict, define

from arimonitor_core.effects import LastingEffect, PublishMessage, StoreRecordings
from arimonitor_runner.outbox_file import OutboxError, OutboxUnavailableError
from arimonitor_runner.outbox_marks import raise_marks, read_mark
from arimonitor_runner.outbox_room import ALARM_SHARE, Level, highest_seq, make_room
from arimonitor_runner.outbox_thread import OutboxThread
from arimonitor_runner.outbox_waiting import is_held, stored_message
from arimonitor_runner.sinks import StoredMessage

__all__ = ["MOMENTARY_TYPES", "NO_VHOST", "Appended", "Counts", "Outbox", "OutboxError", "OutboxUnavailableError"]

_INSERT = """
INSERT INTO messages (message_id, vhost, ordering_key, type, routing_key, timestamp, callnumber, body, created,
                      state, reason, release_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (message_id) DO NOTHING
"""

_READ_PENDING = """
SELECT seq, vhost, ordering_key, message_id, type, routing_key, timestamp, callnumber, body FROM messages AS m
WHERE vhost = ? AND seq > ? AND state = 'pending' AND NOT EXISTS (
    SELECT 1 FROM messages AS p
    WHERE p.state = 'parked' AND p.vhost = m.vhost AND p.ordering_key = m.ordering_key AND p.seq < m.seq)
AND NOT EXISTS (
    SELECT 1 FROM messages AS w
    WHERE w.state = 'waiting' AND w.vhost = m.vhost AND w.ordering_key = m.ordering_key AND w.seq < m.seq)
ORDER BY seq LIMIT ?
"""

MOMENTARY_TYPES = frozenset({"endpoint-status"})
"""Messages that tell how things are just now: kept for a vhost that may be named one day, they would only mislead."""

NO_VHOST = "no vhost: no number of the call belongs to a client, and directory.default_vhost is not set"

_PARK = "UPDATE messages SET attempts = attempts + 1, state = 'parked', reason = ? WHERE seq = ?"
_NOTE_FAILURE = "UPDATE messages SET attempts = attempts + 1, reason = ? WHERE seq = ?"

_RETRY = """
UPDATE messages SET state = 'pending' WHERE seq IN (
    SELECT seq FROM messages WHERE state = 'parked' AND vhost = ? ORDER BY attempts, seq LIMIT ?) RETURNING seq
"""

_T = TypeVar("_T")

Screen = Callable[[sqlite3.Connection, PublishMessage], PublishMessage | None]
"""Gives a message as it is to be stored; None: it counts as repeated."""

KeepRecordings = Callable[[sqlite3.Connection, StoreRecordings], float]
"""Writes down what is to be stored; gives when the message goes out at the latest, in Unix seconds; 0: at once."""

_log = structlog.get_logger()


@define(kw_only=True)
class Appended:
    """What became of the messages of one `append`, after its commit."""

    stored: list[StoredMessage] = Factory(list)
    """To be delivered, in order."""
    parked: list[StoredMessage] = Factory(list)
    """Kept, but without a vhost to go to."""
    waiting: list[str] = Factory(list)
    """The message_ids that wait for their recordings."""
    dropped: list[str] = Factory(list)
    """The message_ids that have no vhost to go to and are of no use later."""
    repeated: list[str] = Factory(list)
    """The message_ids that the outbox held already, with an equal body."""
    conflicting: list[str] = Factory(list)
    """The message_ids that it held with another body; the new body was kept out."""


@define
class Counts:
    """What happened since the start."""

    dropped: int = 0
    """Momentary messages that had to go because there were too many of all."""
    troubles: int = 0
    """How often the disk was in trouble."""


class Outbox:
    """The messages of one daemon. Every coroutine returns after the commit of what it did."""

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        needs_vhost: bool = True,
        rows_max: int = 5_000_000,
        on_failure: Callable[[BaseException], None] = lambda _error: None,
        on_trouble: Callable[[str | None], None] = lambda _text: None,
    ) -> None:
        """Name the file; nothing is opened yet.

        Args:
            path: The database; made where it does not exist, with its folder.
            synchronous: SQLite's. NORMAL survives a crash of the daemon but not always one of the machine.
            needs_vhost: Park messages that have no vhost (or drop them: `MOMENTARY_TYPES`), instead of delivering them.
            rows_max: Messages above which momentary ones are dropped.
            on_failure: Told, in the event loop, of every transaction that failed.
            on_trouble: Told, in the event loop, that the disk takes nothing just now, and why; and with None that it
                does again. Nothing fails meanwhile: whoever waits goes on waiting.
        """
        self._needs_vhost = needs_vhost
        self._rows_max = rows_max
        self._on_trouble = on_trouble
        self._thread = OutboxThread(path, synchronous, on_failure=on_failure, on_trouble=self._note_trouble)
        self._look_at = 0
        self._is_filling = False
        self._data_version: int | None = None
        self.counts_since_start = Counts()
        self.screen: Screen | None = None
        """Looks at each message within the transaction that would store it."""
        self.keep_recordings: KeepRecordings | None = None
        """Within that transaction, too; None: recordings are nobody's business, and no message waits for any."""

    async def open(self) -> None:
        """Open or make the database. Raises OutboxError."""
        await self._thread.start()

    async def close(self) -> None:
        """Finish all that was asked for, commit it and close the file.

        Raises OutboxUnavailableError where the disk is in trouble and one more attempt did not help.
        """
        await self._thread.stop()

    def statistics(self) -> dict[str, int]:
        """What happened since the start, by name."""
        return asdict(self.counts_since_start)

    async def append(self, effects: Sequence[LastingEffect], *, marks: Mapping[str, int] | None = None) -> Appended:
        """Store messages and what they wait for, and raise marks, in one transaction. Returns when it is on disk.

        A message_id that is there already is not stored again (see `Appended`). A mark is a number that only rises.
        """

        def work(connection: sqlite3.Connection) -> tuple[Appended, Level | None]:
            appended = Appended()
            release_at: dict[str, float] = {}
            for effect in effects:
                if isinstance(effect, PublishMessage):
                    self.insert(connection, effect, appended, release_at.get(effect.message_id, 0.0))
                elif self.keep_recordings is not None:
                    release_at[effect.message_id] = self.keep_recordings(connection, effect)
            raise_marks(connection, marks or {})
            is_due = highest_seq(connection) > self._look_at
            return appended, make_room(connection, self._rows_max) if is_due else None

        appended, level = await self._submit(work)
        if level is not None:
            self._note_level(level)
        return appended

    async def mark(self, name: str) -> int:
        """Give the highest value that a mark was ever raised to; 0 where it never was."""
        return await self._submit(lambda connection: read_mark(connection, name))

    async def counts(self) -> dict[str, dict[str, int]]:
        """How many messages there are, by vhost and state (`pending`, `parked`, `waiting`)."""

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

    async def parked_vhosts(self) -> list[str]:
        """Vhosts that have messages put aside; not those that have none."""

        def work(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute("SELECT DISTINCT vhost FROM messages WHERE state = 'parked' AND vhost <> ''")
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
            return [stored_message(row) for row in connection.execute(_READ_PENDING, (vhost, after_seq, limit))]

        return await self._submit(work)

    async def retry_parked(self, vhost: str, *, limit: int | None = None) -> list[int]:
        """Make messages that were put aside pending again, those tried least often and longest ago first.

        Returns their `seq`. What stands behind them can be read again as well.
        """

        def work(connection: sqlite3.Connection) -> list[int]:
            return [seq for (seq,) in connection.execute(_RETRY, (vhost, -1 if limit is None else limit))]

        return await self._submit(work)

    async def changed_outside(self) -> bool:
        """Did another process write to the database since this was last asked? False the first time. Reads no row."""

        def work(connection: sqlite3.Connection) -> int:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            return int(version)

        before, self._data_version = self._data_version, await self._submit(work)
        return before is not None and before != self._data_version

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

    async def transact(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do the work of another part in a transaction. It may be done more than once, each time from the start."""
        return await self._submit(work)

    def insert(
        self, connection: sqlite3.Connection, message: PublishMessage, appended: Appended, release_at: float = 0.0
    ) -> None:
        """Store one message, within a transaction; with a time it waits until then at the latest."""
        wanted = message if self.screen is None else self.screen(connection, message)
        if wanted is None:
            appended.repeated.append(message.message_id)
        else:
            self._insert(connection, wanted, appended, release_at)

    def _insert(
        self, connection: sqlite3.Connection, message: PublishMessage, appended: Appended, release_at: float
    ) -> None:
        parked = self._needs_vhost and not message.vhost
        if parked and message.type in MOMENTARY_TYPES:
            appended.dropped.append(message.message_id)
            return
        state = ("parked", NO_VHOST) if parked else ("waiting" if release_at else "pending", "")
        head = (message.message_id, message.vhost, message.ordering_key, message.type, message.routing_key)
        tail = (message.timestamp, message.callnumber, message.body, time.time(), *state, release_at)
        cursor = connection.execute(_INSERT, head + tail)
        if cursor.rowcount == 0:
            query = "SELECT body = ? FROM messages WHERE message_id = ?"
            (equal,) = connection.execute(query, (message.body, message.message_id)).fetchone()
            (appended.repeated if equal else appended.conflicting).append(message.message_id)
            return
        if not parked and (release_at or is_held(connection, message.vhost, message.ordering_key)):
            if release_at:
                appended.waiting.append(message.message_id)
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
        return self._thread.submit(work)

    def _note_trouble(self, text: str | None) -> None:
        if text is not None:
            self.counts_since_start.troubles += 1
        self._on_trouble(text)

    def _note_level(self, level: Level) -> None:
        """Say that there is much, and what had to go."""
        self._look_at = level.next_look_at
        counts = {"messages": level.rows, "rows_max": self._rows_max}
        if level.dropped:
            self.counts_since_start.dropped += level.dropped
            _log.error("the outbox is full: old states of endpoints are dropped", dropped=level.dropped, **counts)
        elif level.rows >= self._rows_max * ALARM_SHARE:
            _log.error("the outbox fills up", **counts)
        elif self._is_filling:
            _log.info("the outbox has room again", **counts)
        self._is_filling = level.rows >= self._rows_max * ALARM_SHARE
