"""What is to be stored, and how far it got: a table beside the messages that wait for it, in the outbox's file.

A recording comes in together with its message and the mark of the input that caused both, so no crash can lose one of
them. Each step is written down before the next one begins. What a message said of a recording and what became of it are
settled in one transaction as well: the message is released, or a `recording` message is added.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal

import attrs
from attrs import frozen

from arimonitor_core import messages
from arimonitor_core.effects import StoreRecordings
from arimonitor_runner.outbox import Appended, Outbox
from arimonitor_runner.outbox_waiting import next_release_at, overdue, release
from arimonitor_runner.recordings.names import name_mp3
from arimonitor_runner.sinks import StoredMessage

Step = Literal["found", "finished", "converted", "uploaded", "verified", "published", "given-up"]

STORED_LATE: Final = "stored-late"
STORED_ELSEWHERE: Final = "stored-elsewhere"
LOST: Final = "lost"

_OPEN: Final = "step NOT IN ('published', 'given-up')"


@frozen(kw_only=True)
class Entry:
    """One recording of one call. Times that end in `_ms` are milliseconds since the Unix epoch, others seconds."""

    id: int
    guid: str
    message_id: str
    """The message that holds its link."""
    ordinal: int
    """Its place among the recordings of that message."""
    is_linked: bool
    """It is the message's `urlfilename` too."""
    path: str
    """As Asterisk said it."""
    vhost: str
    client: str
    callnumber: int
    origin: str
    destiny: str
    created_ms: int
    answered_ms: int
    ended_ms: int
    step: Step
    """The last one that is done."""
    name: str
    """Of the MP3; empty where the path's is not plain."""
    server: str
    """Name of the audio server that was chosen; empty: none yet."""
    wire_url: str
    """What the core called it."""
    url: str
    """Where it is, or will be."""
    told_url: str | None
    """What the message said that went out; empty: it left it out; None: it did not go out yet."""
    is_told: bool
    """All that can be said of it is said."""
    wav_bytes: int
    mp3_bytes: int
    sha256: str
    """Of the MP3 that was made here; empty where it was made on the audio server."""
    attempts: int
    """That failed since the last step."""
    next_try_at: float
    error: str
    """Why the last attempt failed."""
    is_kept: bool
    """Its files are still here."""
    created: float
    updated: float


_COLUMNS: Final = tuple(field.name for field in attrs.fields(Entry))
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM recordings"  # noqa: S608  # our own names
_FLAGS: Final = frozenset({"is_linked", "is_told", "is_kept"})

_INSERT: Final = """
INSERT INTO recordings (guid, message_id, ordinal, is_linked, path, vhost, client, callnumber, origin, destiny,
    created_ms, answered_ms, ended_ms, name, wire_url, url, told_url, created, updated)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15, ?16, ?17, ?17)
ON CONFLICT (message_id, ordinal) DO NOTHING
"""


def read_entries(connection: sqlite3.Connection, where: str = "", values: Sequence[object] = ()) -> list[Entry]:
    """The recordings that a condition of our own names, in its order."""
    return [_entry(row) for row in connection.execute(f"{_SELECT} {where}", values)]


def _entry(row: Sequence[Any]) -> Entry:
    values: dict[str, Any] = dict(zip(_COLUMNS, row, strict=True))
    return Entry(**values | {name: bool(values[name]) for name in _FLAGS})


@frozen(kw_only=True)
class Agenda:
    """What there is to do; times in Unix seconds."""

    overdue: list[str]
    """The message_ids that waited long enough, oldest first."""
    due: list[Entry]
    """Recordings that can be worked on, longest due first; none whose file another one has that is worked on."""
    next_due_at: float
    """When something will be due that is not yet; infinite: nothing will."""


