"""What an operator does to the outbox's file from another process, beside a running daemon or without one.

Every change is one short transaction. A running daemon notices it by itself (`Outbox.changed_outside`), and whatever it
has in memory of the messages does no harm: it confirms or parks by `seq`, which is never used twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from arimonitor_runner.outbox_file import OutboxError, require_schema

_SUMMARY = """
SELECT vhost, state, count(*), min(created), max(attempts), coalesce(max(reason), '')
FROM messages WHERE (?1 IS NULL OR vhost = ?1) GROUP BY vhost, state ORDER BY vhost, state
"""

_MESSAGES = """
SELECT seq, message_id, vhost, ordering_key, type, routing_key, timestamp, callnumber, created, attempts, state, reason,
       body
FROM messages WHERE (?1 IS NULL OR vhost = ?1) ORDER BY seq
"""

# A message that has no vhost can go nowhere; the others of its call have none either, and must keep their order.
_RETRY = """
UPDATE messages SET state = 'pending'
WHERE state = 'parked' AND vhost <> '' AND (?1 IS NULL OR vhost = ?1) AND (?2 IS NULL OR message_id = ?2)
"""
_GIVE_VHOST = """
UPDATE messages SET vhost = ?1, state = 'pending', reason = '' WHERE vhost = '' AND (
    ?2 IS NULL OR ordering_key = (SELECT ordering_key FROM messages WHERE vhost = '' AND message_id = ?2))
"""


@frozen
class Group:
    """The messages of one vhost that are in the same state."""

    vhost: str
    """Empty: of no client."""
    state: str
    """`pending`, `parked` or `waiting` (for its recordings)."""
    messages: int
    oldest: float
    """When the first of them was stored, in Unix seconds."""
    attempts_max: int
    """Most attempts at one of them."""
    reason: str
    """Why one of them failed; may be empty."""


@frozen
class Entry:
    """One message."""

    seq: int
    message_id: str
    vhost: str
    ordering_key: str
    type: str
    routing_key: str
    timestamp: int
    callnumber: int
    created: float
    """When it was stored, in Unix seconds."""
    attempts: int
    state: str
    reason: str
    body: bytes
    """JSON text."""


@contextmanager
def opened(path: Path, *, for_change: bool) -> Iterator[sqlite3.Connection]:
    """Open the file of an outbox; changes are committed at the end. Raises OutboxError; never makes a file."""
    connection: sqlite3.Connection | None = None
    try:
        uri = f"{path.resolve().as_uri()}?mode={'rw' if for_change else 'ro'}"
        connection = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None)
        require_schema(connection, path)
        if for_change:
            connection.execute("BEGIN IMMEDIATE")
        yield connection
        if for_change:
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise OutboxError(f"{path}: {error}") from error
    finally:
        if connection is not None:
            connection.close()


def summarize(connection: sqlite3.Connection, vhost: str | None) -> list[Group]:
    """Say what is there, by vhost and state."""
    return [Group(*row) for row in connection.execute(_SUMMARY, (vhost,))]


def read_messages(connection: sqlite3.Connection, vhost: str | None) -> Iterator[Entry]:
    """Give every message, in order."""
    return (Entry(*row) for row in connection.execute(_MESSAGES, (vhost,)))


def retry(connection: sqlite3.Connection, *, vhost: str | None, message_id: str | None) -> int:
    """Make parked messages that have a vhost pending; returns how many."""
    return _changed(connection, _RETRY, (vhost, message_id))


def give_vhost(connection: sqlite3.Connection, vhost: str, *, message_id: str | None) -> int:
    """Send messages that have no vhost to one: all, or those of one message's call; returns how many."""
    return _changed(connection, _GIVE_VHOST, (vhost, message_id))


def drop(connection: sqlite3.Connection, *, vhost: str | None = None, message_id: str | None = None) -> int:
    """Delete the messages of a vhost, or one; returns how many."""
    if message_id is not None:
        return _changed(connection, "DELETE FROM messages WHERE message_id = ?", (message_id,))
    return _changed(connection, "DELETE FROM messages WHERE vhost = ?", (vhost,))


def _changed(connection: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> int:
    return connection.execute(statement, values).rowcount
