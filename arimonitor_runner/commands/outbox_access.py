"""What all commands on the outbox's file share: which file is meant, opening it, showing rows of it, how they end."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click
from attrs import frozen

from arimonitor_runner import outbox_repair
from arimonitor_runner.control import CommandError, NoDaemon, send_command
from arimonitor_runner.outbox_file import OutboxError

EXIT_NOTHING = 1
EXIT_UNUSABLE = 2

_INSTANTS = frozenset({"oldest", "created", "updated", "timestamp", "next_try_at"})
"""Values in Unix seconds; those whose names end in `_ms` are instants, too."""


@frozen
class Place:
    """Which daemon is meant."""

    outbox: Path
    journal_folder: Path | None
    """None where only the outbox's file was named."""


def place_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which daemon is meant; the command gets its `Place`."""

    @click.option(
        "--path", "given", type=click.Path(path_type=Path), help="The outbox's SQLite file; else the one configured."
    )
    @click.option(
        "--config", "file", type=click.Path(path_type=Path), help="TOML file; default /etc/arimonitor/arimonitor.toml."
    )
    @wraps(command)
    def with_place(given: Path | None, file: Path | None, **options: Any) -> None:
        command(_configured_place(file) if given is None else Place(given, None), **options)

    return with_place


def format_option(help_text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the option that chooses between a table and NDJSON; the command gets `output_format`."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(["table", "ndjson"]),
        default="table",
        show_default=True,
        help=help_text,
    )


@contextmanager
def opened(place: Place, *, for_change: bool) -> Iterator[sqlite3.Connection]:
    """Open the outbox as `outbox_repair.opened` does; one that cannot be used ends the command."""
    try:
        with outbox_repair.opened(place.outbox, for_change=for_change) as connection:
            yield connection
    except OutboxError as error:
        _exit_unusable(str(error))


def finish(count: int, noun: str, what: str) -> None:
    """Say what was done with how many; the command ends where there was none."""
    click.echo(f"{count} {noun if count == 1 else f'{noun}s'} {what}")
    if not count:
        sys.exit(EXIT_NOTHING)


def order(place: Place, command: str, **details: Any) -> None:
    """Have the daemon look at once at what was changed. Without one there is nobody to tell; it looks at its start."""
    if place.journal_folder is None:
        return
    # A daemon that does not know the order looks by itself, a little later.
    with suppress(NoDaemon, CommandError):
        asyncio.run(send_command(place.journal_folder, {"command": command, **details}))


def print_table(rows: Sequence[Mapping[str, Any]], *, if_none: str) -> None:
    """Show rows, all with the same names, or say that there are none."""
    if not rows:
        click.echo(if_none)
        return
    texts = [[as_text(name, value) for name, value in row.items()] for row in rows]
    # Imported when it is needed: rich costs more than all the rest.
    import_module("arimonitor_runner.commands.tables").print_rows(rows, texts)


def as_text(name: str, value: Any) -> str:
    """A value as a person reads it; an instant that was never is empty, and so is what is not known."""
    if name in _INSTANTS or name.endswith("_ms"):
        at = value / 1000 if name.endswith("_ms") else value
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") if at else ""
    return "" if value is None else str(value)


def _configured_place(file: Path | None) -> Place:
    # Imported when it is needed: with --path no settings are read.
    sources = import_module("arimonitor_runner.settings_sources")
    try:
        settings = sources.load_settings(file or sources.environment_file(), {}).settings
    except sources.SettingsError as error:
        _exit_unusable(*error.faults)
    return Place(settings.outbox.path, settings.journal.folder)


def _exit_unusable(*faults: str) -> NoReturn:
    for fault in faults:
        click.echo(f"error: {fault}", err=True)
    sys.exit(EXIT_UNUSABLE)
