"""The outbox's SQLite file: its tables, opening it, which errors pass by themselves, and what is done about damage.

A damaged file is set aside under another name, never deleted, and replaced by one that holds all messages and marks
that could still be read. Beside `outbox.db` there may be: `-wal` and `-shm`, which are SQLite's; `.rescued`, the
replacement while it is made; `.damaged-1`, `.damaged-2` and so on, what was set aside.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

SCHEMA_VERSION: Final = 3

_SCHEMA: Final = (
    """
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
) STRICT
""",
    "CREATE INDEX messages_by_vhost ON messages (vhost, seq)",
    "CREATE INDEX messages_parked ON messages (vhost, ordering_key, seq) WHERE state = 'parked'",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
)

_UPGRADES: Final = {
    # What may be dropped when there is no room is found without reading what may not.
    1: ("CREATE INDEX messages_momentary ON messages (seq) WHERE type = 'endpoint-status'",),
    # A message may wait for its recordings, and these have a ledger of their own (see `recordings.ledger`). What a
    # column may hold can only be changed by making the table anew; its numbers go on.
    2: (
        """
CREATE TABLE messages_new (
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
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'parked', 'waiting')),
    reason TEXT NOT NULL DEFAULT '',
    -- Of a waiting one: when it goes out at the latest, in Unix seconds.
    release_at REAL NOT NULL DEFAULT 0
) STRICT
""",
        """
INSERT INTO messages_new
SELECT seq, message_id, vhost, ordering_key, type, routing_key, timestamp, callnumber, body, created, attempts, state,
       reason, 0
FROM messages
""",
        "DELETE FROM sqlite_sequence WHERE name = 'messages_new'",
        "UPDATE sqlite_sequence SET name = 'messages_new' WHERE name = 'messages'",
        "DROP TABLE messages",
        "ALTER TABLE messages_new RENAME TO messages",
        "CREATE INDEX messages_by_vhost ON messages (vhost, seq)",
        "CREATE INDEX messages_parked ON messages (vhost, ordering_key, seq) WHERE state = 'parked'",
        "CREATE INDEX messages_waiting ON messages (vhost, ordering_key, seq) WHERE state = 'waiting'",
        "CREATE INDEX messages_momentary ON messages (seq) WHERE type = 'endpoint-status'",
        """
CREATE TABLE recordings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL,
    message_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    is_linked INTEGER NOT NULL,
    path TEXT NOT NULL,
    vhost TEXT NOT NULL,
    client TEXT NOT NULL,
    callnumber INTEGER NOT NULL,
    origin TEXT NOT NULL,
    destiny TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    answered_ms INTEGER NOT NULL,
    ended_ms INTEGER NOT NULL,
    step TEXT NOT NULL DEFAULT 'found' CHECK (
        step IN ('found', 'finished', 'converted', 'uploaded', 'verified', 'published', 'given-up')),
    name TEXT NOT NULL DEFAULT '',
    server TEXT NOT NULL DEFAULT '',
    wire_url TEXT NOT NULL,
    url TEXT NOT NULL,
    told_url TEXT,
    is_told INTEGER NOT NULL DEFAULT 0,
    wav_bytes INTEGER NOT NULL DEFAULT 0,
    mp3_bytes INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try_at REAL NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    is_kept INTEGER NOT NULL DEFAULT 1,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    UNIQUE (message_id, ordinal)
) STRICT
""",
        "CREATE INDEX recordings_open ON recordings (next_try_at) WHERE step NOT IN ('published', 'given-up')",
        "CREATE INDEX recordings_by_name ON recordings (name)",
        "CREATE INDEX recordings_by_path ON recordings (path)",
    ),
}
"""By version: the statements that make the next version of it."""

_COLUMNS: Final = """
seq, message_id, vhost, ordering_key, type, routing_key, timestamp, callnumber, body, created, attempts, state, reason
"""
_READ_MESSAGES: Final = tuple(
    f"SELECT {_COLUMNS}, {release_at} FROM messages ORDER BY seq {order}"  # noqa: S608
    # A file may be damaged before it could be upgraded: an old one has no such column.
    for release_at in ("release_at", "0")
    for order in ("ASC", "DESC")
)
_INSERT_ROW: Final = f"""
INSERT OR IGNORE INTO messages ({_COLUMNS}, release_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608
_READ_RECORDINGS: Final = ("SELECT * FROM recordings ORDER BY id", "SELECT * FROM recordings ORDER BY id DESC")

_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
    }
)
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SIDE_FILES: Final = ("", "-wal", "-shm")


class OutboxError(Exception):
    """The outbox cannot be opened, read or written; the text names the file and SQLite's reason."""


