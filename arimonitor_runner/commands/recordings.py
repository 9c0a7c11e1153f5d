"""`arimonitor recordings`: look at the recordings that are on their way, stored or lost, and have them tried again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import attrs
import click

from arimonitor_runner.commands.outbox_access import (
    EXIT_NOTHING,
    Place,
    as_text,
    finish,
    format_option,
    opened,
    order,
    place_options,
    print_table,
)

_SHOWN = ("id", "callnumber", "client", "step", "name", "server", "attempts", "next_try_at", "error")
_STEPS = ("found", "finished", "converted", "uploaded", "verified", "published", "given-up")


@click.group("recordings")
def recordings_command() -> None:
    """Look at the recordings that are on their way, stored or lost, and have them tried again.

    It works beside the running daemon or without one.

    Exit status: 0; 1 where no recording was concerned; 2 where the outbox cannot be used.
    """


@recordings_command.command("list")
@click.option("--step", type=click.Choice(_STEPS), help="Only those that got so far, and no further.")
@click.option("--all", "is_all", is_flag=True, help="Those that are stored, too.")
@format_option("A table, or one JSON object a line.")
@place_options
def list_command(place: Place, *, step: str | None, is_all: bool, output_format: str) -> None:
    """Say which recordings are not stored, how far they are, and why."""
    where = "WHERE (?1 IS NULL OR step = ?1) AND (?1 IS NOT NULL OR ?2 OR step <> 'published') ORDER BY id"
    with opened(place, for_change=False) as connection:
        found = _read(connection, where, (step, is_all))
    if output_format == "ndjson":
        for entry in found:
            click.echo(json.dumps(attrs.asdict(entry), ensure_ascii=False))
    else:
        rows = [{name: getattr(entry, name) for name in _SHOWN} for entry in found]
        print_table(rows, if_none="Every recording is stored.")


@recordings_command.command("show")
@click.argument("what")
@place_options
def show_command(place: Place, *, what: str) -> None:
    """Show all that is known of recordings: by id, callnumber, guid, path or the MP3's name."""
    where = "WHERE ?1 IN (CAST(id AS TEXT), CAST(callnumber AS TEXT), guid, path, name) ORDER BY id"
    with opened(place, for_change=False) as connection:
        found = _read(connection, where, (what,))
    for number, entry in enumerate(found):
        if number:
            click.echo()
        for name, value in attrs.asdict(entry).items():
            click.echo(f"{name:12} {as_text(name, value)}")
    if not found:
        click.echo("No such recording.")
        sys.exit(EXIT_NOTHING)


@recordings_command.command("retry")
@click.option("--id", "entry_id", type=int, help="Only this one.")
@click.option("--lost", "is_lost", is_flag=True, help="Those that were given up, too.")
@place_options
def retry_command(place: Place, *, entry_id: int | None, is_lost: bool) -> None:
    """Have recordings tried again now: all that wait for another attempt, or one, given up or not."""
    is_lost = is_lost or entry_id is not None
    with opened(place, for_change=True) as connection:
        query = """
            UPDATE recordings
            SET next_try_at = 0, is_told = 0, step = CASE step WHEN 'given-up' THEN 'found' ELSE step END
            WHERE step <> 'published' AND (?1 IS NULL OR id = ?1) AND (?2 OR step <> 'given-up')
        """
        count = connection.execute(query, (entry_id, is_lost)).rowcount
    finish(count, "recording", "to be tried again")
    order(place, "retry-recordings")


def _read(connection: Any, where: str, values: Sequence[object]) -> list[Any]:
    # Imported when it is needed: the ledger brings the daemon's own parts with it.
    found: list[Any] = import_module("arimonitor_runner.recordings.ledger").read_entries(connection, where, values)
    return found
