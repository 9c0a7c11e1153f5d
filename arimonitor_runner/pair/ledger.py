"""What a member knows from the other one: which number a call has, which messages are delivered, which calls are over.

It is kept in the member's own outbox. It looks at every message before the outbox stores it, in the same transaction:
what the other one delivered already is not stored, and a call that it numbered keeps that number. So it does not matter
which of the two is ahead.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from attrs import frozen

from arimonitor_core.effects import PublishMessage
from arimonitor_core.messages import renumber
from arimonitor_runner.outbox import MOMENTARY_TYPES, Outbox
from arimonitor_runner.outbox_marks import raise_marks, read_mark
from arimonitor_runner.pair.announcements import Announcement, Delivered, covers_of

KEEP_S: Final = 7 * 86400.0
"""How long is remembered what nothing came of: messages that this member never decided, calls that are over."""
KEEP_LIVE_S: Final = 4 * KEEP_S
"""Likewise the numbers of calls whose end nobody told of."""
_PRUNE_EVERY: Final = 1000
"""Announcements heard between two looks at what is too old."""

_TABLES: Final = (
    """
CREATE TABLE IF NOT EXISTS pair_calls (
    ordering_key TEXT PRIMARY KEY,
    callnumber INTEGER NOT NULL DEFAULT 0,
    term INTEGER NOT NULL DEFAULT 0,
    -- live; barred: its last message is delivered, and this member has yet to decide its own; over: it has.
    state TEXT NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'barred', 'over')),
    heard REAL NOT NULL
) STRICT
""",
    "CREATE INDEX IF NOT EXISTS pair_calls_by_number ON pair_calls (callnumber)",
    """
