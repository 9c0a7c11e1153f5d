"""`arimonitor outbox`: look at the messages that wait for RabbitMQ, have them tried again, give them up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import attrs
import click

from arimonitor_runner import outbox_repair
from arimonitor_runner.commands.outbox_access import (
    Place,
    finish,
    format_option,
    opened,
    order,
    place_options,
    print_table,
)


@click.group("outbox")
def outbox_command() -> None:
    """Look at the messages that wait for RabbitMQ, have them tried again, or give them up.

    It works beside the running daemon, or without one.

    Exit status: 0; 1 where no message was concerned; 2 where the outbox cannot be used.
    """


@outbox_command.command("list")
@click.option("--vhost", metavar="NAME", help="Only of this vhost; '' for messages without one.")
@click.option("--messages", "is_single", is_flag=True, help="Each message instead of counts.")
@format_option("A table, or one JSON object a line; of messages with their body.")
@place_options
def list_command(place: Place, vhost: str | None, is_single: bool, output_format: str) -> None:
    """Say what waits, by vhost and state."""
    with opened(place, for_change=False) as connection:
        found: Iterable[Any] = (
            outbox_repair.read_messages(connection, vhost) if is_single else outbox_repair.summarize(connection, vhost)
        )
        if output_format == "ndjson":
            for item in found:
                click.echo(json.dumps(attrs.asdict(item, value_serializer=_as_json), ensure_ascii=False))
        else:
            print_table([attrs.asdict(item, filter=_is_shown) for item in found], if_none="No message waits.")


@outbox_command.command("retry")
@click.option("--vhost", metavar="NAME", help="Only parked messages of this vhost.")
@click.option("--message-id", metavar="ID", help="Only this one.")
@click.option("--all-without-vhost", "is_all_without", is_flag=True, help="Those that belong to no client.")
@click.option(
    "--to-vhost", metavar="NAME", help="Where to send messages that have no vhost, with the rest of their call."
)
@place_options
def retry_command(
    place: Place, *, vhost: str | None, message_id: str | None, is_all_without: bool, to_vhost: str | None
) -> None:
    """Have parked messages tried again: all, or those that are named."""
    is_one_target = (message_id is not None) != is_all_without
    if (to_vhost and (not is_one_target or vhost is not None)) or (is_all_without and not to_vhost):
        raise click.UsageError("--to-vhost goes with one of --message-id and --all-without-vhost, and with no --vhost.")
    with opened(place, for_change=True) as connection:
        if to_vhost:
            count = outbox_repair.give_vhost(connection, to_vhost, message_id=message_id)
        else:
            count = outbox_repair.retry(connection, vhost=vhost, message_id=message_id)
    finish(count, "message", "to be tried again")
    if message_id is None and not to_vhost:  # of single ones it hears within broker.parked_retry_s
        order(place, "retry-parked", vhost=vhost)


@outbox_command.command("drop")
@click.option("--vhost", metavar="NAME", help="Every message of this vhost, parked or not; needs --yes.")
@click.option("--message-id", metavar="ID", help="Only this one.")
@click.option("--yes", "is_sure", is_flag=True, help="They are lost for good, and that is meant.")
@place_options
def drop_command(place: Place, vhost: str | None, message_id: str | None, is_sure: bool) -> None:
    """Delete messages for good. `list --messages --format ndjson` saves them before."""
    if (vhost is None) == (message_id is None):
        raise click.UsageError("name either --message-id or --vhost.")
    if vhost is not None and not is_sure:
        raise click.UsageError("dropping all messages of a vhost needs --yes.")
    with opened(place, for_change=True) as connection:
        count = outbox_repair.drop(connection, vhost=vhost, message_id=message_id)
    finish(count, "message", "dropped")


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