class OutboxUnavailableError(OutboxError):
    """It was closed while the disk was in trouble: what was asked for last was not done."""


def is_passing(error: BaseException) -> bool:
    """Is it trouble of the disk or with another process, which may be over at the next attempt?"""
    return _code(error) in _PASSING


def is_damage(error: BaseException) -> bool:
    """Is the file no database, or not any more?"""
    return _code(error) in _DAMAGE


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code; its extended codes keep that in the lowest byte."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def open_database(path: Path, synchronous: str) -> sqlite3.Connection:
    """Open the file, making or upgrading it where needed. Raises sqlite3.Error, OSError and OutboxError."""
    # Call data is nobody else's business: the folder and the file are the daemon's alone.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _finish_replacement(path)
    # Not left to SQLite, which has the same words for a path that is wrong and for a disk that is full.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
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
        _execute_all(connection, _SCHEMA)
        connection.execute("INSERT INTO meta VALUES ('schema', '1')")
    (text,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    version = int(text)
    while version in _UPGRADES:
        _execute_all(connection, _UPGRADES[version])
        version += 1
    if version != SCHEMA_VERSION:
        connection.execute("ROLLBACK")
        raise OutboxError(f"{path}: schema version {version}, this program writes {SCHEMA_VERSION}")
    if str(version) != text:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (str(version),))
    connection.execute("COMMIT")


def require_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a file is an outbox of this program's version. Raises OutboxError and sqlite3.Error."""
    row = None
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is not None:
        row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if row is None:
        raise OutboxError(f"{path}: not an outbox")
    if row[0] != str(SCHEMA_VERSION):
        raise OutboxError(f"{path}: schema version {row[0]}, this program writes {SCHEMA_VERSION}")


def _execute_all(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.execute(statement)


def replace_damaged(path: Path) -> Path:
    """Set a damaged file aside and put one in its place that holds what could be read. Nobody may have it open.

    Returns where the damaged one is now. Raises sqlite3.Error and OSError, where there is no room for another file for
    instance; it can be tried again then.
    """
    if path.exists():
        _rescue(path)
    return _swap(path)


def _rescue(path: Path) -> None:
    """Make the replacement: what can be read from the front and from the back, up to where the damage is."""
    for suffix in _SIDE_FILES:
        _beside(_rescued_path(path), suffix).unlink(missing_ok=True)
    with closing(open_database(_rescued_path(path), "FULL")) as rescued:
        rescued.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(path)) as damaged:
            damaged.execute("PRAGMA writable_schema = ON")  # so that damage of one table or index hides no other
            for key, value in _readable(damaged, "SELECT key, value FROM meta WHERE key <> 'schema'"):
                rescued.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
            for query in _READ_MESSAGES:
                for row in _readable(damaged, query):
                    with suppress(sqlite3.IntegrityError):  # a row that is not what was written
                        rescued.execute(_INSERT_ROW, row)
            for query in _READ_RECORDINGS:
                for row in _readable(damaged, query):
                    with suppress(sqlite3.IntegrityError, sqlite3.OperationalError):
                        marks = ", ".join("?" * len(row))
                        rescued.execute(f"INSERT OR IGNORE INTO recordings VALUES ({marks})", row)  # noqa: S608
        # Numbers go on above all that were ever given, also where the highest one cannot be read: there were never more
        # of them than milliseconds since 1970.
        rescued.execute("DELETE FROM sqlite_sequence")
        rescued.execute("INSERT INTO sqlite_sequence VALUES ('messages', ?)", (int(time.time() * 1000),))
        rescued.execute("COMMIT")


def _readable(damaged: sqlite3.Connection, query: str) -> Iterator[Any]:
    with suppress(sqlite3.DatabaseError):
        yield from damaged.execute(query)


def _swap(path: Path) -> Path:
    """Rename the database away, its side files after it, the rescued one into its place; returns the new name."""
    number = 1
    while any(_beside(path, f".damaged-{number}{suffix}").exists() for suffix in _SIDE_FILES):
        number += 1
    aside = _beside(path, f".damaged-{number}")
    for suffix in _SIDE_FILES:
        with suppress(FileNotFoundError):
            _beside(path, suffix).rename(_beside(aside, suffix))
    _rescued_path(path).rename(path)
    return aside


def _finish_replacement(path: Path) -> None:
    """Go on where a crash interrupted `_swap`: the rescued file is complete when the database is gone."""
    if not path.exists() and _rescued_path(path).exists():
        _swap(path)


def _rescued_path(path: Path) -> Path:
    return _beside(path, ".rescued")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
