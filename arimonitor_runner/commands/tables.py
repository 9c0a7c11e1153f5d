"""Tables on standard output, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

UNATTENDED_WIDTH = 200
"""Columns where no terminal says how wide it is: a file or a pipe."""


def make_console() -> Console:
    """Names and numbers that are shown are nobody's markup, and standard output need not be a terminal."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = UNATTENDED_WIDTH
    return console


def print_rows(rows: Sequence[Mapping[str, Any]], texts: Sequence[Sequence[str]]) -> None:
    """Print one row for each, whose texts stand under the names of its values.

    Args:
        rows: at least one; all with the same names.
        texts: the values as they are shown, row by row.
    """
    table = Table()
    for name, value in rows[0].items():
        is_number = isinstance(value, int)
        table.add_column(name.replace("_", " "), justify="right" if is_number else "left", overflow="fold")
    for row in texts:
        table.add_row(*row)
    make_console().print(table)
