"""Captured calls, to play them to a daemon and to know what must come of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from attrs import evolve

from arimonitor_core.effects import PublishMessage
from arimonitor_core.inputs import AriEventReceived, ConnectionRestored, DeadlineReached, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.records import decode_record
from arimonitor_runner.directory_sources.text import load_directory

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
DIRECTORY = FIXTURES / "directory"


def capture(name: str, asterisk: int = 22) -> list[Input]:
    """The records of a lean capture, as if Asterisk had no endpoints at its start.

    What is told of those depends on when one looks; what is told of events does not.
    """
    path = FIXTURES / "captures" / f"asterisk-{asterisk}-lean" / f"{name}.ndjson.gz"
    first, *rest = [decode_record(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert isinstance(first, ConnectionRestored)
    return [evolve(first, endpoints=b"[]"), *rest]


def split(records: list[Input]) -> tuple[dict[str, list], list[dict]]:
    """What Asterisk showed at the start, and the events after it."""
    first, *rest = records
    assert isinstance(first, ConnectionRestored)
    answers = {name: json.loads(getattr(first, name)) for name in ("channels", "bridges", "endpoints")}
    return answers, [json.loads(item.raw) for item in rest if isinstance(item, AriEventReceived)]


def messages_of(
    records: list[Input], server: str, first_callnumber: int = 1, *, directory: Path = DIRECTORY
) -> list[PublishMessage]:
    """What a replay makes of the records, until nothing is due any more."""
    loaded = load_directory(directory, {}).directory
    monitor = Monitor(server=server, directory=loaded, first_callnumber=first_callnumber)
    effects = [effect for record in records for effect in monitor.handle(record)]
    while (due := monitor.next_deadline()) is not None:
        effects += monitor.handle(DeadlineReached(received_at=due))
    return [effect for effect in effects if isinstance(effect, PublishMessage)]