class Ledger:
    """One daemon's. All of it happens in the outbox's thread; each coroutine returns after its commit."""

    def __init__(self, outbox: Outbox, *, clock: Callable[[], float], max_wait_s: float) -> None:
        """Name the outbox, the clock (Unix seconds; asked in both threads) and how long messages wait."""
        self._outbox = outbox
        self._clock = clock
        self._max_wait_s = max_wait_s

    def open(self) -> None:
        """From now on recordings that come with their message are kept."""
        self._outbox.keep_recordings = self._keep

    async def agenda(self, now: float, room: int, busy: Collection[Entry]) -> Agenda:
        """What there is to do, where there is room for so many recordings beside the busy ones."""

        def work(connection: sqlite3.Connection) -> Agenda:
            return Agenda(
                overdue=overdue(connection, now),
                due=_due(connection, now, room, busy) if room > 0 else [],
                next_due_at=_next_due_at(connection, now),
            )

        return await self._outbox.transact(work)

    async def of_message(self, message_id: str) -> list[Entry]:
        """The recordings of a message, in its order."""
        return await self._outbox.transact(lambda connection: _of_message(connection, message_id))

    async def update(self, entry: Entry, **changes: object) -> Entry:
        """Write down how far it got; gives it as it is now."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> Entry:
            _update(connection, entry.id, now, changes)
            return read_entries(connection, "WHERE id = ?", (entry.id,))[0]

        return await self._outbox.transact(work)

    async def settle(
        self,
        message_id: str,
        *,
        is_due: bool = False,
        entry: Entry | None = None,
        changes: Mapping[str, object] | None = None,
    ) -> list[StoredMessage]:
        """Say what can be said of a message's recordings; gives the messages to deliver.

        Args:
            message_id: the message that holds their links.
            is_due: it goes out now, whatever is known.
            entry: one of them, and
            changes: what is to be written down of it before.
        """
        now = self._clock()

        def work(connection: sqlite3.Connection) -> list[StoredMessage]:
            if entry is not None and changes:
                _update(connection, entry.id, now, changes)
            return self._settle(connection, message_id, now, is_due=is_due)

        return await self._outbox.transact(work)

    async def release_all(self) -> list[StoredMessage]:
        """Let every waiting message go, as where nobody works on recordings any more; gives them."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> list[StoredMessage]:
            waiting = overdue(connection, float("inf"))
            return [message for one in waiting for message in self._settle(connection, one, now, is_due=True)]

        return await self._outbox.transact(work)

    async def leave_to_others(self, before: float) -> int:
        """Give up no, but forget what another member of a pair has told of, of calls before these Unix seconds."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> int:
            query = f"""
                UPDATE recordings SET step = 'published', is_told = 1, is_kept = 0, updated = ?
                WHERE {_OPEN} AND ended_ms < ? AND NOT EXISTS (
                    SELECT 1 FROM messages WHERE messages.message_id = recordings.message_id)
            """  # noqa: S608  # our own words
            return connection.execute(query, (now, before * 1000)).rowcount

        return await self._outbox.transact(work)

    async def kept(self, limit: int) -> list[Entry]:
        """Stored recordings whose files are still here, longest stored first."""
        where = "WHERE step = 'published' AND is_kept = 1 ORDER BY updated, id LIMIT ?"
        return await self._outbox.transact(lambda connection: read_entries(connection, where, (limit,)))

    async def is_needed(self, entry: Entry) -> bool:
        """Does another call need the same WAV still?"""
        query = "SELECT 1 FROM recordings WHERE path = ? AND id <> ? AND step <> 'published'"

        def work(connection: sqlite3.Connection) -> bool:
            return connection.execute(query, (entry.path, entry.id)).fetchone() is not None

        return await self._outbox.transact(work)

    async def removed(self, entry: Entry) -> None:
        """Its files are not here any more. It stays as old as it is."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE recordings SET is_kept = 0 WHERE id = ?", (entry.id,))

        await self._outbox.transact(work)

    async def prune(self, before: float) -> int:
        """Forget what was settled before these Unix seconds, where no file is left to look after."""
        query = """
            DELETE FROM recordings
            WHERE updated < ? AND is_told = 1 AND (step = 'given-up' OR (step = 'published' AND is_kept = 0))
        """
        return await self._outbox.transact(lambda connection: connection.execute(query, (before,)).rowcount)

    async def counts(self) -> dict[str, int]:
        """How many there are, by step."""
        query = "SELECT step, count(*) FROM recordings GROUP BY step"
        return await self._outbox.transact(lambda connection: dict(connection.execute(query).fetchall()))

    # What follows runs in the outbox's thread, within a transaction.

    def _keep(self, connection: sqlite3.Connection, store: StoreRecordings) -> float:
        now = self._clock()
        waits = self._max_wait_s > 0
        for ordinal, file in enumerate(store.files):
            name = _free_name(connection, name_mp3(file.path), file.path, store.guid)
            connection.execute(
                _INSERT,
                (store.guid, store.message_id, ordinal, file.is_linked, file.path, store.vhost, store.client,
                 store.callnumber, store.origin, store.destiny, store.created_ms, store.answered_ms, store.ended_ms,
                 name, file.url, None if waits else file.url, now),
            )  # fmt: skip
        return now + self._max_wait_s if waits else 0.0

    def _settle(
        self, connection: sqlite3.Connection, message_id: str, now: float, *, is_due: bool
    ) -> list[StoredMessage]:
        entries = _of_message(connection, message_id)
        is_complete = all(entry.step in {"verified", "published", "given-up"} for entry in entries)
        appended = Appended()
        if any(entry.told_url is None for entry in entries) or not entries:
            if not is_due and not is_complete:
                return []
            appended.stored += self._release(connection, message_id, entries, now)
        for before, entry in zip(entries, _of_message(connection, message_id), strict=True):
            if entry.is_told or entry.step not in {"verified", "given-up"}:
                continue
            status = _status(before, entry)
            if status:
                told = messages.recording(
                    guid=entry.guid,
                    callnumber=entry.callnumber,
                    vhost=entry.vhost,
                    urlfilename=entry.url,
                    status=status,
                    reason=entry.error or "it took longer than the message could wait",
                    at_ms=round(now * 1000),
                )
                self._outbox.insert(connection, told, appended)
            step = "published" if entry.step == "verified" else entry.step
            _update(connection, entry.id, now, {"step": step, "is_told": 1})
        return appended.stored

    def _release(
        self, connection: sqlite3.Connection, message_id: str, entries: Sequence[Entry], now: float
    ) -> list[StoredMessage]:
        """Let the message go with what its links are by now; write down what it says."""
        told = {entry.id: "" if entry.step == "given-up" else entry.url for entry in entries}
        linked = next((told[entry.id] for entry in entries if entry.is_linked), "")
        listed = [url for url in told.values() if url]

        def rewrite(body: bytes) -> bytes:
            return messages.relink(body, linked, listed) if entries else body

        released = release(connection, message_id, rewrite)
        for entry in entries:
            # One that did not wait (it belongs to no client, say) went out as it was.
            url = entry.wire_url if released is None else told[entry.id]
            _update(connection, entry.id, now, {"told_url": url})
        return released or []


