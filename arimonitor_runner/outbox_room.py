"""How much the outbox holds, and what goes when it is too much.

Only what tells how things were at a moment is ever dropped, the oldest first. What happened to a call is kept as long
as the disk has room.
"""

from __future__ import annotations

import sqlite3

from attrs import frozen

ALARM_SHARE = 0.8
"""Of the bound; above it the operator is told."""
_STEP_SHARE = 0.01
"""Of the bound; so much more, and it is counted again. Counting walks through an index of all messages."""

_DROP_MOMENTARY = """
DELETE FROM messages WHERE seq IN (
    SELECT seq FROM messages INDEXED BY messages_momentary WHERE type = 'endpoint-status' ORDER BY seq LIMIT ?)
"""


@frozen
class Level:
    """What was counted."""

    rows: int
    dropped: int
    """Momentary messages that had to go."""
    next_look_at: int
    """As long as no `seq` is above this, there cannot be too many messages, nor notably more than now."""


def highest_seq(connection: sqlite3.Connection) -> int:
    """The last `seq` that was given; 0 where none was."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    return int(row[0]) if row else 0


def make_room(connection: sqlite3.Connection, rows_max: int) -> Level:
    """Count, and drop momentary messages where there are more than `rows_max`."""
    (rows,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    step = max(1, int(rows_max * _STEP_SHARE))
    dropped = 0
    if rows > rows_max:
        # A step below the bound, so that it is not counted again at the very next message.
        dropped = connection.execute(_DROP_MOMENTARY, (rows - rows_max + step,)).rowcount
        rows -= dropped
    alarm_in = int(rows_max * ALARM_SHARE) - rows
    return Level(rows=rows, dropped=dropped, next_look_at=highest_seq(connection) + max(alarm_in, step))
