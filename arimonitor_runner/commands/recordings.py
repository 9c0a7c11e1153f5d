"""`arimonitor recordings`: look at the recordings that are on their way, stored or lost, and have them tried again."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import attrs
import click

from arimonitor_runner.control import CommandError, NoDaemon, send_command
from arimonitor_runner.outbox_file import OutboxError
from arimonitor_runner.outbox_repair import opened

EXIT_NOTHING = 1
EXIT_UNUSABLE = 2
UNATTENDED_WIDTH = 200
"""Columns where no terminal says how wide it is: a file or a pipe."""

_SHOWN = ("id", "callnumber", "client", "step", "name", "server", "attempts", "next_try_at", "error")
_STEPS = ("found", "finished", "converted", "uploaded", "verified", "published", "given-up")


def _place_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which daemon is meant; the command gets its outbox's path and journal's folder."""

    @click.option(
        "--path", "given", type=click.Path(path_type=Path), help="The outbox's file; else the one configured."
    )
    @click.option(
        "--config", "file", type=click.Path(path_type=Path), help="TOML file; default /etc/arimonitor/arimonitor.toml."
    )
    @wraps(command)
    def with_place(given: Path | None, file: Path | None, **options: Any) -> None:
        if given is not None:
            command(given, None, **options)
            return
        # Imported when it is needed: with --path no settings are read.
        sources = import_module("arimonitor_runner.settings_sources")
        try:
            settings = sources.load_settings(file or sources.environment_file(), {}).settings
        except sources.SettingsError as error:
            _exit_unusable(*error.faults)
        command(settings.outbox.path, settings.journal.folder, **options)

    return with_place


@click.group("recordings")
def recordings_command() -> None:
    """Look at the recordings that are on their way, stored or lost, and have them tried again.

    It works beside the running daemon or without one.

    Exit status: 0; 1 where no recording was concerned; 2 where the outbox cannot be used.
    """


@recordings_command.command("list")
@click.option("--step", type=click.Choice(_STEPS), help="Only those that got so far, and no further.")
@click.option("--all", "is_all", is_flag=True, help="Those that are stored, too.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "ndjson"]),
    default="table",
    show_default=True,
    help="A table, or one JSON object a line.",
)
@_place_options
def list_command(path: Path, _folder: Path | None, *, step: str | None, is_all: bool, output_format: str) -> None:
    """Say which recordings are not stored, how far they are, and why."""
    where = "WHERE (?1 IS NULL OR step = ?1) AND (?1 IS NOT NULL OR ?2 OR step <> 'published') ORDER BY id"
    with _opened(path, for_change=False) as connection:
        found = _read(connection, where, (step, is_all))
    if output_format == "ndjson":
        for entry in found:
            click.echo(json.dumps(attrs.asdict(entry), ensure_ascii=False))
    else:
        _print_table(found)


@recordings_command.command("show")
@click.argument("what")
@_place_options
def show_command(path: Path, _folder: Path | None, *, what: str) -> None:
    """Show all that is known of recordings: by id, callnumber, guid, path or the MP3's name."""
    where = "WHERE ?1 IN (CAST(id AS TEXT), CAST(callnumber AS TEXT), guid, path, name) ORDER BY id"
    with _opened(path, for_change=False) as connection:
        found = _read(connection, where, (what,))
    for number, entry in enumerate(found):
        if number:
            click.echo()
        for name, value in attrs.asdict(entry).items():
            click.echo(f"{name:12} {_cell(name, value)}")
    if not found:
        click.echo("No such recording.")
        sys.exit(EXIT_NOTHING)


@recordings_command.command("retry")
@click.option("--id", "entry_id", type=int, help="Only this one.")
@click.option("--lost", "is_lost", is_flag=True, help="Those that were given up, too.")
@_place_options
def retry_command(path: Path, folder: Path | None, *, entry_id: int | None, is_lost: bool) -> None:
    """Have recordings tried again now: all that wait for another attempt, or one, given up or not."""
    is_lost = is_lost or entry_id is not None
    with _opened(path, for_change=True) as connection:
        query = """
            UPDATE recordings
            SET next_try_at = 0, is_told = 0, step = CASE step WHEN 'given-up' THEN 'found' ELSE step END
            WHERE step <> 'published' AND (?1 IS NULL OR id = ?1) AND (?2 OR step <> 'given-up')
        """
        count = connection.execute(query, (entry_id, is_lost)).rowcount
    click.echo(f"{count} {'recording' if count == 1 else 'recordings'} to be tried again")
    if not count:
        sys.exit(EXIT_NOTHING)
    if folder is not None:
        # Without a daemon, or without its desk, there is nobody to tell; within a minute it looks by itself.
        with suppress(NoDaemon, CommandError):
            asyncio.run(send_command(folder, {"command": "retry-recordings"}))


@contextmanager
def _opened(path: Path, *, for_change: bool) -> Iterator[Any]:
    try:
        with opened(path, for_change=for_change) as connection:
            yield connection
    except OutboxError as error:
        _exit_unusable(str(error))


def _read(connection: Any, where: str, values: Sequence[object]) -> list[Any]:
    # Imported when it is needed: the ledger brings the daemon's own parts with it.
    found: list[Any] = import_module("arimonitor_runner.recordings.ledger").read_entries(connection, where, values)
    return found


def _exit_unusable(*faults: str) -> NoReturn:
    for fault in faults:
        click.echo(f"error: {fault}", err=True)
    sys.exit(EXIT_UNUSABLE)


def _print_table(entries: list[Any]) -> None:
    if not entries:
        click.echo("Every recording is stored.")
        return
    rich_console, rich_table = import_module("rich.console"), import_module("rich.table")
    console = rich_console.Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = UNATTENDED_WIDTH
    table = rich_table.Table()
    for name in _SHOWN:
        number = isinstance(getattr(entries[0], name), int)
        table.add_column(name.replace("_", " "), justify="right" if number else "left", overflow="fold")
    for entry in entries:
        table.add_row(*(_cell(name, getattr(entry, name)) for name in _SHOWN))
    console.print(table)


def _cell(name: str, value: Any) -> str:
    """A value as a person reads it."""
    if name in {"next_try_at", "created", "updated"} or name.endswith("_ms"):
        at = value / 1000 if name.endswith("_ms") else value
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") if at else ""
    return "" if value is None else str(value)