def _status(before: Entry, entry: Entry) -> str:
    """What is to be told of it beyond what its message said; empty: nothing."""
    if entry.step == "given-up":
        return LOST
    if entry.url != entry.told_url:
        return STORED_ELSEWHERE
    return "" if before.told_url is None else STORED_LATE


def _due(connection: sqlite3.Connection, now: float, room: int, busy: Collection[Entry]) -> list[Entry]:
    names, paths = {entry.name for entry in busy}, {entry.path for entry in busy}
    where = f"WHERE {_OPEN} AND next_try_at <= ? ORDER BY next_try_at, id LIMIT ?"
    found: list[Entry] = []
    for entry in read_entries(connection, where, (now, room + 2 * len(busy))):
        if entry.name not in names and entry.path not in paths:
            names.add(entry.name)
            paths.add(entry.path)
            found.append(entry)
    return found[:room]


def _next_due_at(connection: sqlite3.Connection, now: float) -> float:
    query = f"SELECT min(next_try_at) FROM recordings WHERE {_OPEN} AND next_try_at > ?"  # noqa: S608  # our own
    (next_try_at,) = connection.execute(query, (now,)).fetchone()
    return min((at for at in (next_try_at, next_release_at(connection)) if at is not None), default=math.inf)


def _of_message(connection: sqlite3.Connection, message_id: str) -> list[Entry]:
    return read_entries(connection, "WHERE message_id = ? ORDER BY ordinal", (message_id,))


def _update(connection: sqlite3.Connection, entry_id: int, now: float, changes: Mapping[str, Any]) -> None:
    assert changes.keys() <= set(_COLUMNS)  # noqa: S101  # our own invariant: names become SQL
    wanted = {**changes, "updated": now}
    columns = ", ".join(f"{name} = ?" for name in wanted)
    query = f"UPDATE recordings SET {columns} WHERE id = ?"  # noqa: S608  # our own names
    connection.execute(query, (*wanted.values(), entry_id))


def _free_name(connection: sqlite3.Connection, name: str, path: str, guid: str) -> str:
    """The name, or another one where a file of another folder has it already."""
    query = "SELECT 1 FROM recordings WHERE name = ? AND path <> ?"
    if not name or connection.execute(query, (name, path)).fetchone() is None:
        return name
    return f"{name.removesuffix('.mp3')}-{guid[-12:]}.mp3"
