"""`arimonitor recover` and `arimonitor snapshot`: orders to the running daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from arimonitor_runner.control import CommandError, NoDaemon, send_command
from arimonitor_runner.settings import JournalSettings


def folder_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that says which daemon is meant."""
    return click.option(
        "--folder",
        type=click.Path(path_type=Path),
        envvar="ARIMONITOR_JOURNAL_FOLDER",
        default=JournalSettings().folder,
        show_default=True,
        help="The daemon's journal.folder.",
    )(command)


@click.command()
@folder_option
def recover_command(folder: Path) -> None:
    """Have the daemon compare its calls with what Asterisk shows now, as after a lost connection.

    Calls that Asterisk no longer knows are closed (FORCECLOSE), calls it shows and nobody followed are adopted.
    """
    _order(folder, "recover")
    click.echo("compared with Asterisk; the daemon's log says what was found")


@click.command()
@folder_option
def snapshot_command(folder: Path) -> None:
    """Have the daemon write a snapshot of its state now."""
    answer = _order(folder, "snapshot")
    click.echo(f"snapshot written at journal position {answer['position']}")


def _order(folder: Path, command: str) -> dict[str, Any]:
    try:
        return asyncio.run(send_command(folder, {"command": command}))
    except (NoDaemon, CommandError) as error:
        raise click.ClickException(str(error)) from error