CREATE TABLE IF NOT EXISTS pair_delivered (
    message_id TEXT PRIMARY KEY,
    ordering_key TEXT NOT NULL,
    heard REAL NOT NULL
) STRICT
""",
    "CREATE INDEX IF NOT EXISTS pair_delivered_by_key ON pair_delivered (ordering_key)",
    # What was delivered last of an endpoint: its message_id without the time.
    "CREATE TABLE IF NOT EXISTS pair_states (ordering_key TEXT PRIMARY KEY, said TEXT NOT NULL) STRICT",
    "CREATE INDEX IF NOT EXISTS messages_by_key ON messages (ordering_key)",
)

_GIVE: Final = """
INSERT INTO pair_calls (ordering_key, callnumber, term, heard) VALUES (?, ?, ?, ?) ON CONFLICT (ordering_key)
DO UPDATE SET callnumber = excluded.callnumber, term = excluded.term WHERE excluded.term >= term
"""
_END: Final = """
INSERT INTO pair_calls (ordering_key, state, heard) VALUES (?, ?, ?) ON CONFLICT (ordering_key)
DO UPDATE SET state = excluded.state, heard = excluded.heard WHERE state <> 'over'
"""
_SAY: Final = """
INSERT INTO pair_states VALUES (?, ?) ON CONFLICT (ordering_key) DO UPDATE SET said = excluded.said
"""
_TERM: Final = "pair/term"
_HIGHEST: Final = "pair/callnumber"


@frozen
class Knowledge:
    """What a new leader begins with."""

    term: int
    """The highest that was heard of."""
    highest: int
    """The highest callnumber that was announced; 0: none ever was."""
    numbers: dict[str, int]
    """callnumber by guid, of the calls that go on."""


class Ledger:
    """One member's. All of it happens in the outbox's thread; each method returns after its commit."""

    def __init__(self, outbox: Outbox, *, callnumber_mark: str) -> None:
        """Name the outbox and its mark for the highest callnumber of all."""
        self._outbox = outbox
        self._callnumber_mark = callnumber_mark
        self._heard = 0

    async def open(self) -> None:
        """Make the tables where they are missing and look at every message from now on."""

        def work(connection: sqlite3.Connection) -> None:
            for statement in _TABLES:
                connection.execute(statement)
            _prune(connection)

        await self._outbox.transact(work)
        self._outbox.screen = _screen

    async def knowledge(self) -> Knowledge:
        """Give what is known."""

        def work(connection: sqlite3.Connection) -> Knowledge:
            query = "SELECT ordering_key, callnumber FROM pair_calls WHERE state = 'live' AND callnumber > 0"
            return Knowledge(
                read_mark(connection, _TERM), read_mark(connection, _HIGHEST), dict(connection.execute(query))
            )

        return await self._outbox.transact(work)

    async def own_numbers(self) -> dict[str, int]:
        """Give callnumber by guid of the messages that wait, as this member numbered them."""

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            return dict(connection.execute("SELECT ordering_key, callnumber FROM messages WHERE callnumber > 0"))

        return await self._outbox.transact(work)

    async def find_numbers(self, guids: Iterable[str]) -> dict[str, int]:
        """Give the numbers of those calls that have one."""
        wanted = list(guids)

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            query = "SELECT callnumber FROM pair_calls WHERE ordering_key = ? AND callnumber > 0"
            rows = ((guid, connection.execute(query, (guid,)).fetchone()) for guid in wanted)
            return {guid: row[0] for guid, row in rows if row is not None}

        return await self._outbox.transact(work)

    async def hear(self, announcements: Sequence[Announcement]) -> dict[str, int]:
        """Take what others said; gives the numbers that hold. Those of a leader who was followed by another do not."""

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            numbers: dict[str, int] = {}
            for announcement in announcements:
                if announcement.term >= read_mark(connection, _TERM):
                    numbers |= announcement.numbers
                    self._give(connection, announcement.term, announcement.numbers)
                raise_marks(connection, {_HIGHEST: announcement.highest, self._callnumber_mark: announcement.highest})
                for delivered in announcement.delivered:
                    _strike(connection, delivered)
            return numbers

        numbers = await self._outbox.transact(work)
        self._heard += len(announcements)
        if self._heard >= _PRUNE_EVERY:
            self._heard = 0
            await self._outbox.transact(_prune)
        return numbers

    async def give(self, term: int, numbers: Mapping[str, int], highest: int = 0) -> None:
        """Write down what this member announced as the leader of a term."""

        def work(connection: sqlite3.Connection) -> None:
            self._give(connection, term, numbers)
            raise_marks(connection, {_HIGHEST: highest, self._callnumber_mark: highest})

        await self._outbox.transact(work)

    async def describe(self, seqs: Sequence[int]) -> list[Delivered]:
        """Say of confirmed messages what the others need to hear; those that are gone already are left out."""

        def work(connection: sqlite3.Connection) -> list[Delivered]:
            query = "SELECT message_id, ordering_key, timestamp, type, routing_key FROM messages WHERE seq = ?"
            rows = (connection.execute(query, (seq,)).fetchone() for seq in seqs)
            return [_delivered(*row) for row in rows if row is not None]

        return await self._outbox.transact(work)

    async def forget(self, delivered: Sequence[Delivered]) -> None:
        """Remove messages that this member delivered and announced."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM messages WHERE message_id = ?", [(m.message_id,) for m in delivered])
            over = [(item.ordering_key, "over", time.time()) for item in delivered if item.covers == "call"]
            connection.executemany(_END, over)
            said = [(item.ordering_key, _said(item.message_id)) for item in delivered if item.covers == "older"]
            connection.executemany(_SAY, said)

        await self._outbox.transact(work)

    async def drop_momentary(self, before: int) -> int:
        """Remove messages that told how things were at a moment before these Unix seconds; gives how many."""

        def work(connection: sqlite3.Connection) -> int:
            query = "DELETE FROM messages WHERE type = ? AND timestamp < ?"
            return connection.executemany(query, [(kind, before) for kind in sorted(MOMENTARY_TYPES)]).rowcount

        return await self._outbox.transact(work)

    def _give(self, connection: sqlite3.Connection, term: int, numbers: Mapping[str, int]) -> None:
        now = time.time()
        for guid, number in numbers.items():
            # A leader that was cut off may have meant the same number for another call; it never told anybody of it.
            query = "DELETE FROM pair_calls WHERE callnumber = ? AND ordering_key <> ? AND term < ?"
            connection.execute(query, (number, guid, term))
            connection.execute(_GIVE, (guid, number, term, now))
            _renumber(connection, guid, number)
        highest = max(numbers.values(), default=0)
        raise_marks(connection, {_TERM: term, _HIGHEST: highest, self._callnumber_mark: highest})


