"""The packaged story: which log is played, and whether what came out of it is what truly happened.

What must come out was not computed by the monitor: it is taken from the captures' truth files when the story is
composed (tools/make_story.py), which Asterisk's own call records established.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from arimonitor_core.inputs import Input
from arimonitor_core.records import decode_record

FOLDER = Path(str(files(__package__)))
"""Holds the story and the directory files of the PBX that it was recorded on."""


class ExpectedCall(msgspec.Struct, frozen=True):
    """One call that the web system must hear of."""

    origin: str
    dialed: str
    statuses: tuple[str, ...]
    """channelstatus of its messages, in order."""
    destiny: str
    """Who talked last, or what was dialed where nobody answered."""
    dtmf: str | None
    """All digits pressed; None where no message says."""


class Expected(msgspec.Struct, frozen=True):
    """What must come out of the story."""

    calls: tuple[ExpectedCall, ...]
    silent: int
    """Calls that nothing must be said of: scanners', and one that began and ended while the connection was down."""
    pushes: int


def load_story() -> tuple[list[Input], Expected]:
    """The log in order, and what must come out of it.

    Raises FileNotFoundError where the package was built without its story.
    """
    with gzip.open(FOLDER / "story.ndjson.gz") as lines:
        records = [decode_record(line) for line in lines]
    return records, msgspec.json.decode((FOLDER / "story.expected.json").read_bytes(), type=Expected)


def compare(bodies: Iterable[bytes], expected: Expected) -> list[str]:
    """What is wrong with the messages published, one line each; empty: they tell exactly what happened."""
    calls: dict[str, list[dict[str, Any]]] = {}
    kinds: Counter[str] = Counter()
    for body in bodies:
        message = msgspec.json.decode(body)
        kind, data = message["operation"]["type"], message["data"]
        kinds[kind] += 1
        if kind == "received-call":
            calls.setdefault(data["guid"], []).append(data)
    told = Counter(_as_told(messages) for messages in calls.values())
    wanted = Counter(expected.calls)
    bad = [f"missing: {_describe(call)}" for call in (wanted - told).elements()]
    bad += [f"not expected: {_describe(call)}" for call in (told - wanted).elements()]
    if kinds["push"] != expected.pushes:
        bad.append(f"{kinds['push']} push messages, expected {expected.pushes}")
    return bad


def _as_told(messages: list[dict[str, Any]]) -> ExpectedCall:
    first, last = messages[0], messages[-1]
    statuses = tuple(data["channelstatus"] for data in messages)
    return ExpectedCall(first["origin"], first["destiny"], statuses, last["destiny"], last.get("dtmf"))


def _describe(call: ExpectedCall) -> str:
    keys = "" if call.dtmf is None else f", keys {call.dtmf!r}"
    return f"{call.origin} > {call.dialed}: {', '.join(call.statuses)}; at the end {call.destiny}{keys}"
