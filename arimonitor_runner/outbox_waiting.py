"""Messages that wait in the outbox until what they speak of is true: a closed call's, for its recordings.

A waiting message is not delivered, and holds back whatever follows of its ordering key. When it is released it gets a
new `seq`, and what it held back likewise: whoever reads the outbox only ever goes forward.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from arimonitor_runner.sinks import StoredMessage

_HELD = "SELECT 1 FROM messages WHERE state = 'waiting' AND vhost = ? AND ordering_key = ?"
_FIND = "SELECT seq, vhost, ordering_key FROM messages WHERE message_id = ? AND state = 'waiting'"
_FOLLOWING = """
SELECT seq, message_id, vhost, ordering_key, type, routing_key, timestamp, callnumber, body, created, attempts, state,
       reason, release_at
FROM messages WHERE vhost = ? AND seq >= ? AND ordering_key = ? ORDER BY seq
"""
_AGAIN = """
INSERT INTO messages (message_id, vhost, ordering_key, type, routing_key, timestamp, callnumber, body, created,
                      attempts, state, reason, release_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_READ = """
SELECT seq, vhost, ordering_key, message_id, type, routing_key, timestamp, callnumber, body FROM messages WHERE seq = ?
"""


def is_held(connection: sqlite3.Connection, vhost: str, ordering_key: str) -> bool:
    """Is there a waiting message of this key?"""
    return connection.execute(_HELD, (vhost, ordering_key)).fetchone() is not None


def release(
    connection: sqlite3.Connection, message_id: str, rewrite: Callable[[bytes], bytes]
) -> list[StoredMessage] | None:
    """Make a waiting message pending, its body rewritten, and what it held back readable again.

    Returns what can be delivered now, in order. None: no such message waits.
    """
    found = connection.execute(_FIND, (message_id,)).fetchone()
    if found is None:
        return None
    seq, vhost, ordering_key = found
    deliverable = []
    is_waiting = False
    for row in connection.execute(_FOLLOWING, (vhost, seq, ordering_key)).fetchall():
        old_seq, *values = row
        if old_seq == seq:
            values[7], values[10], values[12] = rewrite(values[7]), "pending", 0.0
        is_waiting = is_waiting or values[10] == "waiting"
        connection.execute("DELETE FROM messages WHERE seq = ?", (old_seq,))
        new_seq = connection.execute(_AGAIN, values).lastrowid
        if values[10] == "pending" and not is_waiting:
            deliverable.append(stored_message(connection.execute(_READ, (new_seq,)).fetchone()))
    return deliverable


def overdue(connection: sqlite3.Connection, now: float) -> list[str]:
    """The message_ids that have waited long enough, oldest first; `now` in Unix seconds."""
    query = "SELECT message_id FROM messages WHERE state = 'waiting' AND release_at <= ? ORDER BY seq"
    return [message_id for (message_id,) in connection.execute(query, (now,))]


def next_release_at(connection: sqlite3.Connection) -> float | None:
    """When the first one is due, in Unix seconds; None where none waits."""
    (due,) = connection.execute("SELECT min(release_at) FROM messages WHERE state = 'waiting'").fetchone()
    return None if due is None else float(due)


def stored_message(row: tuple[Any, ...]) -> StoredMessage:
    """A message of a row: seq, vhost, ordering_key, message_id, type, routing_key, timestamp, callnumber, body."""
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