def _screen(connection: sqlite3.Connection, message: PublishMessage) -> PublishMessage | None:
    """Give a message as it is to be stored; None: the other one delivered it, or something that makes it needless."""
    key = message.ordering_key
    call = connection.execute("SELECT callnumber, state FROM pair_calls WHERE ordering_key = ?", (key,)).fetchone()
    number, state = call or (0, "live")
    if state == "barred":
        if covers_of(message.type, message.routing_key) == "call":
            connection.execute("UPDATE pair_calls SET state = 'over' WHERE ordering_key = ?", (key,))
        return None
    query = "DELETE FROM pair_delivered WHERE message_id = ?"
    if connection.execute(query, (message.message_id,)).rowcount:
        return None
    if covers_of(message.type, message.routing_key) == "older" and _is_said(connection, message):
        return None
    if number and message.callnumber not in (0, number):
        body = renumber(message.body, number)
        return msgspec.structs.replace(message, callnumber=number, body=body)
    return message


def _is_said(connection: sqlite3.Connection, message: PublishMessage) -> bool:
    """Is this how an endpoint is known to be? Members that come at different times find it so at different times."""
    queries = (
        "SELECT message_id FROM messages WHERE ordering_key = ? ORDER BY seq DESC LIMIT 1",
        "SELECT said || ':' FROM pair_states WHERE ordering_key = ?",
    )
    rows = (connection.execute(query, (message.ordering_key,)).fetchone() for query in queries)
    last = next((row[0] for row in rows if row is not None), "")
    return _said(last) == _said(message.message_id)


def _said(message_id: str) -> str:
    """What a message about an endpoint says, whenever it was."""
    return message_id.rpartition(":")[0]


def _delivered(message_id: str, ordering_key: str, timestamp: int, kind: str, routing_key: str) -> Delivered:
    return Delivered(message_id, ordering_key, timestamp, covers_of(kind, routing_key))


def _strike(connection: sqlite3.Connection, delivered: Delivered) -> None:
    """The other member delivered a message: remove ours, or remember it until ours comes."""
    key, now = delivered.ordering_key, time.time()
    if delivered.covers == "call":
        query = "SELECT type, routing_key FROM messages WHERE ordering_key = ?"
        decided = any(covers_of(*row) == "call" for row in connection.execute(query, (key,)))
        connection.execute(_END, (key, "over" if decided else "barred", now))
        connection.execute("DELETE FROM messages WHERE ordering_key = ?", (key,))
        connection.execute("DELETE FROM pair_delivered WHERE ordering_key = ?", (key,))
        return
    struck = connection.execute("DELETE FROM messages WHERE message_id = ?", (delivered.message_id,)).rowcount
    if delivered.covers == "older":
        query = "DELETE FROM messages WHERE ordering_key = ? AND timestamp <= ?"
        connection.execute(query, (key, delivered.timestamp))
        query = "SELECT seq, message_id FROM messages WHERE ordering_key = ? ORDER BY seq LIMIT 1"
        first = connection.execute(query, (key,)).fetchone()
        if first is not None and _said(first[1]) == _said(delivered.message_id):
            connection.execute("DELETE FROM messages WHERE seq = ?", first[:1])
        connection.execute(_SAY, (key, _said(delivered.message_id)))
    if not struck:
        query = "INSERT OR IGNORE INTO pair_delivered VALUES (?, ?, ?)"
        connection.execute(query, (delivered.message_id, key, now))


def _renumber(connection: sqlite3.Connection, guid: str, number: int) -> None:
    """Give the messages of a call that are waiting another callnumber."""
    query = "SELECT seq, body FROM messages WHERE ordering_key = ? AND callnumber NOT IN (0, ?)"
    changed = [(number, renumber(body, number), seq) for seq, body in connection.execute(query, (guid, number))]
    connection.executemany("UPDATE messages SET callnumber = ?, body = ? WHERE seq = ?", changed)


def _prune(connection: sqlite3.Connection) -> None:
    now = time.time()
    connection.execute("DELETE FROM pair_calls WHERE state <> 'live' AND heard < ?", (now - KEEP_S,))
    connection.execute("DELETE FROM pair_calls WHERE heard < ?", (now - KEEP_LIVE_S,))
    connection.execute("DELETE FROM pair_delivered WHERE heard < ?", (now - KEEP_S,))
