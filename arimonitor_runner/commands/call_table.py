"""`arimonitor replay --format table`: the calls of a log, readable, from nothing but the published messages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from arimonitor_runner.commands.tables import make_console


class TableSink:
    """Gathers the messages and prints tables at the end: calls, endpoints, pushes; empty ones are left out."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or make_console()
        self._calls: dict[str, dict[str, Any]] = {}
        self._opened: dict[str, int] = {}
        self._endpoints: dict[str, dict[str, Any]] = {}
        self._changes: dict[str, int] = {}
        self._pushes: list[tuple[int, dict[str, Any]]] = []

    def take(self, body: bytes) -> None:
        """Gather one message."""
        message = msgspec.json.decode(body)
        kind, timestamp, data = message["operation"]["type"], message["operation"]["timestamp"], message["data"]
        if kind == "received-call":
            self._opened.setdefault(data["guid"], timestamp)
            self._calls.setdefault(data["guid"], {}).update(data)
        elif kind == "endpoint-status":
            self._endpoints[data["endpoint"]] = data
            self._changes[data["endpoint"]] = self._changes.get(data["endpoint"], 0) + 1
        elif kind == "push":
            self._pushes.append((timestamp, data))

    def finish(self) -> bool:
        """Print."""
        tables = [self._call_table(), self._push_table(), self._endpoint_table()]
        for table in tables:
            if table.row_count:
                self._console.print(table)
        if not any(table.row_count for table in tables):
            self._console.print("No call rang anything, and no endpoint changed.")
        return True

    def _call_table(self) -> Table:
        table = _table(
            "Calls", ("No.", "UTC", "origin", "destiny", "status"), ("ring s", "talk s"), ("dtmf", "recording")
        )
        for guid, data in self._calls.items():
            table.add_row(
                str(data["callnumber"]),
                _clock(self._opened[guid]),
                _party(data["origin"], data["origin_type"]),
                _destiny(data),
                data["channelstatus"],
                _optional(data, "ringduration"),
                _optional(data, "callduration"),
                data.get("dtmf", ""),
                data.get("urlfilename", "").rpartition("/")[2],
            )
        return table

    def _push_table(self) -> Table:
        table = _table("Pushes", ("UTC", "endpoint", "called by"), ("call",))
        for timestamp, data in self._pushes:
            table.add_row(_clock(timestamp), data["endpoint"], data["origin"], str(data["callnumber"]))
        return table

    def _endpoint_table(self) -> Table:
        table = _table("Endpoints", ("endpoint", "last status"), ("messages",), ("address", "cause"))
        for endpoint, data in sorted(self._endpoints.items()):
            table.add_row(endpoint, data["status"], str(self._changes[endpoint]), data["address"], data["cause"])
        return table


def _table(title: str, columns: Iterable[str], numbers: Iterable[str], more: Iterable[str] = ()) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    for name in more:
        table.add_column(name, overflow="fold")
    return table


def _clock(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _party(number: str, kind: str) -> str:
    return f"{number} ({kind})" if kind else number


def _destiny(data: dict[str, Any]) -> str:
    """Who was reached, by which group, and how the call went on."""
    text = _party(data["destiny"], data["destiny_type"])
    group = data.get("ringgroup", "")
    if group and group != data["destiny"]:
        text += f" of {group}"
    for transfer in data.get("transfer", ()):
        text += f"; {transfer['kind']} transfer by {transfer['by']} to {transfer['to']}"
    return text


def _optional(data: dict[str, Any], key: str) -> str:
    return str(data[key]) if key in data else ""
