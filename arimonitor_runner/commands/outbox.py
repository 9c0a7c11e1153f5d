"""`arimonitor outbox`: look at the messages that wait for RabbitMQ, have them tried again, give them up."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import attrs
import click

from arimonitor_runner import outbox_repair
from arimonitor_runner.outbox_file import OutboxError

EXIT_NOTHING = 1
EXIT_UNUSABLE = 2
UNATTENDED_WIDTH = 200
"""Columns where no terminal says how wide it is: a file or a pipe."""


def _path_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which file is meant; the command gets its path."""

    @click.option("--path", "given", type=click.Path(path_type=Path), help="The SQLite file; else the one configured.")
    @click.option(
        "--config", "file", type=click.Path(path_type=Path), help="TOML file; default /etc/arimonitor/arimonitor.toml."
    )
    @wraps(command)
    def with_path(given: Path | None, file: Path | None, **options: Any) -> None:
        command(given or _configured_path(file), **options)

    return with_path


@click.group("outbox")
def outbox_command() -> None:
    """Look at the messages that wait for RabbitMQ, have them tried again, or give them up.

    It works beside the running daemon, which takes up what was changed within broker.parked_retry_s.

    Exit status: 0; 1 where no message was concerned; 2 where the outbox cannot be used.
    """


@outbox_command.command("list")
@click.option("--vhost", metavar="NAME", help="Only of this vhost; '' for messages without one.")
@click.option("--messages", "is_single", is_flag=True, help="Each message instead of counts.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "ndjson"]),
    default="table",
    show_default=True,
    help="A table, or one JSON object a line; of messages with their body.",
)
@_path_option
def list_command(path: Path, vhost: str | None, is_single: bool, output_format: str) -> None:
    """Say what waits, by vhost and state."""
    with _opened(path, for_change=False) as connection:
        found: Iterable[Any] = (
            outbox_repair.read_messages(connection, vhost) if is_single else outbox_repair.summarize(connection, vhost)
        )
        if output_format == "ndjson":
            for item in found:
                click.echo(json.dumps(attrs.asdict(item, value_serializer=_as_json), ensure_ascii=False))
        else:
            _print_table([attrs.asdict(item, filter=_is_shown) for item in found])


@outbox_command.command("retry")
@click.option("--vhost", metavar="NAME", help="Only parked messages of this vhost.")
@click.option("--message-id", metavar="ID", help="Only this one.")
@click.option("--all-without-vhost", "is_all_without", is_flag=True, help="Those that belong to no client.")
@click.option(
    "--to-vhost", metavar="NAME", help="Where to send messages that have no vhost, with the rest of their call."
)
@_path_option
def retry_command(
    path: Path, *, vhost: str | None, message_id: str | None, is_all_without: bool, to_vhost: str | None
) -> None:
    """Have parked messages tried again: all, or those that are named."""
    is_one_target = (message_id is not None) != is_all_without
    if (to_vhost and (not is_one_target or vhost is not None)) or (is_all_without and not to_vhost):
        raise click.UsageError("--to-vhost goes with one of --message-id and --all-without-vhost, and with no --vhost.")
    with _opened(path, for_change=True) as connection:
        if to_vhost:
            count = outbox_repair.give_vhost(connection, to_vhost, message_id=message_id)
        else:
            count = outbox_repair.retry(connection, vhost=vhost, message_id=message_id)
    _finish(count, "to be tried again")


@outbox_command.command("drop")
@click.option("--vhost", metavar="NAME", help="Every message of this vhost, parked or not; needs --yes.")
@click.option("--message-id", metavar="ID", help="Only this one.")
@click.option("--yes", "is_sure", is_flag=True, help="They are lost for good, and that is meant.")
@_path_option
def drop_command(path: Path, vhost: str | None, message_id: str | None, is_sure: bool) -> None:
    """Delete messages for good. `list --messages --format ndjson` saves them before."""
    if (vhost is None) == (message_id is None):
        raise click.UsageError("name either --message-id or --vhost.")
    if vhost is not None and not is_sure:
        raise click.UsageError("dropping all messages of a vhost needs --yes.")
    with _opened(path, for_change=True) as connection:
        count = outbox_repair.drop(connection, vhost=vhost, message_id=message_id)
    _finish(count, "dropped")


def _configured_path(file: Path | None) -> Path:
    # Imported when it is needed: with --path no settings are read.
    sources = import_module("arimonitor_runner.settings_sources")
    try:
        path: Path = sources.load_settings(file or sources.environment_file(), {}).settings.outbox.path
    except sources.SettingsError as error:
        _exit_unusable(*error.faults)
    return path


@contextmanager
def _opened(path: Path, *, for_change: bool) -> Iterator[Any]:
    try:
        with outbox_repair.opened(path, for_change=for_change) as connection:
            yield connection
    except OutboxError as error:
        _exit_unusable(str(error))


def _exit_unusable(*faults: str) -> NoReturn:
    for fault in faults:
        click.echo(f"error: {fault}", err=True)
    sys.exit(EXIT_UNUSABLE)


def _finish(count: int, what: str) -> None:
    click.echo(f"{count} {'message' if count == 1 else 'messages'} {what}")
    if not count:
        sys.exit(EXIT_NOTHING)


def _is_shown(attribute: attrs.Attribute[Any], _value: Any) -> bool:
    return attribute.name not in {"body", "seq", "ordering_key", "type"}


def _as_json(_instance: Any, attribute: attrs.Attribute[Any] | None, value: Any) -> Any:
    """A body is shown as the JSON that it holds; what is none, as text."""
    if attribute is None or attribute.name != "body":
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value.decode(errors="replace")


def _print_table(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("No message waits.")
        return
    rich_console, rich_table = import_module("rich.console"), import_module("rich.table")
    console = rich_console.Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = UNATTENDED_WIDTH
    table = rich_table.Table()
    for name, value in rows[0].items():
        number = isinstance(value, int)
        table.add_column(name.replace("_", " "), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    console.print(table)


def _cell(name: str, value: Any) -> str:
    if name in {"oldest", "created", "timestamp"}:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return str(value)
