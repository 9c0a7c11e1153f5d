"""Marks in the outbox's file: numbers that only ever rise, in the transaction of what they stand for."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

_RAISE: Final = """
INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value
WHERE CAST(excluded.value AS INTEGER) > CAST(value AS INTEGER)
"""


def callnumber_mark(server: str) -> str:
    """Name of the mark for the highest call number of a server."""
    return f"callnumber/{server}"


def journal_mark(server: str) -> str:
    """Name of the mark for the journal position up to which all effects are in the outbox."""
    return f"journal/{server}"


def read_mark(connection: sqlite3.Connection, name: str) -> int:
    """The highest value that a mark was ever raised to; 0 where it never was."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_key(name),)).fetchone()
    return int(row[0]) if row else 0


def raise_marks(connection: sqlite3.Connection, marks: Mapping[str, int]) -> None:
    """Raise marks to these values; one that is there already, or beyond, stays."""
    connection.executemany(_RAISE, [(_key(name), str(value)) for name, value in marks.items()])


def _key(name: str) -> str:
    return f"mark/{name}"
